"""AllocationBlock: the addresses of one block and who holds each, in Calico's stored JSON (calico: ``model/block.go``).

Internal: users see blocks through ``tortie ipam``. Key: the name is the block with ``-`` for ``/``: ``10.65.0.0-26``.
"""

from __future__ import annotations

import msgspec

from tortie.columns import Column
from tortie.resources.block_affinity import block_name
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, ResourceKey
from tortie.resources.spec import Spec, written

ALLOCATION_BLOCK = Kind(CALICO, "IPAMBlock")


class BlockAttribute(Spec, frozen=True):
    """Who holds the addresses that point here. With ``released_at`` nobody does: they rest before they are used again."""

    handle_id: str | None = msgspec.field(default_factory=lambda: None, name="handle_id")
    secondary: dict[str, str] | None = written(None)
    alternate_owner_attrs: dict[str, str] | None = None
    released_at: str | None = None


class AllocationBlockSpec(Spec, frozen=True):
    """``allocations`` has an entry an address: None for free, else an index into ``attributes``. ``unallocated`` are the
    free ones' ordinals, the one to be used next first."""

    cidr: str = written("")
    affinity: str | None = written(None)
    affinity_claim_time: str | None = msgspec.field(default=None, name="affinity_claim_time")
    allocations: tuple[int | None, ...] = written(())
    unallocated: tuple[int, ...] = written(())
    attributes: tuple[BlockAttribute, ...] = written(())
    sequence_number: int = written(0)
    sequence_number_for_allocation: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    deleted: bool = written(False)
    host_affinity: str | None = None


def block_key(cidr: str) -> ResourceKey:
    """The key of a block."""
    return ResourceKey(ALLOCATION_BLOCK, block_name(cidr))


INFO = KindInfo(
    kind=ALLOCATION_BLOCK,
    plural="ipamblocks",
    spec=AllocationBlockSpec,
    bare=True,
    for_users=False,
    aliases=("blocks", "allocationblocks"),
    columns=(
        NAME,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("AFFINITY", lambda r: r.spec.affinity),
        Column("FREE", lambda r: len(r.spec.unallocated)),
    ),
)
