"""Whether a rule matches a packet: the one place that says so. Everything else asks here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tortie.desired.policies import EntityMatch, ICMPMatch, PortRange, RuleRow
from tortie.net.addresses import Address
from tortie.verdict.packet import ICMP, ICMPV6, Packet
from tortie.verdict.state import State

Side = Literal["source", "destination"]

ADDRESS_CRITERIA = frozenset({"nets", "notNets", "selector", "notSelector"})
"""What is asked of an address alone, by the last part of the criterion's name. ``selector`` is every set that must hold the
address, whatever the author wrote to name it: also services, service accounts and namespaces."""


def matches(rule: RuleRow, packet: Packet, state: State) -> bool:
    return next(misses(rule, packet, state), None) is None


def misses(rule: RuleRow, packet: Packet, state: State) -> Iterator[str]:
    """The criteria of the rule that the packet does not meet, as a policy names its fields (``destination.ports``)."""
    if rule.ip_version is not None and rule.ip_version != packet.source.version:
        yield "ipVersion"
    if rule.protocol is not None and rule.protocol != packet.protocol:
        yield "protocol"
    if rule.not_protocol is not None and rule.not_protocol == packet.protocol:
        yield "notProtocol"
    if rule.icmp is not None and not _icmp_holds(rule.icmp, packet):
        yield "icmp"
    if rule.not_icmp is not None and _icmp_holds(rule.not_icmp, packet):
        yield "notICMP"
    yield from _entity_misses("source", rule.source, packet.source, packet.source_port, packet, state)
    yield from _entity_misses(
        "destination", rule.destination, packet.destination, packet.destination_port, packet, state
    )


def _icmp_holds(match: ICMPMatch, packet: Packet) -> bool:
    if packet.protocol not in (ICMP, ICMPV6) or match.type != packet.icmp_type:
        return False
    return match.code is None or match.code == packet.icmp_code


def _entity_misses(
    side: Side, entity: EntityMatch, address: Address, port: int | None, packet: Packet, state: State
) -> Iterator[str]:
    if entity.nets is not None and not any(net.holds(address) for net in entity.nets):
        yield f"{side}.nets"
    if entity.not_nets and any(net.holds(address) for net in entity.not_nets):
        yield f"{side}.notNets"
    if entity.sets and not all(state.set_of(name).holds(address) for name in entity.sets):
        yield f"{side}.selector"
    if entity.not_sets and any(state.set_of(name).holds(address) for name in entity.not_sets):
        yield f"{side}.notSelector"
    if (entity.ports or entity.named_ports) and not _port_holds(
        entity.ports, entity.named_ports, address, packet.protocol, port, state
    ):
        yield f"{side}.ports"
    if (entity.not_ports or entity.not_named_ports) and _port_holds(
        entity.not_ports, entity.not_named_ports, address, packet.protocol, port, state
    ):
        yield f"{side}.notPorts"


def _port_holds(
    ranges: tuple[PortRange, ...],
    named: tuple[str, ...],
    address: Address,
    protocol: int,
    port: int | None,
    state: State,
) -> bool:
    if port is None:
        return False
    if any(first <= port <= last for first, last in ranges):
        return True
    return any(state.set_of(name).holds_port(address, protocol, port) for name in named)
