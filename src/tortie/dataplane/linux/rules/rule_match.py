"""What a rule of a policy asks of a packet, as expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Final, Literal

from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.elements import VERSION_OF, merged, packed
from tortie.dataplane.linux.rules.intervals import merged as merged_ranges
from tortie.desired.policies import EntityMatch, ICMPMatch, PortRange, RuleRow
from tortie.host.nft import (
    ADDRESS_FIELD,
    Compare,
    ElementKey,
    Expression,
    Family,
    FieldType,
    InRange,
    Lookup,
    Mask,
    Meta,
    NftKey,
    NftValue,
    Payload,
    Set,
    SetKey,
)
from tortie.net.addresses import BITS, Prefix

SetName = Callable[[Family, str], str]
"""The kernel's name of an IP set, by its id, as it is now."""

_Test = tuple[Expression, ...]
"""One of several that must hold, in any order."""

_FEW: Final = 3
"""So many ranges are asked one by one; a set of their own would cost the kernel more than they do."""
_ICMP: Final[dict[Family, int]] = {"ip": 1, "ip6": 58}
_PORT_OFFSET = {"source": 0, "destination": 2}
_PROTOCOL_REGISTER: Final[dict[Family, int]] = {"ip": 9, "ip6": 2}
_PORT_REGISTER: Final[dict[Family, int]] = {"ip": 10, "ip6": 13}
"""Behind the address, which takes one or four registers of four bytes."""


@dataclass(frozen=True)
class Matches:
    """A packet matches when one of ``alternatives`` holds; none: it never does. ``sets``: what these refer to beside IP sets."""

    alternatives: tuple[tuple[Expression, ...], ...] = ()
    sets: dict[NftKey, NftValue] = field(default_factory=dict[NftKey, NftValue])


def of_rule(family: Family, rule: RuleRow, set_name: SetName) -> Matches:
    """The rule's criteria in one family. Sets are asked last: they cost the kernel most, and most packets fail before."""
    if rule.ip_version is not None and rule.ip_version != VERSION_OF[family]:
        return Matches()
    sets: dict[NftKey, NftValue] = {}
    protocol = tuple(_protocol(family, rule))
    tests: list[_Test] = []
    sides: list[list[_Test]] = []
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        end: Literal["source", "destination"] = "source" if side == "source" else "destination"
        addresses = _addresses(family, end, entity, set_name, sets)
        if addresses is None:
            return Matches()
        tests += addresses
        tests += _forbidden_ports(family, end, entity, set_name, sets)
        sides.append(_ports(family, end, entity, set_name, sets))
    alternatives = (sorted([*ports, *tests], key=_asks_a_set) for ports in product(*sides))
    return Matches(tuple((*protocol, *chain.from_iterable(each)) for each in alternatives), sets)


def _asks_a_set(test: _Test) -> bool:
    return bool(test) and isinstance(test[-1], Lookup)


def refers_to(rule: RuleRow) -> frozenset[str]:
    """The ids of the IP sets that it names."""
    return frozenset(
        ipset
        for entity in (rule.source, rule.destination)
        for group in (entity.sets, entity.not_sets, entity.named_ports, entity.not_named_ports)
        for ipset in group
    )


# Protocols


def _protocol(family: Family, rule: RuleRow) -> Sequence[Expression]:
    protocol = rule.protocol
    if protocol is None and (rule.icmp or rule.not_icmp):
        protocol = _ICMP[family]
    found: list[Expression] = []
    if protocol is not None:
        found += m.protocol(protocol)
    if rule.not_protocol is not None:
        found += [Meta("l4proto"), Compare("neq", bytes([rule.not_protocol]))]
    if rule.icmp is not None:
        found += _icmp(rule.icmp, "eq")
    if rule.not_icmp is not None:
        found += _icmp(rule.not_icmp, "neq")
    return found


def _icmp(match: ICMPMatch, operator: Literal["eq", "neq"]) -> Sequence[Expression]:
    data = bytes([match.type]) if match.code is None else bytes([match.type, match.code])
    return Payload("transport", 0, len(data)), Compare(operator, data)


# Addresses


