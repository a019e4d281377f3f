"""A rule as its author wrote it, compiled to a row: selectors, named ports and services become references to IP sets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from tortie.calc.policy_selectors import entity_selector
from tortie.calc.set_definitions import PORT_PROTOCOLS, NamedPortSet, SelectorSet, ServiceSet, SetDefinition
from tortie.desired.policies import (
    ANYWHERE,
    Action,
    EntityMatch,
    ICMPMatch,
    PortRange,
    RuleRow,
    Written,
)
from tortie.errors import InvalidResource
from tortie.net.addresses import Prefix
from tortie.resources.rules import ICMP, EntityRule, Rule
from tortie.selector import ALL, parse

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
ICMP_PROTOCOLS = (1, 58)
_ACTIONS: Mapping[str, Action] = {"Allow": "Allow", "Deny": "Deny", "Log": "Log", "Pass": "Pass"}
_VERSIONS: Mapping[int | None, Literal[4, 6] | None] = {None: None, 4: 4, 6: 6}
_PORT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_NOT_ACTED_ON = "is set, and Tortie cannot enforce it"


@dataclasses.dataclass(frozen=True)
class RuleCompiler:
    """Compiles the rules of one policy (``namespace`` is its own, empty for a global one) or profile, and gathers in ``sets``
    the IP sets that they refer to. Methods raise `InvalidResource`, which names the field."""

    namespace: str = ""
    sets: dict[str, SetDefinition] = dataclasses.field(default_factory=dict[str, SetDefinition])

    def rule(self, rule: Rule, at: str, *, index: int = 0, line: int = 0) -> RuleRow:
        """``at`` is where the rule stands in its document: ``spec.ingress[0]``."""
        action = _ACTIONS.get(rule.action)
        if action is None:
            raise InvalidResource(f"{at}.action", rule.action, f"is not one of {', '.join(_ACTIONS)}")
        if rule.ip_version not in _VERSIONS:
            raise InvalidResource(f"{at}.ipVersion", rule.ip_version, "is not 4 or 6")
        if rule.http is not None:
            raise InvalidResource(f"{at}.http", None, _NOT_ACTED_ON)
        protocol = _protocol(rule.protocol, f"{at}.protocol")
        return RuleRow(
            action=action,
            ip_version=_VERSIONS[rule.ip_version],
            protocol=protocol,
            not_protocol=_protocol(rule.not_protocol, f"{at}.notProtocol"),
            icmp=_icmp(rule.icmp, protocol, f"{at}.icmp"),
            not_icmp=_icmp(rule.not_icmp, protocol, f"{at}.notICMP"),
            source=self._entity(rule.source, protocol, f"{at}.source", with_ports=False),
            destination=self._entity(rule.destination, protocol, f"{at}.destination", with_ports=True),
            index=index,
            written=tuple(_written(rule)),
            line=line,
        )

    def _entity(self, entity: EntityRule, protocol: int | None, at: str, *, with_ports: bool) -> EntityMatch:
        if entity == _ANY:
            return ANYWHERE
        if (entity.ports or entity.not_ports) and protocol not in PORT_PROTOCOLS:
            which = "ports" if entity.ports else "notPorts"
            raise InvalidResource(f"{at}.{which}", None, "needs the rule's protocol to be TCP, UDP or SCTP")
        selector = entity_selector(entity, self.namespace, at)
        sets: list[str] = []
        services: list[str] = []
        if selector is not None:
            sets.append(self._set(SelectorSet(selector)))
        if entity.services is not None:
            if not entity.services.name:
                raise InvalidResource(f"{at}.services.name", None, "is required")
            if with_ports and (entity.ports or entity.not_ports):
                raise InvalidResource(
                    f"{at}.ports", None, "cannot stand beside services, which say the ports"
                )
            namespace = entity.services.namespace or self.namespace
            if not namespace:
                raise InvalidResource(f"{at}.services.namespace", None, "is required in a global policy")
            service = self._set(ServiceSet(namespace, entity.services.name, with_ports))
            (services if with_ports else sets).append(service)
        not_sets = (
            [self._set(SelectorSet(parse(entity.not_selector, f"{at}.notSelector")))]
            if entity.not_selector
            else []
        )

        def named(name: str) -> str:
            return self._set(NamedPortSet(selector or ALL, protocol or 0, name))

        ports, named_ports = _ports(entity.ports, f"{at}.ports", named)
        not_ports, not_named_ports = _ports(entity.not_ports, f"{at}.notPorts", named)
        return EntityMatch(
            nets=_nets(entity.nets, f"{at}.nets") if entity.nets else None,
            not_nets=_nets(entity.not_nets, f"{at}.notNets"),
            sets=tuple(sets),
            not_sets=tuple(not_sets),
            ports=ports,
            named_ports=(*named_ports, *services),
            not_ports=not_ports,
            not_named_ports=not_named_ports,
        )

    def _set(self, definition: SetDefinition) -> str:
        name = definition.id
        self.sets[name] = definition
        return name


_ANY = EntityRule()


def _protocol(written: int | str | None, at: str) -> int | None:
    if written is None or written == "":
        return None
    text = str(written)
    number = PROTOCOLS.get(text.lower()) or (int(text) if text.isascii() and text.isdigit() else 0)
    if not 1 <= number <= 255:
        raise InvalidResource(at, written, "is neither a protocol's name nor between 1 and 255")
    return number


def _icmp(written: ICMP | None, protocol: int | None, at: str) -> ICMPMatch | None:
    if written is None or (written.type is None and written.code is None):
        return None
    if written.type is None:
        raise InvalidResource(f"{at}.type", None, "is required beside a code")
    if protocol not in ICMP_PROTOCOLS:
        raise InvalidResource(at, None, "needs the rule's protocol to be ICMP or ICMPv6")
    for name, value in (("type", written.type), ("code", written.code)):
        if value is not None and not 0 <= value <= 255:
            raise InvalidResource(f"{at}.{name}", value, "is not between 0 and 255")
    return ICMPMatch(written.type, written.code)


def _nets(texts: Sequence[str], at: str) -> tuple[Prefix, ...]:
    nets: dict[Prefix, None] = {}
    for index, text in enumerate(texts):
        try:
            nets[Prefix.parse(text, strict=False)] = None
        except ValueError:
            raise InvalidResource(f"{at}[{index}]", text, "is neither a CIDR nor an address") from None
    return tuple(nets)


def _ports(
    written: Sequence[int | str], at: str, named: Callable[[str], str]
) -> tuple[tuple[PortRange, ...], tuple[str, ...]]:
    ranges: dict[PortRange, None] = {}
    names: dict[str, None] = {}
    for index, port in enumerate(written):
        first, colon, last = str(port).partition(":")
        if first.isascii() and first.isdigit() and (not colon or (last.isascii() and last.isdigit())):
            found = PortRange(int(first), int(last or first))
            if not 0 <= found.first <= found.last <= 65535:
                raise InvalidResource(f"{at}[{index}]", port, "is not a range within 0 and 65535")
            ranges[found] = None
        elif _PORT_NAME.fullmatch(str(port)):
            names[named(str(port))] = None
        else:
            raise InvalidResource(f"{at}[{index}]", port, "is neither a port, nor a range, nor a port's name")
    return tuple(ranges), tuple(names)


def _written(rule: Rule) -> Iterator[Written]:
    if rule.ip_version is not None:
        yield Written("ipVersion", str(rule.ip_version))
    for name, protocol in (("protocol", rule.protocol), ("notProtocol", rule.not_protocol)):
        if protocol is not None:
            yield Written(name, str(protocol))
    for name, icmp in (("icmp", rule.icmp), ("notICMP", rule.not_icmp)):
        if icmp is not None:
            code = "" if icmp.code is None else f" code {icmp.code}"
            yield Written(name, f"type {icmp.type}{code}")
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        if entity != _ANY:
            yield from _written_entity(side, entity)


def _written_entity(side: str, entity: EntityRule) -> Iterator[Written]:
    lists: tuple[tuple[str, Sequence[Any]], ...] = (
        ("nets", entity.nets),
        ("notNets", entity.not_nets),
        ("ports", entity.ports),
        ("notPorts", entity.not_ports),
    )
    texts = (
        ("selector", entity.selector),
        ("notSelector", entity.not_selector),
        ("namespaceSelector", entity.namespace_selector),
    )
    for name, text in texts:
        if text:
            yield Written(f"{side}.{name}", text)
    if accounts := entity.service_accounts:
        if accounts.names:
            yield Written(f"{side}.serviceAccounts.names", ", ".join(accounts.names))
        if accounts.selector:
            yield Written(f"{side}.serviceAccounts.selector", accounts.selector)
    if service := entity.services:
        where = f"{service.namespace}/{service.name}" if service.namespace else service.name
        yield Written(f"{side}.services", where)
    for name, values in lists:
        if values:
            yield Written(f"{side}.{name}", ", ".join(map(str, values)))
