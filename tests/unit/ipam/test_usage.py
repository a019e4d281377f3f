"""Counting what is used, reserved and free: pure."""

from __future__ import annotations

from datetime import UTC, datetime

from tortie.ipam import blocks
from tortie.ipam.blocks import Edit
from tortie.ipam.leaks import Snapshot
from tortie.ipam.records import Block
from tortie.ipam.usage import borrowed, usage, who_has
from tortie.net.addresses import Address, Prefix
from tortie.resources.allocation_block import block_key
from tortie.resources.resource import Resource

NOW = datetime(2026, 8, 22, tzinfo=UTC)


def block(cidr: str, node: str, count: int, holder: str = "") -> Block:
    spec = blocks.new_block(Prefix.parse(cidr), affinity=f"host:{node}", now=NOW, sequence=1)
    edit = Edit(spec, now=NOW)
    edit.assign(count, "h", {"node": holder or node, "pod": "web", "namespace": "default"})
    return Resource(key=block_key(cidr), spec=edit.finish() or spec)


def snapshot(*stored: Block, pools: dict[str, str]) -> Snapshot:
    return Snapshot(
        blocks={Prefix.parse(each.spec.cidr): each for each in stored},
        handles={},
        affinities=[],
        pools={name: Prefix.parse(cidr) for name, cidr in pools.items()},
        nodes=frozenset("ab"),
        endpoints={},
    )


def test_pools_their_blocks_and_what_is_left() -> None:
    found = snapshot(
        block("10.0.0.0/30", "a", 2),
        block("10.0.0.4/30", "b", 1),
        block("192.0.2.0/30", "b", 1),
        pools={"p": "10.0.0.0/24", "q": "fd00::/64"},
    )
    reserved = [
        Prefix.parse(text) for text in ("10.0.0.1", "10.0.0.2/31", "10.0.0.200", "10.0.0.2", "fd00::/65")
    ]
    rows = usage(found, reserved, blocks=True)
    assert [(row.grouping, str(row.cidr), row.total, row.used, row.reserved, row.free) for row in rows] == [
        ("IP Pool", "10.0.0.0/24", 256, 3, 3, 250),
        ("Block", "10.0.0.0/30", 4, 2, 2, 0),
        ("Block", "10.0.0.4/30", 4, 1, 0, 3),
        ("IP Pool", "fd00::/64", 2**64, 0, 2**63, 2**63),
        ("Block", "192.0.2.0/30", 4, 1, 0, 3),
    ]


def test_who_borrows_and_who_has_one() -> None:
    found = snapshot(block("10.0.0.0/30", "a", 1, holder="b"), pools={"p": "10.0.0.0/24"})
    (row,) = borrowed(found)
    assert (str(row.address), row.node, row.owner, row.holder) == (
        "10.0.0.0",
        "b",
        "a",
        "pod default/web on node b",
    )
    cidr, who = who_has(found, Address.parse("10.0.0.0"))
    assert (str(cidr), who.handle if who else None) == ("10.0.0.0/30", "h")
    assert who_has(found, Address.parse("10.0.0.9")) == (None, None)