def _addresses(
    family: Family, end: str, entity: EntityMatch, set_name: SetName, sets: dict[NftKey, NftValue]
) -> list[_Test] | None:
    """None when no address can match."""
    load = m.source(family) if end == "source" else m.destination(family)
    found: list[_Test] = []
    if entity.nets is not None:
        nets = _intervals(family, entity.nets)
        if not nets:
            return None
        found.append(_within(family, load, nets, sets, inverted=False))
    not_nets = _intervals(family, entity.not_nets)
    apart = [not_nets] if len(not_nets) > _FEW else [[one] for one in not_nets]
    found += (_within(family, load, some, sets, inverted=True) for some in apart)
    found += ((load, Lookup(set_name(family, ipset))) for ipset in entity.sets)
    found += ((load, Lookup(set_name(family, ipset), inverted=True)) for ipset in entity.not_sets)
    return found


def _intervals(family: Family, nets: Sequence[Prefix]) -> list[tuple[int, int]]:
    return merged(net for net in nets if net.version == VERSION_OF[family])


def _within(
    family: Family,
    load: Payload,
    nets: list[tuple[int, int]],
    sets: dict[NftKey, NftValue],
    *,
    inverted: bool,
) -> _Test:
    version = VERSION_OF[family]
    bounds = [(packed(version, low), packed(version, high)) for low, high in nets]
    if len(nets) > 1:
        return load, Lookup(_own_set(family, "nets", ADDRESS_FIELD[family], bounds, sets), inverted)
    (low, high), size = nets[0], BITS[version] // 8
    operator: Literal["eq", "neq"] = "neq" if inverted else "eq"
    if low == high:
        return load, Compare(operator, bounds[0][0])
    length = (low ^ high).bit_length()
    if low + (1 << length) - 1 == high:
        mask = ((1 << BITS[version]) - 1) >> length << length
        return load, Mask(mask.to_bytes(size, "big"), bytes(size)), Compare(operator, bounds[0][0])
    return load, InRange(*bounds[0], inverted=inverted)


def _own_set(
    family: Family,
    what: Literal["nets", "ports"],
    kind: FieldType,
    bounds: list[tuple[bytes, bytes]],
    sets: dict[NftKey, NftValue],
) -> str:
    """A set of intervals named by its content: rules that say the same share it."""
    name = f"{what}-{names.digest(bounds)}"
    sets[SetKey(family, name)] = Set((kind,), intervals=True)
    sets |= {ElementKey(family, name, low, high): None for low, high in bounds}
    return name


# Ports


def _ports(
    family: Family, end: str, entity: EntityMatch, set_name: SetName, sets: dict[NftKey, NftValue]
) -> list[_Test]:
    """Alternatives; one that asks nothing where the entity has no ports."""
    found: list[_Test] = []
    ranges = _joined(entity.ports)
    if len(ranges) > _FEW:
        found.append(_port_in(family, end, ranges, sets, inverted=False))
    else:
        found += (_port_in(family, end, [one], sets, inverted=False) for one in ranges)
    found += [_named(family, end, set_name(family, ipset), inverted=False) for ipset in entity.named_ports]
    return found or [()]


def _forbidden_ports(
    family: Family, end: str, entity: EntityMatch, set_name: SetName, sets: dict[NftKey, NftValue]
) -> list[_Test]:
    found: list[_Test] = []
    ranges = _joined(entity.not_ports)
    if len(ranges) > _FEW:
        found.append(_port_in(family, end, ranges, sets, inverted=True))
    else:
        found += (_port_in(family, end, [one], sets, inverted=True) for one in ranges)
    for ipset in entity.not_named_ports:
        found.append(_named(family, end, set_name(family, ipset), inverted=True))
    return found


def _joined(ports: Sequence[PortRange]) -> list[tuple[int, int]]:
    return merged_ranges((first, last) for first, last in ports)


def _port_in(
    family: Family, end: str, ranges: list[tuple[int, int]], sets: dict[NftKey, NftValue], *, inverted: bool
) -> _Test:
    load = Payload("transport", _PORT_OFFSET[end], 2)
    bounds = [(first.to_bytes(2, "big"), last.to_bytes(2, "big")) for first, last in ranges]
    if len(bounds) > 1:
        return load, Lookup(_own_set(family, "ports", "inet_service", bounds, sets), inverted)
    low, high = bounds[0]
    if low == high:
        return load, Compare("neq" if inverted else "eq", low)
    return load, InRange(low, high, inverted=inverted)


def _named(family: Family, end: str, name: str, *, inverted: bool) -> _Test:
    """Address, protocol and port together are (not) in a set of ports."""
    return (
        m.source(family) if end == "source" else m.destination(family),
        Meta("l4proto", _PROTOCOL_REGISTER[family]),
        Payload("transport", _PORT_OFFSET[end], 2, _PORT_REGISTER[family]),
        Lookup(name, inverted),
    )
