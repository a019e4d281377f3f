from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tortie.datastore.store import Store
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.errors import NotFound
from tortie.ipam.allocator import Allocator, AssignRequest
from tortie.kernel.pod_link import PodLink, SeenLink
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey
from tortie.resources.workload_endpoint import NETWORK_ANNOTATION, WORKLOAD_ENDPOINT, WorkloadEndpointSpec
from tortie.workloads.collect import Collector, collect_network
from tortie.workloads.live_facts import LiveFacts
from tortie.workloads.locks import Locks
from tortie.workloads.means import Means
from tortie.workloads.profiles import Profiles
from tortie.workloads.register import StoreRegister
from tortie.workloads.sandbox import Sandbox

NODE = "n1"


class NoLinks:
    """A node whose interfaces are what the test says; nothing can be made on it."""

    def __init__(self) -> None:
        self.present: set[str] = set()

    def exists(self, host_name: str) -> bool:
        return host_name in self.present

    async def create(
        self, wanted: PodLink, namespace: int, then: Callable[[], PodLink | None]
    ) -> PodLink | None:
        raise AssertionError("nobody makes a wire here")

    async def configure(self, wanted: PodLink, namespace: int) -> None:
        raise AssertionError("nobody makes a wire here")

    async def remove(self, host_name: str) -> bool:
        self.present.discard(host_name)
        return True

    async def remove_inside(self, wanted: PodLink, namespace: int) -> bool:
        raise AssertionError("nobody has a namespace here")

    async def inspect(self, wanted: PodLink, namespace: int) -> SeenLink:
        raise AssertionError("nobody looks")

    async def host_ends(self) -> frozenset[str]:
        return frozenset(self.present)


class NeverWaits:
    async def wait(self, endpoint: ResourceKey, revision: str, *, timeout_seconds: float) -> None:
        raise AssertionError("nobody waits")


class World:
    """One node with pods, and a collector whose clock the test moves."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.links = NoLinks()
        self.locks = Locks()
        self.rows: dict[EndpointKey, EndpointRow] = {}
        self.now = 0.0
        self.means = Means(
            node=NODE,
            store=store,
            allocator=Allocator(store, NODE),
            register=StoreRegister(store),
            profiles=Profiles(store),
            live=LiveFacts(store, "node1"),
            realised=NeverWaits(),
            links=self.links,
        )
        self.collector = Collector(
            self.means, self.locks, self.local, grace_seconds=15, clock=lambda: self.now
        )

    def local(self) -> Mapping[EndpointKey, EndpointRow]:
        return self.rows

    async def pod(self, name: str, *, node: str = NODE, network: str = "net") -> EndpointKey:
        interface = f"cali{name}"
        spec = WorkloadEndpointSpec(
            node=node, container_id=f"c-{name}", endpoint="eth0", pod=name, interface_name=interface
        )
        key = ResourceKey(WORKLOAD_ENDPOINT, f"{node}-k8s-{name}-eth0", "default")
        annotations = {NETWORK_ANNOTATION: network} if network else {}
        made = Resource(key=key, metadata=Metadata(annotations=annotations), spec=spec)
        sandbox = Sandbox.from_endpoint(made, network)
        request = AssignRequest(handle=sandbox.handle, attributes={"node": node}, ipv4=1)
        await self.means.allocator.assign(request)
        stored = await self.store.create(made)
        self.links.present.add(interface)
        found = EndpointKey("default", key.name)
        self.rows[found] = EndpointRow(interface=interface, addresses=(), revision=str(stored.revision))
        return found

    async def stands(self, key: EndpointKey) -> bool:
        try:
            await self.store.get(ResourceKey(WORKLOAD_ENDPOINT, key.name, key.namespace))
        except NotFound:
            return False
        return True

    async def looks(self, *seconds: float) -> list[EndpointKey]:
        """Look at each of these times; what the last one removed."""
        removed: list[EndpointKey] = []
        for now in seconds:
            self.now = now
            removed = await self.collector.look()
        return removed


@pytest.fixture
async def world(store: Store) -> World:
    await store.create(Resource(key=ResourceKey(IP_POOL, "p"), spec=IPPoolSpec(cidr="10.65.0.0/24")))
    return World(store)


async def test_a_pod_whose_interface_is_there_stays(world: World) -> None:
    key = await world.pod("a")
    assert await world.looks(0, 100, 200) == []
    assert await world.stands(key)


async def test_a_vanished_pod_goes_at_the_second_look_with_its_address(world: World) -> None:
    key = await world.pod("a")
    world.links.present.clear()
    assert await world.looks(0, 10) == []
    assert await world.stands(key)
    assert await world.looks(20) == [key]
    assert not await world.stands(key)
    assert await world.means.allocator.by_handle("net.c-a") == ()


async def test_an_interface_that_comes_back_begins_anew(world: World) -> None:
    await world.pod("a")
    world.links.present.clear()
    await world.looks(0, 10)
    world.links.present.add("calia")
    await world.looks(14)
    world.links.present.clear()
    assert await world.looks(16, 25) == []


async def test_a_changed_endpoint_begins_anew(world: World) -> None:
    key = await world.pod("a")
    world.links.present.clear()
    await world.looks(0, 10)
    world.rows[key] = EndpointRow(interface="calia", addresses=(), revision="another")
    assert await world.looks(20) == []
    assert await world.looks(40) == []  # the store's revision is not the one that was seen
    assert await world.stands(key)


async def test_a_wire_under_another_name_stops_it(world: World) -> None:
    """Someone renamed the host's end: the pod lives."""
    key = await world.pod("a")
    world.links.present = {"renamed0"}
    assert await world.looks(0, 20, 40) == []
    assert await world.stands(key)
    world.links.present.clear()
    assert await world.looks(60) == [key]


