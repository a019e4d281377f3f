"""How full pools and blocks are, who borrows, and who has one address: what ``tortie ipam show`` tells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tortie.ipam.blocks import Holder, holder, holders, owner, reserved_ordinals
from tortie.ipam.leaks import Snapshot, describe
from tortie.ipam.records import Block
from tortie.net.addresses import Address, Prefix

_REMEMBERED = 1 << 16
"""Reserved addresses are counted one by one only below this many; above, reservations are taken not to overlap."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One row: a pool, a block of it, or a block without a pool."""

    grouping: str
    cidr: Prefix
    name: str
    used: int
    reserved: int
    owner: str = ""

    @property
    def total(self) -> int:
        return self.cidr.size

    @property
    def free(self) -> int:
        """What could still be given: neither used nor reserved."""
        return max(0, self.total - self.used - self.reserved)


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """An address that a node has from another node's block."""

    address: Address
    node: str
    block: Prefix
    owner: str
    type: str
    holder: str


def usage(snapshot: Snapshot, reservations: Iterable[Prefix], *, blocks: bool = False) -> list[Usage]:
    """Each pool, with ``blocks`` each followed by its blocks, and at the end the blocks that lie in no pool."""
    reserved = list(reservations)
    rows: list[Usage] = []
    orphans = sorted(cidr for cidr in snapshot.blocks if not snapshot.in_pool(cidr))
    for name, pool in sorted(snapshot.pools.items(), key=lambda item: item[1]):
        inside = sorted(cidr for cidr in snapshot.blocks if pool.contains(cidr))
        of_blocks = [_block_row(name, cidr, snapshot.blocks[cidr], reserved) for cidr in inside]
        used = sum(row.used for row in of_blocks)
        taken = _reserved_free(pool, reserved, snapshot.blocks, inside)
        rows.append(Usage(grouping="IP Pool", cidr=pool, name=name, used=used, reserved=taken))
        rows += of_blocks if blocks else []
    rows += [_block_row("", cidr, snapshot.blocks[cidr], reserved) for cidr in orphans]
    return rows


def _block_row(pool: str, cidr: Prefix, block: Block | None, reservations: Iterable[Prefix]) -> Usage:
    held = holders(block.spec) if block is not None else {}
    reserved = [ordinal for ordinal in reserved_ordinals(cidr, reservations) if ordinal not in held]
    whose = (owner(block.spec) or block.spec.affinity or "") if block is not None else ""
    return Usage(grouping="Block", cidr=cidr, name=pool, used=len(held), reserved=len(reserved), owner=whose)


def _reserved_free(
    pool: Prefix, reservations: Iterable[Prefix], blocks: Mapping[Prefix, Block | None], inside: list[Prefix]
) -> int:
    """The reserved addresses of the pool that nobody has."""
    here = [pool if each.contains(pool) else each for each in reservations if each.overlaps(pool)]
    if sum(each.size for each in here) <= _REMEMBERED:
        values = {value for each in here for value in range(each.value, each.last + 1)}
    else:
        apart = [each for each in set(here) if not any(o != each and o.contains(each) for o in here)]
        return sum(each.size for each in apart)
    for cidr in inside:
        block = blocks[cidr]
        if block is not None:
            values -= {cidr.value + ordinal for ordinal in holders(block.spec)}
    return len(values)


def borrowed(snapshot: Snapshot) -> list[Borrowed]:
    """Every address whose holder's node is not the block's."""
    rows: list[Borrowed] = []
    for cidr, address, who in snapshot.allocations():
        node = who.attributes.get("node", "")
        block = snapshot.blocks[cidr]
        whose = owner(block.spec) if block is not None else None
        if node and whose is not None and node != whose:
            kind = who.attributes.get("type") or ("pod" if "pod" in who.attributes else "workload")
            rows.append(
                Borrowed(address=address, node=node, block=cidr, owner=whose, type=kind, holder=describe(who))
            )
    return sorted(rows, key=lambda row: row.address)


def who_has(snapshot: Snapshot, address: Address) -> tuple[Prefix | None, Holder | None]:
    """The block of an address and its holder; None where there is none."""
    for cidr, block in snapshot.blocks.items():
        if cidr.holds(address):
            return cidr, holder(block.spec, address.value - cidr.value) if block is not None else None
    return None, None
