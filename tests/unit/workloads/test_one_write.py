"""What IPAM stores and deletes in one write with addresses: an endpoint, as ADD and DEL have it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tortie.datastore.store import Store
from tortie.errors import AddressesExhausted, NotFound
from tortie.ipam.allocator import Allocator, AssignRequest, Leaving, LeavingMoved
from tortie.net.addresses import Address
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.resource import Resource, ResourceKey
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec


def key(name: str) -> ResourceKey:
    return ResourceKey(WORKLOAD_ENDPOINT, name, "default")


def request(name: str, **more: Any) -> AssignRequest:
    def along(addresses: tuple[Address, ...]) -> Resource[WorkloadEndpointSpec]:
        networks = tuple(str(address.prefix) for address in addresses)
        spec = WorkloadEndpointSpec(node="n1", container_id=name, ip_networks=networks)
        return Resource(key=key(name), spec=spec)

    more = {"ipv4": None, "ipv6": None} | more
    return AssignRequest(handle=f"net.{name}", along=along, **more)


async def add_pool(store: Store, name: str, cidr: str) -> None:
    await store.create(Resource(key=ResourceKey(IP_POOL, name), spec=IPPoolSpec(cidr=cidr)))


async def exists(store: Store, name: str) -> bool:
    try:
        await store.get(key(name))
    except NotFound:
        return False
    return True


@pytest.fixture
async def allocator(store: Store) -> Allocator:
    await add_pool(store, "four", "10.65.0.0/26")
    return Allocator(store, "n1")


async def test_the_endpoint_names_the_address(store: Store, allocator: Allocator) -> None:
    found = await allocator.assign(request("a"))
    assert found.along is not None
    stored = await store.get(key("a"))
    assert stored.revision == found.along.revision
    assert stored.spec.ip_networks == tuple(str(address.prefix) for address in found)


async def test_with_two_families_it_comes_with_the_last_and_names_both(
    store: Store, allocator: Allocator
) -> None:
    await add_pool(store, "six", "fd00:65::/122")
    found = await allocator.assign(request("a"))
    assert [address.version for address in found] == [4, 6]
    assert (await store.get(key("a"))).spec.ip_networks == tuple(str(address.prefix) for address in found)


async def test_an_endpoint_that_is_there_stays_and_the_address_comes_all_the_same(
    store: Store, allocator: Allocator
) -> None:
    await store.create(Resource(key=key("a"), spec=WorkloadEndpointSpec(node="n1", container_id="old")))
    found = await allocator.assign(request("a"))
    assert found.along is None
    assert len(found) == 1
    assert (await store.get(key("a"))).spec.container_id == "old"


async def test_what_the_handle_has_already_brings_no_endpoint(store: Store, allocator: Allocator) -> None:
    first = await allocator.assign(AssignRequest(handle="net.a", ipv4=1))
    again = await allocator.assign(request("a"))
    assert tuple(again) == tuple(first)
    assert again.along is None
    assert not await exists(store, "a")


async def test_without_an_address_there_is_no_endpoint(store: Store, allocator: Allocator) -> None:
    with pytest.raises(AddressesExhausted):
        await allocator.assign(request("a", ipv6=1))
    assert not await exists(store, "a")
    assert await allocator.by_handle("net.a") == ()


async def test_many_at_once_each_get_their_own(store: Store, allocator: Allocator) -> None:
    names = [f"p{n}" for n in range(40)]
    found = await asyncio.gather(*(allocator.assign(request(name)) for name in names))
    assert len({address for each in found for address in each}) == len(names)
    for name, each in zip(names, found, strict=True):
        assert (await store.get(key(name))).spec.ip_networks == tuple(str(a.prefix) for a in each)


async def test_both_leave_together(store: Store, allocator: Allocator) -> None:
    await add_pool(store, "six", "fd00:65::/122")
    found = await allocator.assign(request("a"))
    assert found.along is not None
    leaving = Leaving(found.along)
    released = await allocator.release_handle("net.a", leaving=leaving)
    assert set(released) == set(found)
    assert leaving.gone
    assert not await exists(store, "a")


async def test_an_endpoint_that_was_changed_keeps_its_addresses(store: Store, allocator: Allocator) -> None:
    found = await allocator.assign(request("a"))
    assert found.along is not None
    stored = await store.get(key("a"))
    await store.update(stored.with_spec(WorkloadEndpointSpec(node="n1", container_id="new")))
    leaving = Leaving(found.along)
    with pytest.raises(LeavingMoved):
        await allocator.release_handle("net.a", leaving=leaving)
    assert not leaving.gone
    assert await allocator.by_handle("net.a") == tuple(found)


async def test_without_addresses_nothing_is_deleted(store: Store, allocator: Allocator) -> None:
    found = await allocator.assign(request("a"))
    assert found.along is not None
    await allocator.release_handle("net.a")
    leaving = Leaving(found.along)
    assert await allocator.release_handle("net.a", leaving=leaving) == ()
    assert not leaving.gone
    assert await exists(store, "a")
