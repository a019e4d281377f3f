"""The terms: kept up to date by watches while an agent runs, and never guessed; which families a pod gets by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.ipam_clusters import configure, consistent, etcd, node, pool, store, take, url
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.store import Store
from tortie.errors import AddressesExhausted, InvalidResource
from tortie.ipam.allocator import Allocator
from tortie.ipam.pools import delete_pool
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


@pytest.mark.parametrize(("version", "other"), [(4, 6), (6, 4)])
async def test_a_family_is_not_silently_left_out_while_its_pool_is_being_deleted(
    store: Store, version: int, other: int
) -> None:
    cidrs = {4: "10.0.0.0/24", 6: "fd00::/120"}
    await pool(store, cidrs[version], "going")
    await pool(store, cidrs[other], "staying")
    a = await node(store, "a")
    both: dict[str, Any] = {"ipv4": None, "ipv6": None}
    assert len(await take(a, "old", **both)) == 2
    assert await delete_pool(store, "going") == "terminating"
    with pytest.raises(
        AddressesExhausted,
        match=rf"no IPv{version} address for h on node a; pool going .* is being deleted; make another IPv{version} pool",
    ):
        await take(a, "h", **both)
    assert await a.by_handle("h") == ()
    assert len(await take(a, "h", **{**both, f"ipv{version}": 0})) == 1, "who says so goes without"
    await pool(store, {4: "10.0.1.0/24", 6: "fd01::/120"}[version], "next")
    assert len(await take(a, "g", **both)) == 2
    assert len(await a.release_handle("old")) == 2
    await delete_pool(store, "next")
    await a.release_handle("g")
    await a.tidy()
    assert len(await take(a, "i", **both)) == 1, "both pools are gone: nobody has that family any more"
    await consistent(store)


@pytest.mark.parametrize(("cidr", "refused"), [("10.0.0.0/24", True), ("fd00::/120", False)])
async def test_with_a_disabled_pool_alone_ipv4_is_missed_and_ipv6_is_not(
    store: Store, cidr: str, refused: bool
) -> None:
    """As with Calico, where IPv4 is assigned unless told otherwise and IPv6 is not."""
    await pool(store, cidr, "off", disabled=True)
    await pool(store, "10.0.0.0/24" if cidr.startswith("fd") else "fd00::/120", "on")
    a = await node(store, "a")
    if refused:
        with pytest.raises(AddressesExhausted, match=r"pool off .* is disabled"):
            await take(a, "h", ipv4=None, ipv6=None)
    else:
        assert len(await take(a, "h", ipv4=None, ipv6=None)) == 1
    await consistent(store)


async def test_a_closed_pool_of_others_is_not_missed(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "theirs", disabled=True, node_selector="zone == 'far'")
    await pool(store, "10.0.1.0/24", "tunnels", disabled=True, allowed_uses=("Tunnel",))
    await pool(store, "10.0.2.0/24", "by-hand", disabled=True, assignment_mode="Manual")
    await pool(store, "10.0.3.0/24", "team", disabled=True, namespace_selector="team == 'x'")
    await pool(store, "fd00::/120", "six")
    a = await node(store, "a", zone="near")
    assert len(await take(a, "h", ipv4=None, ipv6=None)) == 1
    with pytest.raises(AddressesExhausted, match="pool team"):
        await take(a, "g", ipv4=None, ipv6=None, namespace_labels={"team": "x"})
