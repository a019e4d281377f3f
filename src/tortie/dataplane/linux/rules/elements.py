"""Elements of sets: what a workload's row, or the members of an IP set, put into them."""

from __future__ import annotations

from collections.abc import Iterable

from tortie.dataplane.linux.rules import names
from tortie.desired.endpoints import EndpointRow
from tortie.host.nft import DROP, FAMILIES, RETURN, ElementKey, Family, NftKey, NftValue, interface_key
from tortie.net.addresses import BITS, Prefix

FAMILY_OF: dict[int, Family] = {4: "ip", 6: "ip6"}
_VERSION_OF = {"ip": 4, "ip6": 6}


def of_endpoint(row: EndpointRow, *, allow_sources: bool) -> dict[NftKey, NftValue]:
    """What makes a workload known: both families' maps, its addresses, and the prefixes it may send from."""
    found: dict[NftKey, NftValue] = {}
    key = interface_key(row.interface)
    verdict = RETURN if row.up else DROP
    for family in FAMILIES:
        found[ElementKey(family, names.INTERFACES, key)] = None
        found[ElementKey(family, names.FROM_MAP, key)] = verdict
        found[ElementKey(family, names.TO_MAP, key)] = verdict
    for address in row.addresses:
        found[ElementKey(FAMILY_OF[address.version], names.ADDRESSES, key + address.packed)] = None
    if allow_sources:
        for version in (4, 6):
            for low, high in merged(p for p in row.allowed_sources if p.version == version):
                start, end = _packed(version, low), _packed(version, high)
                found[ElementKey(FAMILY_OF[version], names.PREFIXES, key + start, key + end)] = None
    return found


def of_ipset(family: Family, name: str, members: Iterable[Prefix]) -> dict[NftKey, NftValue]:
    """The members of one IP version as intervals that do not touch."""
    version = _VERSION_OF[family]
    intervals = merged(member for member in members if member.version == version)
    return {
        ElementKey(family, name, _packed(version, low), _packed(version, high)): None
        for low, high in intervals
    }


def merged(prefixes: Iterable[Prefix]) -> list[tuple[int, int]]:
    """The same addresses as few intervals (first, last), in order; overlapping and adjacent ones become one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted((prefix.value, prefix.last) for prefix in prefixes):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _packed(version: int, value: int) -> bytes:
    return value.to_bytes(BITS[version] // 8, "big")
