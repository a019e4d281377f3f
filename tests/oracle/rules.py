"""A rule as a list of criteria: a packet matches when each of them holds.

A criterion answers with the fields that failed, none when it holds, so that what a packet missed by is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.oracle.cluster import Service, Thing
from tests.oracle.documents import Document, listed, within
from tests.oracle.packets import Packet, net, protocol
from tests.oracle.selectors import NAMESPACE, Matches, compiled

Action = Literal["Allow", "Deny", "Pass", "Log"]
Side = Literal["source", "destination"]
Fails = Callable[["Seen"], tuple[str, ...]]
"""The fields by which a packet missed; several when each of them alone would have been enough."""

HOLDS: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A packet, and what stands at its two addresses."""

    packet: Packet
    source: Sequence[Thing]
    destination: Sequence[Thing]
    services: dict[tuple[str, str], Service]

    def at(self, side: Side) -> Sequence[Thing]:
        return self.source if side == "source" else self.destination

    def address(self, side: Side) -> str:
        return self.packet.source if side == "source" else self.packet.destination

    def port(self, side: Side) -> int:
        return self.packet.source_port if side == "source" else self.packet.destination_port


@dataclass(frozen=True)
class Rule:
    """``fields`` names all that is set, implied ones too."""

    action: Action
    criteria: Sequence[Fails]
    fields: tuple[str, ...]
    written: Document

    def misses(self, seen: Seen, *, most: int = 2) -> list[tuple[str, ...]]:
        """What each failing criterion failed by; at most so many. Empty: the rule matches."""
        missed: list[tuple[str, ...]] = []
        for fails in self.criteria:
            if failed := fails(seen):
                missed.append(failed)
                if len(missed) == most:
                    break
        return missed


def calico_rule(document: Document, namespace: str) -> Rule:
    """A rule of a policy (of a namespace, or global: "") or of a profile."""
    criteria: list[Fails] = []
    fields: list[str] = []

    def add(name: str, holds: Callable[[Seen], bool]) -> None:
        fields.append(name)
        criteria.append(lambda seen: HOLDS if holds(seen) else (name,))

    version = document.get("ipVersion")
    if version is not None:
        add("ipVersion", lambda seen: seen.packet.version == version)
    wanted: int | None = None
    if document.get("protocol") is not None:
        wanted = number = protocol(document["protocol"])
        add("protocol", lambda seen: seen.packet.protocol == number)
    if document.get("notProtocol") is not None:
        unwanted = protocol(document["notProtocol"])
        add("notProtocol", lambda seen: seen.packet.protocol != unwanted)
    icmp = within(document, "icmp")
    if icmp.get("type") is not None:
        add("icmp.type", lambda seen: seen.packet.icmp_type == icmp["type"])
    if icmp.get("code") is not None:
        add("icmp.code", lambda seen: seen.packet.icmp_code == icmp["code"])
    if document.get("notICMP"):
        no_icmp = document["notICMP"]
        name = "notICMP.code" if no_icmp.get("code") is not None else "notICMP.type"
        add(
            name,
            lambda seen: (
                seen.packet.icmp_type != no_icmp["type"]
                or no_icmp.get("code") not in (None, seen.packet.icmp_code)
            ),
        )
    sides: tuple[Side, ...] = ("source", "destination")
    for side in sides:
        _entity(within(document, side), side, namespace, wanted, add, criteria, fields)
    return Rule(document["action"], criteria, tuple(fields), document)


