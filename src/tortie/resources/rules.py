"""The rules that profiles and policies are made of: what a packet must match, and which of that Calico takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tortie.resources.findings import Findings
from tortie.resources.spec import Spec


class ICMP(Spec, frozen=True):
    """An ICMP type, and a code or any."""

    type: int | None = None
    code: int | None = None


class ServiceAccountMatch(Spec, frozen=True):
    """Service accounts by name and by their labels."""

    names: tuple[str, ...] = ()
    selector: str = ""


class ServiceMatch(Spec, frozen=True):
    """The endpoints of a Kubernetes service."""

    name: str = ""
    namespace: str = ""


class EntityRule(Spec, frozen=True):
    """One side of a connection: all of what is set must hold. Ports are numbers, ranges ``a:b`` or names."""

    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()
    selector: str = ""
    not_selector: str = ""
    namespace_selector: str = ""
    services: ServiceMatch | None = None
    ports: tuple[int | str, ...] = ()
    not_ports: tuple[int | str, ...] = ()
    service_accounts: ServiceAccountMatch | None = None


ANYONE = EntityRule()


class Rule(Spec, frozen=True):
    """What a packet must match, and what then happens to it."""

    action: str = ""
    ip_version: int | None = None
    protocol: int | str | None = None
    not_protocol: int | str | None = None
    icmp: ICMP | None = None
    not_icmp: ICMP | None = msgspec.field(default=None, name="notICMP")
    source: EntityRule = ANYONE
    destination: EntityRule = ANYONE
    http: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


ACTIONS = ("Allow", "Deny", "Log", "Pass")
PROTOCOLS = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
WITH_PORTS = frozenset({6, 17, 132})
ICMP_VERSION = {1: 4, 58: 6}
MOST_NETS = 256
MOST_PORTS = 50

_BY_LOWER = {name.lower(): name for name in PROTOCOLS}
_RANGE = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?")
_PORT_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


def protocol_number(protocol: int | str) -> int:
    """The number of a protocol: a name in any case, a number or its digits. Raises `ValueError`."""
    if isinstance(protocol, str):
        known = _BY_LOWER.get(protocol.lower())
        if known is not None:
            return PROTOCOLS[known]
        if not (protocol.isascii() and protocol.isdigit()):
            raise ValueError(f"is not one of {', '.join(PROTOCOLS)} or a number")
        protocol = int(protocol)
    if not 1 <= protocol <= 255:
        raise ValueError("is not between 1 and 255")
    return protocol


def port_range(port: int | str) -> tuple[int, int] | None:
    """The first and the last port of a number or a range ``a:b``; None for a name. Raises `ValueError`."""
    if isinstance(port, str):
        match = _RANGE.fullmatch(port)
        if match is None:
            if port.replace(":", "").isdigit() or not _PORT_NAME.fullmatch(port):
                raise ValueError("is not a port, a range such as 8000:8080, or the name of a port")
            return None
        first, last = int(match[1]), int(match[2] or match[1])
    else:
        first = last = port
    for each in (first, last):
        if not 1 <= each <= 65535:
            raise ValueError("is not between 1 and 65535" if first == last else "leaves 1 to 65535")
    if first > last:
        raise ValueError("begins after its end")
    return first, last


def check_rules(
    found: Findings,
    ingress: Sequence[Rule],
    egress: Sequence[Rule],
    *,
    actions: Sequence[str] = ACTIONS,
    namespaced: bool = False,
) -> None:
    """Everything wrong with the rules of a policy or profile. Where it is in no ``namespaced`` place, services name theirs."""
    for direction, rules in (("ingress", ingress), ("egress", egress)):
        for index, rule in enumerate(rules):
            at = f"spec.{direction}[{index}]"
            _check_rule(found, at, rule, actions)
            wrong, other = ("destination", "source") if direction == "ingress" else ("source", "destination")
            if getattr(rule, wrong).services is not None:
                found.add(f"{at}.{wrong}.services", None, f"is not possible in an {direction} rule's {wrong}")
            services: ServiceMatch | None = getattr(rule, other).services
            if services is not None and not namespaced and not services.namespace:
                found.add(f"{at}.{other}.services.namespace", None, "is required outside a namespace")


def _check_rule(found: Findings, at: str, rule: Rule, actions: Sequence[str]) -> None:
    if found.required(f"{at}.action", rule.action):
        found.one_of(f"{at}.action", rule.action, actions)
    if rule.ip_version not in (None, 4, 6):
        found.add(f"{at}.ipVersion", rule.ip_version, "is not 4 or 6")
    protocol = _protocol(found, f"{at}.protocol", rule.protocol)
    not_protocol = _protocol(found, f"{at}.notProtocol", rule.not_protocol)
    for field, icmp in (("icmp", rule.icmp), ("notICMP", rule.not_icmp)):
        if icmp is None:
            continue
        if protocol not in ICMP_VERSION and (rule.protocol is None or protocol is not None):
            found.add(f"{at}.{field}", None, "needs the protocol ICMP or ICMPv6")
        found.between(f"{at}.{field}.type", icmp.type, 0, 254)
        found.between(f"{at}.{field}.code", icmp.code, 0, 255)
        if icmp.code is not None and icmp.type is None:
            found.add(f"{at}.{field}.code", None, "needs a type")
    for field, number, value in (
        ("protocol", protocol, rule.protocol),
        ("notProtocol", not_protocol, rule.not_protocol),
    ):
        version = ICMP_VERSION.get(number or 0)
        if version and rule.ip_version in (4, 6) and rule.ip_version != version:
            found.add(f"{at}.{field}", value, f"is of IPv{version}, the rule of IPv{rule.ip_version}")
    if rule.http is not None:
        found.add(f"{at}.http", None, "cannot be enforced: Tortie has no policy of the application layer")
    versions: dict[int, str] = {}
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        _check_entity(found, f"{at}.{side}", entity)
        _check_nets(found, f"{at}.{side}", entity, rule.ip_version, versions)
        for field, ports in (("ports", entity.ports), ("notPorts", entity.not_ports)):
            _check_ports(found, f"{at}.{side}.{field}", ports)
            if ports and protocol not in WITH_PORTS and (rule.protocol is None or protocol is not None):
                found.add(f"{at}.{side}.{field}", None, "needs the protocol TCP, UDP or SCTP")
            if ports and side == "destination" and entity.services is not None:
                found.add(
                    f"{at}.{side}.{field}", None, "stands beside services, whose endpoints have their ports"
                )


def _protocol(found: Findings, field: str, value: int | str | None) -> int | None:
    if value is None:
        return None
    try:
        return protocol_number(value)
    except ValueError as error:
        found.add(field, value, str(error))
        return None


def _check_ports(found: Findings, field: str, ports: Sequence[int | str]) -> None:
    found.at_most(field, ports, MOST_PORTS)
    for index, port in enumerate(ports):
        try:
            port_range(port)
        except ValueError as error:
            found.add(f"{field}[{index}]", port, str(error))


def _check_nets(
    found: Findings, at: str, entity: EntityRule, ip_version: int | None, versions: dict[int, str]
) -> None:
    """One rule is of one IP version, as far as its networks say; ``versions`` holds where each was seen first."""
    for field, nets in (("nets", entity.nets), ("notNets", entity.not_nets)):
        found.at_most(f"{at}.{field}", nets, MOST_NETS)
        for index, net in enumerate(nets):
            place = f"{at}.{field}[{index}]"
            prefix = found.prefix(place, net)
            if prefix is None:
                continue
            if ip_version in (4, 6) and prefix.version != ip_version:
                found.add(place, net, f"is not of the rule's IP version, {ip_version}")
            other = versions.get(10 - prefix.version)
            if prefix.version not in versions and other is not None:
                found.add(place, net, f"is not of the IP version of {other}: write one rule for each version")
            versions.setdefault(prefix.version, place)


def _check_entity(found: Findings, at: str, entity: EntityRule) -> None:
    found.selector(f"{at}.selector", entity.selector, without_global=True)
    found.selector(f"{at}.notSelector", entity.not_selector, without_global=True)
    found.selector(f"{at}.namespaceSelector", entity.namespace_selector)
    if found.mixes_global(entity.namespace_selector):
        found.add(
            f"{at}.namespaceSelector",
            entity.namespace_selector,
            "combines global() with something else, which it cannot be",
        )
    accounts = entity.service_accounts
    if accounts is not None:
        found.selector(f"{at}.serviceAccounts.selector", accounts.selector, without_global=True)
        for index, name in enumerate(accounts.names):
            found.subdomain(f"{at}.serviceAccounts.names[{index}]", name)
    services = entity.services
    if services is None:
        return
    found.required(f"{at}.services.name", services.name)
    found.subdomain(f"{at}.services.name", services.name)
    found.dns_label(f"{at}.services.namespace", services.namespace)
    beside = [
        name
        for name, value in (
            ("selector", entity.selector),
            ("notSelector", entity.not_selector),
            ("namespaceSelector", entity.namespace_selector),
            ("serviceAccounts", accounts),
            ("nets", entity.nets),
            ("notNets", entity.not_nets),
        )
        if value
    ]
    if beside:
        found.add(f"{at}.services", None, f"stands beside {' and '.join(beside)}, which it cannot be")


def canonical_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules with protocols and ports as Calico writes them."""
    return tuple(_canonical(rule) for rule in rules)


def _canonical(rule: Rule) -> Rule:
    return msgspec.structs.replace(
        rule,
        protocol=_canonical_protocol(rule.protocol),
        not_protocol=_canonical_protocol(rule.not_protocol),
        source=_canonical_entity(rule.source),
        destination=_canonical_entity(rule.destination),
    )


def _canonical_entity(entity: EntityRule) -> EntityRule:
    if entity == ANYONE:
        return ANYONE  # the very default, which is not written
    if not entity.ports and not entity.not_ports:
        return entity
    return msgspec.structs.replace(
        entity,
        ports=tuple(_canonical_port(port) for port in entity.ports),
        not_ports=tuple(_canonical_port(port) for port in entity.not_ports),
    )


def _canonical_protocol(protocol: int | str | None) -> int | str | None:
    if not isinstance(protocol, str):
        return protocol
    known = _BY_LOWER.get(protocol.lower())
    if known is not None:
        return known
    return int(protocol) if protocol.isascii() and protocol.isdigit() else protocol


def _canonical_port(port: int | str) -> int | str:
    try:
        found = port_range(port)
    except ValueError:
        return port
    if found is None:
        return port
    first, last = found
    return first if first == last else f"{first}:{last}"
