"""Many at once, of several nodes, with everything that a cluster does to them: whatever happens, it adds up."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from tests.contract.ipam_clusters import configure, consistent, etcd, node, pool, store, take, url
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.errors import AddressesExhausted, Conflict, NotFound
from tortie.ipam.allocator import Allocator
from tortie.ipam.pools import delete_pool
from tortie.net.addresses import Address
from tortie.testing.clock import ManualClock

__all__ = ["etcd", "store", "url"]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_three_nodes_at_war_never_share_an_address(url: str, store: Store, seed: int) -> None:
    """Assign, release, cancel at random, several processes' worth of allocators a node, while blocks are given back and
    taken over, strictness is switched and a pool is deleted; then everything adds up."""
    rng = random.Random(seed)
    await pool(store, "10.0.0.0/27")
    await pool(store, "10.0.1.0/28", "doomed")
    await pool(store, "fd00::/124")
    for name in "abc":
        await node(store, name)
    clock = ManualClock(1_800_000_000)
    stores = [open_store(url) for _ in range(4)]
    allocators = [Allocator(s, name, clock=clock) for s, name in zip(stores, "abca", strict=True)]
    held: dict[str, str] = {}
    living = 12

    async def life(number: int, allocator: Allocator) -> None:
        nonlocal living
        for turn in range(12):
            handle = f"h{number}-{turn}"
            work = asyncio.ensure_future(obtain(allocator, handle))
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() * 0.01)
                work.cancel()
            got: list[str] = []
            try:
                got = await work
            except (AddressesExhausted, asyncio.CancelledError, Conflict):
                await allocator.release_handle(handle)
                continue
            for address in got:
                assert address not in held
                held[address] = handle
            await asyncio.sleep(rng.random() * 0.005)
            if rng.random() < 0.9:
                for address in got:
                    del held[address]
                await rng.choice(allocators).release_handle(handle)
        living -= 1

    async def obtain(allocator: Allocator, handle: str) -> list[str]:
        if rng.random() < 0.2:
            address = Address.parse(f"10.0.0.{rng.randrange(32)}")
            return [str((await allocator.assign_address(address, handle, {})).address)]
        return await take(allocator, handle, ipv6=rng.choice((0, 1)))

    async def chaos() -> None:
        strict = False
        while living:
            clock.advance(61)
            await rng.choice(allocators).tidy()
            strict = not strict
            await configure(store, strict_affinity=strict)
            if rng.random() < 0.3:
                with contextlib.suppress(NotFound):
                    await delete_pool(store, "doomed")
            await asyncio.sleep(rng.random() * 0.02)

    try:
        await asyncio.gather(chaos(), *(life(n, allocators[n % 4]) for n in range(12)))
        for allocator in allocators:
            await allocator.close()  # what a cancelled request began goes on to its end
        await consistent(store, held)
        for address, handle in held.items():
            assert Address.parse(address) in await allocators[0].by_handle(handle)
        for handle in set(held.values()):
            await allocators[1].release_handle(handle)
        await consistent(store, {})
    finally:
        for allocator in allocators:
            await allocator.close()
        for each in stores:
            await each.close()
