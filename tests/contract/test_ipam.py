"""IPAM over both datastores: who gets which address, and what is left behind when something goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.contract.ipam_clusters import configure, consistent, etcd, node, pool, store, take, url
from tortie.aio import checkpoints
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.store import Store
from tortie.errors import AddressesExhausted, InvalidResource, NotFound
from tortie.ipam import records
from tortie.ipam.affinity import Claims, Given, release_affinity
from tortie.ipam.allocator import Allocator, AssignRequest, Release
from tortie.ipam.blocks import Refusal, holders, owner
from tortie.ipam.nodes import release_node
from tortie.ipam.pool_state import is_terminating
from tortie.ipam.pools import complete_deletions, delete_pool, in_use
from tortie.net.addresses import Address, Prefix
from tortie.resources.allocation_block import block_key
from tortie.resources.block_affinity import CONFIRMED, PENDING, PENDING_DELETION, affinity_key
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ip_reservation import IP_RESERVATION, IPReservationSpec
from tortie.resources.node import NODE
from tortie.resources.resource import Resource, ResourceKey
from tortie.testing.clock import ManualClock

__all__ = ["etcd", "store", "url"]


async def test_a_request_takes_a_block_and_returns_an_address_of_it(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "default")
    a = await node(store, "a")
    found = (await a.assign(AssignRequest(handle="h", attributes={"pod": "web"}))).addresses
    assert len(found) == 1
    assert found[0].pool == "default"
    assert found[0].block.length == 30
    assert str(found[0].interface) == f"{found[0].address}/30"
    block = await records.find_block(store, found[0].block)
    assert block is not None
    assert block.spec.affinity == "host:a"
    assert [(w.handle, w.attributes) for w in holders(block.spec).values()] == [("h", {"pod": "web"})]
    assert await a.by_handle("h") == (found[0].address,)
    await consistent(store)
    assert await a.release_handle("h") == (found[0].address,)
    assert await a.release_handle("h") == ()
    assert await a.by_handle("h") == ()
    await consistent(store, {})


async def test_the_next_address_is_the_one_that_was_free_the_longest(store: Store) -> None:
    await pool(store, "10.0.0.0/30")
    a = await node(store, "a")
    first = await take(a, "h1")
    assert first == ["10.0.0.0"]
    await a.release_handle("h1")
    assert [await take(a, f"n{i}") for i in range(4)] == [
        ["10.0.0.1"],
        ["10.0.0.2"],
        ["10.0.0.3"],
        ["10.0.0.0"],
    ]


async def test_the_same_handle_asked_again_has_no_second_address(store: Store) -> None:
    await pool(store, "10.0.0.0/24")
    await pool(store, "fd00::/120")
    a = await node(store, "a")
    first = await take(a, "h")
    assert await take(a, "h") == first
    both = await take(a, "h", ipv6=1)
    assert both[0] == first[0]
    assert both[1].startswith("fd00::")
    assert await take(a, "h", ipv4=1, ipv6=1) == both
    await consistent(store, dict.fromkeys(both, "h"))


async def test_a_full_pool_says_so_and_leaves_nothing(store: Store) -> None:
    await pool(store, "10.0.0.0/30", "tiny")
    a = await node(store, "a")
    await take(a, "h", ipv4=4)
    with pytest.raises(
        AddressesExhausted, match=r"no IPv4 address for g on node a in pool tiny \(10.0.0.0/30\)"
    ):
        await take(a, "g")
    with pytest.raises(AddressesExhausted, match="there is no pool big"):
        await take(a, "g", ipv4_pools=("big",))
    with pytest.raises(AddressesExhausted, match="there is no IPv6 pool"):
        await take(a, "g", ipv4=0, ipv6=1)
    await consistent(store)
    assert await records.find_handle(store, "g") is None


async def test_half_of_a_dual_stack_is_given_back(store: Store) -> None:
    await pool(store, "10.0.0.0/24")
    await pool(store, "fd00::/126")
    a = await node(store, "a")
    await take(a, "full", ipv4=0, ipv6=4)
    with pytest.raises(AddressesExhausted, match="IPv6"):
        await take(a, "h", ipv4=2, ipv6=1)
    assert await records.find_handle(store, "h") is None
    await a.release_handle("full")
    await consistent(store, {})


async def test_a_family_may_be_wanted_where_there_is_one(store: Store) -> None:
    await pool(store, "10.0.0.0/24")
    a = await node(store, "a")
    assert len(await take(a, "h", ipv4=None, ipv6=None)) == 1
    assert len(await take(a, "h", ipv4=None, ipv6=None)) == 1
    with pytest.raises(AddressesExhausted):
        await take(await node(store, "b"), "g", ipv4=0, ipv6=None)


async def test_pools_are_chosen_by_selectors_uses_and_requests(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "ssd", node_selector="disk == 'ssd'")
    await pool(store, "10.0.1.0/24", "team", namespace_selector="team == 'x'", node_selector="!has(disk)")
    await pool(store, "10.0.2.0/24", "tunnels", allowed_uses=("Tunnel",))
    await pool(store, "10.0.3.0/24", "manual", assignment_mode="Manual")
    await pool(store, "10.0.4.0/24", "off", disabled=True)
    a, b = await node(store, "a", disk="ssd"), await node(store, "b")
    assert (await take(a, "h1"))[0].startswith("10.0.0.")
    with pytest.raises(
        AddressesExhausted, match=r"pool ssd .* does not select this node \(nodeSelector: disk == 'ssd'\)"
    ):
        await take(b, "h2")
    assert (await take(b, "h2", namespace_labels={"team": "x"}))[0].startswith("10.0.1.")
    assert (await take(b, "h3", use="Tunnel"))[0].startswith("10.0.2.")
    assert (await take(b, "h4", ipv4_pools=("manual",)))[0].startswith("10.0.3.")
    assert (await take(b, "h5", ipv4_pools=("10.0.0.0/24",)))[0].startswith("10.0.0.")
    with pytest.raises(AddressesExhausted, match=r"pool off .* is disabled"):
        await take(b, "h6", ipv4_pools=("off",))
    await consistent(store)


async def test_reserved_addresses_are_not_given_but_may_be_asked_for(store: Store) -> None:
    await pool(store, "10.0.0.0/29")
    spec = IPReservationSpec(reserved_cidrs=("10.0.0.0/30", "10.0.0.5"))
    await store.create(Resource(key=ResourceKey(IP_RESERVATION, "r"), spec=spec))
    a = await node(store, "a")
    assert sorted(await take(a, "h", ipv4=3)) == ["10.0.0.4", "10.0.0.6", "10.0.0.7"]
    with pytest.raises(AddressesExhausted):
        await take(a, "g")
    await a.assign_address(Address.parse("10.0.0.1"), "g", {})
    assert [str(x) for x in await a.by_handle("g")] == ["10.0.0.1"]
    await consistent(store)


async def test_borrowing_and_strict_affinity_switched_in_a_live_cluster(store: Store) -> None:
    await pool(store, "10.0.0.0/29")
    a, b, c = [await node(store, name) for name in "abc"]
    await take(a, "a1")
    await take(b, "b1")
    borrowed = await take(c, "c1")
    block = Address.parse(borrowed[0]).prefix.supernet(30)
    stored = await records.find_block(store, block)
    assert stored is not None
    assert owner(stored.spec) in ("a", "b")
    await configure(store, strict_affinity=True)
    with pytest.raises(AddressesExhausted, match="strict affinity"):
        await take(c, "c2")
    with pytest.raises(AddressesExhausted, match="strict affinity"):
        await c.assign_address(Address(4, block.value + 3), "c3", {})
    await configure(store, strict_affinity=False)
    await take(c, "c2")
    await c.assign_address(Address(4, block.value + 3), "c3", {})
    await consistent(store)


async def test_a_node_has_only_so_many_blocks(store: Store) -> None:
    await pool(store, "10.0.0.0/26")
    a = await node(store, "a")
    await configure(store, strict_affinity=True, max_blocks_per_host=2)
    assert len(await take(a, "h", ipv4=8)) == 8
    with pytest.raises(AddressesExhausted, match="node a has 2 IPv4 blocks, and 2 are the limit"):
        await take(a, "g")
    await configure(store, strict_affinity=True, max_blocks_per_host=0)
    with pytest.raises(AddressesExhausted, match="node a has 2 IPv4 blocks, and 2 are the limit"):
        await take(a, "g", max_blocks=2)
    await take(a, "g")
    await configure(store, strict_affinity=True, auto_allocate_blocks=False)
    with pytest.raises(AddressesExhausted, match="autoAllocateBlocks is off"):
        await take(a, "g2", ipv4=4)
    await consistent(store)


async def test_an_idle_block_of_another_node_is_taken_over_after_a_minute(store: Store) -> None:
    await pool(store, "10.0.0.0/30")
    clock = ManualClock(1_800_000_000)
    await node(store, "a")
    await node(store, "b")
    a, b = Allocator(store, "a", clock=clock), Allocator(store, "b", clock=clock)
    await configure(store, strict_affinity=True)
    await take(a, "h")
    await a.release_handle("h")
    with pytest.raises(AddressesExhausted):
        await take(b, "g")
    clock.advance(61)
    await take(b, "g")
    await consistent(store)
    with pytest.raises(AddressesExhausted):
        await take(a, "h")
    await b.release_handle("g")
    await store.delete(ResourceKey(NODE, "b"))
    await take(a, "h")  # at once: its owner is gone
    await consistent(store)


async def test_an_explicit_address_is_had_once(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "p")
    await pool(store, "10.0.9.0/24", "off", disabled=True)
    a, b = await node(store, "a"), await node(store, "b")
    wanted = Address.parse("10.0.0.77")
    got = await a.assign_address(wanted, "h", {"pod": "web", "namespace": "default", "node": "a"})
    assert got.address == wanted
    assert str(got.block) == "10.0.0.76/30"
    assert (await a.assign_address(wanted, "h", {})).address == wanted
    with pytest.raises(AddressesExhausted, match=r"10.0.0.77 is taken: pod default/web on node a has it"):
        await b.assign_address(wanted, "g", {})
    with pytest.raises(AddressesExhausted, match=r"10.1.0.1 lies in no IP pool"):
        await a.assign_address(Address.parse("10.1.0.1"), "g", {})
    with pytest.raises(AddressesExhausted, match=r"pool off .*, which is disabled"):
        await a.assign_address(Address.parse("10.0.9.1"), "g", {})
    await b.assign_address(Address.parse("10.0.0.78"), "g", {})
    await consistent(store)


async def test_release_by_address_heeds_handle_and_sequence(store: Store) -> None:
    await pool(store, "10.0.0.0/30")
    a, b = await node(store, "a"), await node(store, "b")
    (address,) = await a.assign(AssignRequest(handle="h"))
    block = await records.find_block(store, Prefix.parse("10.0.0.0/30"))
    assert block is not None
    sequence = holders(block.spec)[0].sequence
    assert await b.release([Release(address, "other")]) == {address: Refusal.OTHER_HANDLE}
    assert await b.release([Release(address, "h", sequence)]) == {address: None}
    assert await b.release([Release(address)]) == {address: Refusal.FREE}
    assert await records.find_handle(store, "h") is None
    await a.assign_address(address, "h", {})
    assert await b.release([Release(address, "h", sequence)]) == {address: Refusal.OTHER_SEQUENCE}
    nowhere = Address.parse("192.0.2.1")
    assert await b.release([Release(nowhere)]) == {nowhere: Refusal.FREE}
    await consistent(store, {str(address): "h"})


async def test_a_released_address_cools_down(store: Store) -> None:
    await pool(store, "10.0.0.0/30")
    await configure(store, ip_cooldown_seconds=60)
    await node(store, "a")
    clock = ManualClock(1_800_000_000)
    a = Allocator(store, "a", clock=clock)
    await take(a, "h", ipv4=4)
    await a.release_handle("h")
    with pytest.raises(AddressesExhausted):
        await take(a, "g")
    with pytest.raises(AddressesExhausted, match="ipCooldownSeconds"):
        await a.assign_address(Address.parse("10.0.0.1"), "g", {})
    clock.advance(60)
    assert len(await take(a, "g", ipv4=4)) == 4
    await consistent(store)


async def test_tunnel_addresses_stay_and_move_with_their_pool(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "one")
    a = await node(store, "a")
    first = await a.tunnel_address("ipip-tunnel-addr-a", "ipipTunnelAddress")
    assert await a.tunnel_address("ipip-tunnel-addr-a", "ipipTunnelAddress") == first
    assert await delete_pool(store, "one") == "terminating"
    await pool(store, "10.0.1.0/24", "two")
    second = await a.tunnel_address("ipip-tunnel-addr-a", "ipipTunnelAddress")
    assert str(second).startswith("10.0.1.")
    assert await complete_deletions(store) == ["one"]
    await consistent(store, {str(second): ""})


async def test_a_pool_in_use_is_marked_and_goes_with_its_last_address(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "p")
    a, b = await node(store, "a"), await node(store, "b")
    key = ResourceKey(IP_POOL, "p")
    await take(a, "h")
    await take(b, "idle")
    await b.release_handle("idle")
    assert await in_use(store, Prefix.parse("10.0.0.0/24"))
    assert await delete_pool(store, "p") == "terminating"
    assert is_terminating(await store.get(key))
    assert await delete_pool(store, "p") == "terminating"
    with pytest.raises(AddressesExhausted, match=r"pool p .* is being deleted"):
        await take(a, "g")
    with pytest.raises(AddressesExhausted, match=r"pool p .*, which is being deleted"):
        await b.assign_address(Address.parse("10.0.0.1"), "g", {})
    assert len(await a.by_handle("h")) == 1
    assert await complete_deletions(store) == []
    await a.release_handle("h")
    await a.tidy()
    with pytest.raises(NotFound):
        await store.get(key)
    assert await records.block_prefixes(store) == {}
    assert await records.affinities(store) == []
    await pool(store, "10.0.0.0/24", "unused")
    assert await delete_pool(store, "unused") == "deleted"
    with pytest.raises(NotFound):
        await delete_pool(store, "unused")


async def test_blocks_of_a_pool_that_no_longer_selects_the_node_go_when_empty(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "old")
    a = await node(store, "a")
    await take(a, "h")
    await a.release_handle("h")
    stored = await store.get(ResourceKey(IP_POOL, "old"))
    await store.update(
        stored.with_spec(IPPoolSpec(cidr="10.0.0.0/24", block_size=30, node_selector="has(x)"))
    )
    await pool(store, "10.0.1.0/24", "new")
    assert (await take(a, "h"))[0].startswith("10.0.1.")
    assert all(
        cidr.value >> 8 == Address.parse("10.0.1.0").value >> 8
        for cidr in await records.block_prefixes(store)
    )
    await consistent(store)


async def test_tidy_keeps_one_empty_block_and_wants_to_see_emptiness_twice(store: Store) -> None:
    await pool(store, "10.0.0.0/24")
    await node(store, "a")
    clock = ManualClock(1_800_000_000)
    a = Allocator(store, "a", clock=clock)
    await take(a, "h", ipv4=12)
    await a.release_handle("h")
    clock.advance(120)
    assert await a.tidy() == []
    assert len(await a.tidy()) == 2
    assert await a.tidy() == []
    await consistent(store, {})
    await take(a, "h")
    await consistent(store)


@pytest.mark.parametrize("state", [PENDING, CONFIRMED, PENDING_DELETION])
@pytest.mark.parametrize("block_there", [False, True])
async def test_whatever_state_a_crash_leaves_an_affinity_in_it_is_mended(
    store: Store, state: str, block_there: bool
) -> None:
    await pool(store, "10.0.0.0/30")
    await configure(store, strict_affinity=True)
    a = await node(store, "a")
    cidr = Prefix.parse("10.0.0.0/30")
    await Claims(store, "a").claim(cidr)
    affinity = await store.get(affinity_key("a", str(cidr)))
    await store.update(affinity.with_spec(type(affinity.spec)(state=state)))
    if not block_there:
        block = await records.find_block(store, cidr)
        assert block is not None
        await store.delete(block.key)
    assert len(await take(a, "h", ipv4=4)) == 4
    await consistent(store)


async def test_a_stale_affinity_to_anothers_block_is_dropped(store: Store) -> None:
    await pool(store, "10.0.0.0/29")
    a, b = await node(store, "a"), await node(store, "b")
    (address,) = await a.assign(AssignRequest(handle="h"))
    cidr = address.prefix.supernet(30)
    assert await Claims(store, "b").claim(cidr) is None
    assert await records.find_affinity(store, "b", cidr) is None
    stale = affinity_key("b", str(cidr))
    await store.create(Resource(key=stale, spec=type((await store.get(affinity_key("a", str(cidr)))).spec)()))
    await take(b, "g")
    assert await records.find_affinity(store, "b", cidr) is None
    await consistent(store)


async def test_releasing_an_affinity_in_use(store: Store) -> None:
    await pool(store, "10.0.0.0/30")
    a, b = await node(store, "a"), await node(store, "b")
    await take(a, "h")
    cidr = Prefix.parse("10.0.0.0/30")
    assert await release_affinity(store, "a", cidr, only_empty=True) is Given.IN_USE
    assert await release_affinity(store, "a", cidr, only_empty=False) is Given.RELEASED
    block = await records.find_block(store, cidr)
    assert block is not None
    assert block.spec.affinity is None
    assert len(holders(block.spec)) == 1
    await take(b, "g")  # lent by nobody
    await a.release_handle("h")
    await a.release_handle("g")
    await configure(store, strict_affinity=True)
    await take(b, "g")
    await consistent(store)


async def test_many_at_once_share_writes(store: Store) -> None:
    await pool(store, "10.0.0.0/22", block_size=26)
    a = await node(store, "a")
    running = asyncio.create_task(a.run())
    while not a.ready:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writes = Counter[str]()
    checkpoints.observe(lambda name: writes.update([name]))
    try:
        found = await asyncio.gather(*(take(a, f"h{i}") for i in range(200)))
        assert len({each[0] for each in found}) == 200
        assert writes["ipam.block.written"] < 50
        writes.clear()
        await asyncio.gather(*(a.release_handle(f"h{i}") for i in range(200)))
        assert (
            writes["ipam.block.written"] < 150
        )  # each reads its handle first, which the machine may space out
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        checkpoints.observe(None)
    await consistent(store, {})


async def test_watched_terms_take_effect(store: Store) -> None:
    await pool(store, "10.0.0.0/24", "one")
    a = await node(store, "a")
    running = asyncio.create_task(a.run())
    try:
        async with asyncio.timeout(10):
            while not a.ready:  # nobody tells: # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await take(a, "h1"))[0].startswith("10.0.0.")
        stored = await store.get(ResourceKey(IP_POOL, "one"))
        await store.update(stored.with_spec(IPPoolSpec(cidr="10.0.0.0/24", block_size=30, disabled=True)))
        await pool(store, "10.0.1.0/24", "two")
        async with asyncio.timeout(10):
            while not (await take(a, f"h{random.random()}"))[0].startswith("10.0.1."):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await store.delete(ResourceKey(NODE, "a"))
        await consistent(store)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_deleted_nodes_blocks_and_tunnels_go_back_and_its_pods_keep_theirs(store: Store) -> None:
    await pool(store, "10.0.0.0/29")
    a, b = await node(store, "a"), await node(store, "b")
    tunnel = await a.tunnel_address("ipip-tunnel-addr-a", "ipipTunnelAddress")
    (kept,) = await take(a, "pod")
    await take(a, "idle", ipv4=4)
    await a.release_handle("idle")
    await store.delete(ResourceKey(NODE, "a"))
    addresses, blocks = await release_node(store, "a")
    assert addresses == (tunnel,)
    assert len(blocks) == 2
    assert await records.affinities(store) == []
    await configure(store, strict_affinity=True)
    assert len(await take(b, "h", ipv4=4)) == 4
    assert [str(x) for x in await b.by_handle("pod")] == [kept]
    await b.release_handle("pod")
    assert len(await take(b, "g", ipv4=4)) == 4
    await consistent(store)


async def test_a_block_that_nobody_can_read_costs_no_other(store: Store) -> None:
    await pool(store, "10.0.0.0/24")
    a = await node(store, "a")
    (first,) = await a.assign(AssignRequest(handle="h"))
    key = block_key(str(first.prefix.supernet(30)))
    assert isinstance(store, KeyValueStore)
    await store.keyvalue.commit(expect={}, put={store.layout.path(key): b"{"})
    again = Allocator(store, "a")
    (second,) = await again.assign(AssignRequest(handle="g"))
    assert second.prefix.supernet(30) != first.prefix.supernet(30)
    with pytest.raises(InvalidResource, match=str(key)):
        await again.release_handle("h")
