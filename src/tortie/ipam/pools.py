"""Deleting a pool: at once when nobody uses it, else when the last of its addresses is given back.

A pool that was deleted in use is marked (`pool_state`); it gives nothing any more, its pods keep their network.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal

from tortie.datastore.store import Store
from tortie.errors import Conflict, NotFound
from tortie.ipam.affinity import Given, clear_idle, release_affinity
from tortie.ipam.blocks import is_empty
from tortie.ipam.handles import ATTEMPTS, retry_delays
from tortie.ipam.pool_state import as_terminating, is_terminating
from tortie.ipam.records import affinities, block_prefixes, prefix_of_key, resources
from tortie.net.addresses import Prefix
from tortie.observe.clock import SYSTEM, Clock
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.resource import Resource, ResourceKey

Deletion = Literal["deleted", "terminating"]


async def in_use(store: Store, cidr: Prefix) -> bool:
    """Whether anybody has an address of it."""
    return any(
        block is None or not is_empty(block.spec)
        for prefix, block in (await block_prefixes(store)).items()
        if cidr.overlaps(prefix)
    )


async def delete_pool(store: Store, name: str, *, clock: Clock = SYSTEM) -> Deletion:
    """Delete it, or mark it when it is in use. Raises `NotFound`."""
    pool = await _mark(store, ResourceKey(IP_POOL, name), clock)
    return await _finish(store, pool, clock)


async def complete_deletions(store: Store, *, clock: Clock = SYSTEM) -> list[str]:
    """Delete the marked pools that nobody uses any more; returns their names."""
    deleted: list[str] = []
    for pool in await resources(store, IP_POOL):
        if is_terminating(pool):
            try:
                if await _finish(store, pool, clock) == "deleted":
                    deleted.append(pool.key.name)
            except (NotFound, Conflict):
                continue  # another node was first, or a user wrote it: the next round looks again
    return deleted


async def _mark(store: Store, key: ResourceKey, clock: Clock) -> Resource[Any]:
    delays = retry_delays()
    for _ in range(ATTEMPTS):
        pool = await store.get(key)
        if is_terminating(pool):
            return pool
        try:
            return await store.update(as_terminating(pool, datetime.fromtimestamp(clock.wall(), UTC)))
        except Conflict:
            await asyncio.sleep(delays.next_seconds())
    raise Conflict(str(key))


async def _finish(store: Store, pool: Resource[Any], clock: Clock) -> Deletion:
    # The mark stands before we look, and who claims a block looks for the mark once its affinity stands: one sees the other.
    cidr = Prefix.parse(pool.spec.cidr, strict=False)
    busy = False
    for affinity in await affinities(store):
        block = prefix_of_key(affinity.key)
        if block is None or not cidr.contains(block):
            continue
        given = await release_affinity(store, affinity.key.within, block, only_empty=True, clock=clock)
        busy = busy or given is not Given.RELEASED
    for prefix, left in (await block_prefixes(store)).items():
        if not cidr.contains(prefix):
            continue
        if left is None or not is_empty(left.spec) or not await clear_idle(store, left, prefix, clock):
            busy = True
    if busy:
        return "terminating"
    delays = retry_delays()
    revision = pool.revision
    for _ in range(ATTEMPTS):
        try:
            await store.delete(pool.key, revision=revision)
        except NotFound:
            return "deleted"
        except Conflict:
            await asyncio.sleep(delays.next_seconds())
            now = await store.get(pool.key)
            if not is_terminating(now):
                raise
            revision = now.revision
            continue
        return "deleted"
    raise Conflict(str(pool.key))
