"""IPAMHandle: the blocks that hold addresses of one owner, and how many. Internal. Key: the name is the handle id."""

from __future__ import annotations

import msgspec

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, ResourceKey
from tortie.resources.spec import Spec, written

IPAM_HANDLE = Kind(CALICO, "IPAMHandle")


class IPAMHandleSpec(Spec, frozen=True):
    """``block`` counts the owner's addresses by block CIDR."""

    block: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    deleted: bool = written(False)


def handle_key(handle_id: str) -> ResourceKey:
    """The key of a handle."""
    return ResourceKey(IPAM_HANDLE, handle_id)


INFO = KindInfo(
    kind=IPAM_HANDLE,
    plural="ipamhandles",
    spec=IPAMHandleSpec,
    bare=True,
    for_users=False,
    aliases=("handles",),
    columns=(NAME, Column("BLOCKS", lambda r: [f"{cidr}:{count}" for cidr, count in r.spec.block.items()])),
)
