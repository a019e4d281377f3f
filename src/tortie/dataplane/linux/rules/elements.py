"""Elements of sets: what a workload's row, or the members of an IP set, put into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

from tortie.dataplane.linux.rules import intervals, names
from tortie.dataplane.linux.rules.intervals import Interval
from tortie.desired.endpoints import EndpointRow
from tortie.desired.ipsets import Member
from tortie.desired.policies import Direction
from tortie.host.nft import (
    ADDRESS_FIELD,
    FAMILIES,
    ElementKey,
    Family,
    NftKey,
    NftValue,
    Set,
    TableFamily,
    interface_key,
)
from tortie.net.addresses import BITS, Prefix

FAMILY_OF: dict[int, Family] = {4: "ip", 6: "ip6"}
VERSION_OF: dict[Family, Literal[4, 6]] = {"ip": 4, "ip6": 6}

_TABLES: dict[int, tuple[TableFamily, ...]] = {4: ("ip", "arp"), 6: ("ip6",)}
"""The tables that know a workload's sources of an IP version."""
_ALL_TABLES: tuple[TableFamily, ...] = ("ip", "ip6", "arp")

SetKind = Literal["", "nets", "ports"]
"""How an IP set stands in the kernel: a hash of single addresses, intervals, or a hash of address, protocol and port."""


def ipset_spec(family: Family, kind: SetKind) -> Set:
    address = ADDRESS_FIELD[family]
    if kind == "ports":
        return Set((address, "inet_proto", "inet_service"))
    return Set((address,), intervals=kind == "nets")


def families_of(row: EndpointRow, *, allow_sources: bool) -> list[Family]:
    """Those in which it may send and receive at all."""
    if not row.up:
        return []
    versions = {address.version for address in row.addresses}
    if allow_sources:
        versions.update(prefix.version for prefix in row.allowed_sources)
    return [family for family in FAMILIES if VERSION_OF[family] in versions]


def of_endpoint(
    row: EndpointRow, groups: Mapping[tuple[Family, Direction], str], *, allow_sources: bool
) -> dict[NftKey, NftValue]:
    """What makes a workload known: the maps that lead to its groups' chains (by their names), its addresses, and the prefixes it
    may send from."""
    found: dict[NftKey, NftValue] = {}
    key = interface_key(row.interface)
    for table in _ALL_TABLES:
        found[ElementKey(table, names.INTERFACES, key)] = None
    for (family, direction), name in groups.items():
        of_interface = names.FROM_MAP if direction == "egress" else names.TO_MAP
        found[ElementKey(family, of_interface, key)] = group_key(name)
    for address in row.addresses:
        for table in _TABLES[address.version]:
            found[ElementKey(table, names.ADDRESSES, key + address.packed)] = None
    if allow_sources:
        for version in (4, 6):
            for low, high in merged(p for p in row.allowed_sources if p.version == version):
                start, end = packed(version, low), packed(version, high)
                for table in _TABLES[version]:
                    found[ElementKey(table, names.PREFIXES, key + start, key + end)] = None
    return found


@lru_cache(4096)
def group_key(name: str) -> bytes:
    """A group as the maps hold it: the last part of its chain's name."""
    return name.rpartition("/")[2].encode().ljust(names.GROUP_BYTES, b"\0")


def merged(prefixes: Iterable[Prefix]) -> list[Interval]:
    """The same addresses as few intervals, in order; overlapping and adjacent ones become one."""
    return intervals.merged((prefix.value, prefix.last) for prefix in prefixes)


def of_interval(family: Family, name: str, interval: Interval) -> ElementKey:
    """The element of a set of intervals."""
    version = VERSION_OF[family]
    return ElementKey(family, name, packed(version, interval[0]), packed(version, interval[1]))


def of_member(family: Family, name: str, member: Member) -> ElementKey:
    """The element of a hash: a single address, or with protocol and port."""
    key = packed(member.prefix.version, member.prefix.value)
    if member.port or member.protocol:
        key += bytes([member.protocol, 0, 0, 0]) + member.port.to_bytes(2, "big") + b"\0\0"
    return ElementKey(family, name, key)


def packed(version: int, value: int) -> bytes:
    """In network order."""
    return value.to_bytes(BITS[version] // 8, "big")
