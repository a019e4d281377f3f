"""The terms while an agent runs: kept up to date by watches, and never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.ipam_clusters import configure, consistent, etcd, node, pool, store, take, url
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.store import Store
from tortie.errors import InvalidResource
from tortie.ipam.allocator import Allocator
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ip_reservation import IP_RESERVATION, IPReservationSpec
from tortie.resources.resource import Resource, ResourceKey

__all__ = ["etcd", "store", "url"]

CONFIG = "/calico/ipam/v2/config"


@pytest.fixture
async def running(store: Store) -> AsyncIterator[Allocator]:
    await pool(store, "10.0.0.0/24", "one")
    allocator = await node(store, "a")
    task = asyncio.create_task(allocator.run())
    async with asyncio.timeout(10):
        while not allocator.ready:  # nobody tells: # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield allocator
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not allocator.ready


async def test_a_configuration_that_cannot_be_read_is_not_taken_for_the_defaults(
    store: Store, running: Allocator
) -> None:
    assert isinstance(store, KeyValueStore)
    await take(running, "before")
    await store.keyvalue.commit(expect={}, put={CONFIG: b'{"strict_affinity": "perhaps"}'})
    async with asyncio.timeout(10):
        while running.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(InvalidResource, match="IPAMConfiguration default"):
        await take(running, "meanwhile")
    await store.keyvalue.commit(expect={}, put={}, gone=frozenset({CONFIG}))
    await configure(store, strict_affinity=True)
    async with asyncio.timeout(10):
        while not running.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await take(running, "after")
    await consistent(store)


async def test_a_reservation_counts_at_once_for_whoever_looks_for_room(
    store: Store, running: Allocator
) -> None:
    await take(running, "g", ipv4=4)
    spec = IPReservationSpec(reserved_cidrs=("10.0.0.0/25",))
    await store.create(Resource(key=ResourceKey(IP_RESERVATION, "r"), spec=spec))
    (free,) = await take(running, "x")  # the first block is full, so everything is read anew
    assert int(free.split(".")[3]) >= 128


async def test_a_pool_made_a_moment_ago_is_used(store: Store, running: Allocator) -> None:
    stored = await store.get(ResourceKey(IP_POOL, "one"))
    await store.update(stored.with_spec(IPPoolSpec(cidr="10.0.0.0/24", block_size=30, disabled=True)))
    async with asyncio.timeout(10):
        while (terms := running._live.current()) is None or not terms.pools[0].spec.disabled:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await pool(store, "10.0.1.0/24", "two")
    (address,) = await take(running, "h")
    assert address.startswith("10.0.1.")
    await pool(store, "fd00::/120", "six")
    assert len(await take(running, "g", ipv4=None, ipv6=None)) >= 1