async def test_others_endpoints_are_left_alone(world: World) -> None:
    elsewhere = await world.pod("a", node="n2")
    calicos = await world.pod("b", network="")
    world.links.present.clear()
    assert await world.looks(0, 20, 40) == []
    assert await world.stands(elsewhere)
    assert await world.stands(calicos)


async def test_a_request_under_way_is_left_alone(world: World) -> None:
    key = await world.pod("a")
    world.links.present.clear()
    await world.looks(0)
    async with world.locks.hold("container c-a"):
        async with asyncio.timeout(5):
            assert await world.looks(20) == []
    assert await world.stands(key)
    assert await world.looks(21) == [key]


async def test_gc_keeps_what_is_alive_and_what_is_anothers(world: World) -> None:
    kept, lost = await world.pod("kept"), await world.pod("lost")
    foreign, elsewhere = await world.pod("foreign", network="other"), await world.pod("far", node="n2")
    gone = await collect_network(world.means, world.locks, "net", frozenset({("c-kept", "eth0")}))
    assert [sandbox.container_id for sandbox in gone] == ["c-lost"]
    stand = [await world.stands(key) for key in (kept, lost, foreign, elsewhere)]
    assert stand == [True, False, True, True]
    assert "calilost" not in world.links.present
    assert await world.means.allocator.by_handle("net.c-lost") == ()
    assert await world.means.allocator.by_handle("net.c-kept") != ()


async def test_gc_gives_back_what_an_add_took_before_its_machine_died(world: World) -> None:
    allocator = world.means.allocator
    for handle, node in (("net.dead", NODE), ("net.far", "n2"), ("other.dead", NODE), ("net.adding", NODE)):
        await allocator.assign(AssignRequest(handle=handle, attributes={"node": node}, ipv4=1))
    async with world.locks.hold("container adding"):
        await collect_network(world.means, world.locks, "net", frozenset({("kept", "eth0")}))
    held = [bool(await allocator.by_handle(h)) for h in ("net.dead", "net.far", "other.dead", "net.adding")]
    assert held == [False, True, True, True]