def _entity(
    entity: Document,
    side: Side,
    namespace: str,
    wanted: int | None,
    add: Callable[[str, Callable[[Seen], bool]], None],
    criteria: list[Fails],
    fields: list[str],
) -> None:
    """One side of a rule. All of it must hold of the same address; the selectors, of the same thing at it."""
    nets = [net(each) for each in listed(entity, "nets")]
    if nets:
        add(f"{side}.nets", lambda seen: any(each.holds(seen.address(side)) for each in nets))
    no_nets = [net(each) for each in listed(entity, "notNets")]
    if no_nets:
        add(f"{side}.notNets", lambda seen: not any(each.holds(seen.address(side)) for each in no_nets))
    parts = _selectors(entity, side, namespace)
    if parts:
        fields += [name for name, _ in parts]
        criteria.append(lambda seen: _blame(parts, seen.at(side)))
    if entity.get("notSelector"):
        unwanted = compiled(entity["notSelector"])
        add(
            f"{side}.notSelector",
            lambda seen: not any(unwanted(thing.labels) for thing in seen.at(side)),
        )
    if entity.get("services"):
        service = (entity["services"].get("namespace") or namespace, entity["services"]["name"])
        add(f"{side}.services", lambda seen: _of_service(seen, side, service))
    for field, positive in (("ports", True), ("notPorts", False)):
        ports: list[int | str] = listed(entity, field)
        if ports:
            kinds = sorted({_port_kind(port) for port in ports})
            own = [f"{side}.{field}:{kind}" for kind in kinds]
            fields += own
            criteria.append(_ports_criterion(side, ports, positive, wanted, parts, tuple(own)))


def _selectors(entity: Document, side: Side, namespace: str) -> list[tuple[str, Matches]]:
    """What one thing at the address must match all of. In a policy of a namespace any selector, also a negated one, limits
    the rule to things of that namespace, unless it names namespaces itself."""
    parts: list[tuple[str, Matches]] = []
    accounts = within(entity, "serviceAccounts")
    if entity.get("selector"):
        parts.append((f"{side}.selector", compiled(entity["selector"])))
    if accounts.get("names"):
        names = set(accounts["names"])
        label = "projectcalico.org/serviceaccount"
        parts.append((f"{side}.serviceAccounts.names", lambda labels: labels.get(label) in names))
    if accounts.get("selector"):
        parts.append((f"{side}.serviceAccounts.selector", compiled(accounts["selector"], "pcsa.")))
    if entity.get("namespaceSelector"):
        parts.append((f"{side}.namespaceSelector", compiled(entity["namespaceSelector"], "pcns.")))
    elif namespace and (parts or entity.get("notSelector")):
        parts.append((f"{side}.namespace", lambda labels: labels.get(NAMESPACE) == namespace))
    return parts


def _blame(parts: Sequence[tuple[str, Matches]], things: Sequence[Thing]) -> tuple[str, ...]:
    """Nothing when one of these matches all; else the parts that alone stood in the way."""
    missed: list[str] = []
    for thing in things:
        failed = [name for name, matches in parts if not matches(thing.labels)]
        if not failed:
            return HOLDS
        if len(failed) == 1:
            missed += failed
    return tuple(missed) or tuple(name for name, _ in parts)


def _of_service(seen: Seen, side: Side, service: tuple[str, str]) -> bool:
    """Where it goes to, address, protocol and port are the service's; where it comes from, the address is."""
    known = seen.services.get(service)
    if known is None:
        return False
    if side == "source":
        return seen.packet.source in known.addresses
    return (seen.packet.destination, seen.packet.protocol, seen.packet.destination_port) in known.ports


def _port_kind(port: int | str) -> str:
    if isinstance(port, int) or port.isdigit():
        return "number"
    return "range" if port.replace(":", "").isdigit() else "name"


def _ports_criterion(
    side: Side,
    ports: Sequence[int | str],
    positive: bool,
    wanted: int | None,
    parts: Sequence[tuple[str, Matches]],
    own: tuple[str, ...],
) -> Fails:
    """Any of the ports. A named one is the number that the endpoint at the address, if the selectors match it, has under
    that name for the rule's protocol."""
    ranges = [port_range(port) for port in ports if _port_kind(port) != "name"]
    names = {port for port in ports if _port_kind(port) == "name"}

    def fails(seen: Seen) -> tuple[str, ...]:
        port = seen.port(side)
        found = any(first <= port <= last for first, last in ranges) or any(
            name in names and number == port and of == wanted == seen.packet.protocol
            for thing in seen.at(side)
            if all(matches(thing.labels) for _, matches in parts)
            for name, of, number in thing.ports
        )
        return HOLDS if found == positive else own

    return fails


def port_range(port: int | str) -> tuple[int, int]:
    """``80``, ``80:90``."""
    first, _, last = str(port).partition(":")
    return int(first), int(last or first)
