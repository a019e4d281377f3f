"""The resources that IPAM reads and writes, by what they are: blocks, affinities, handles. One place for their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tortie.datastore.store import Store
from tortie.errors import NotFound
from tortie.net.addresses import Prefix
from tortie.resources.allocation_block import ALLOCATION_BLOCK, AllocationBlockSpec, block_key
from tortie.resources.block_affinity import BLOCK_AFFINITY, BlockAffinitySpec, affinity_key, block_cidr
from tortie.resources.ipam_handle import IPAM_HANDLE, IPAMHandleSpec, handle_key
from tortie.resources.resource import Kind, Put, Resource, ResourceKey, Update

Block = Resource[AllocationBlockSpec]
Affinity = Resource[BlockAffinitySpec]
Handle = Resource[IPAMHandleSpec]


async def every(store: Store, kind: Kind, *, within: str = "") -> AsyncIterator[Update]:
    """Each stored resource of the kind, `Put` or `Invalid`."""
    async for page in store.list(kind, within=within):
        for update in page.updates:
            yield update


async def resources(store: Store, kind: Kind, *, within: str = "") -> list[Resource[Any]]:
    """Those that can be taken; what is invalid counts as absent."""
    return [update.resource async for update in every(store, kind, within=within) if isinstance(update, Put)]


async def find(store: Store, key: ResourceKey) -> Resource[Any] | None:
    """None when there is nothing."""
    try:
        return await store.get(key)
    except NotFound:
        return None


async def find_block(store: Store, cidr: Prefix) -> Block | None:
    """None when nobody has claimed it."""
    return await find(store, block_key(str(cidr)))


async def find_affinity(store: Store, node: str, cidr: Prefix) -> Affinity | None:
    """None when the node has none to this block."""
    return await find(store, affinity_key(node, str(cidr)))


async def find_handle(store: Store, handle: str) -> Handle | None:
    """None when the handle holds nothing."""
    return await find(store, handle_key(handle))


async def block_prefixes(store: Store) -> dict[Prefix, Block | None]:
    """Every block there is, also those that cannot be read (None): nobody may claim them."""
    found: dict[Prefix, Block | None] = {}
    async for update in every(store, ALLOCATION_BLOCK):
        cidr = prefix_of_key(update.key)
        if cidr is not None:
            found[cidr] = update.resource if isinstance(update, Put) else None
    return found


async def affinities(store: Store, node: str = "") -> list[Affinity]:
    """Those of a node, or of all."""
    return await resources(store, BLOCK_AFFINITY, within=node)


async def handles(store: Store) -> list[Handle]:
    return await resources(store, IPAM_HANDLE)


def prefix_of_key(key: ResourceKey) -> Prefix | None:
    """The block that a block's or an affinity's key names; None for a key that nobody of ours wrote."""
    try:
        return Prefix.parse(block_cidr(key.name))
    except ValueError:
        return None
