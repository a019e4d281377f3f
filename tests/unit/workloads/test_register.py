from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tortie.datastore.store import Store
from tortie.errors import NotFound
from tortie.resources.resource import Delete, Put, Resource, ResourceKey, Update
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec
from tortie.workloads.register import StoreRegister

KEY = ResourceKey(WORKLOAD_ENDPOINT, "n1-k8s-p-eth0", "default")


def endpoint(container: str) -> Resource[WorkloadEndpointSpec]:
    return Resource(key=KEY, spec=WorkloadEndpointSpec(node="n1", container_id=container))


async def exists(store: Store) -> bool:
    try:
        await store.get(KEY)
    except NotFound:
        return False
    return True


async def test_publishing_returns_the_stored_revision(store: Store) -> None:
    heard: list[Update] = []
    register = StoreRegister(store, heard.append)
    revision = await register.publish(endpoint("a"))
    assert (await store.get(KEY)).revision == revision
    assert [type(update) for update in heard] == [Put]


async def test_publishing_takes_the_place_of_what_is_there_and_keeps_its_identity(store: Store) -> None:
    register = StoreRegister(store)
    await register.publish(endpoint("a"))
    before = await store.get(KEY)
    await store.update(replace(before, unknown={("spec", "later"): {"x": 1}}))
    await register.publish(endpoint("b"))
    after: Resource[Any] = await store.get(KEY)
    assert after.spec.container_id == "b"
    assert after.metadata.uid == before.metadata.uid
    assert after.unknown[("spec", "later")] == {"x": 1}


async def test_only_ones_own_is_withdrawn(store: Store) -> None:
    register = StoreRegister(store)
    await register.publish(endpoint("new"))
    assert await register.withdraw(KEY, "old") is False
    assert await exists(store)
    heard: list[Update] = []
    assert await StoreRegister(store, heard.append).withdraw(KEY, "new") is True
    assert not await exists(store)
    assert [type(update) for update in heard] == [Delete]


async def test_withdrawing_what_is_not_there_is_success(store: Store) -> None:
    register = StoreRegister(store)
    assert await register.withdraw(KEY, "a") is True
    await register.publish(endpoint("a"))
    await store.delete(KEY)
    assert await register.withdraw(KEY, "a") is True


@pytest.mark.parametrize("container", ["a", "b"])
async def test_a_write_of_someone_else_in_between_does_not_deceive_it(store: Store, container: str) -> None:
    """What the register remembers of its own writes saves a read, and never replaces the compare-and-swap."""
    register = StoreRegister(store)
    await register.publish(endpoint("a"))
    found = await store.get(KEY)
    await store.update(
        found.with_spec(WorkloadEndpointSpec(node="n1", container_id=container, mac="changed"))
    )
    assert await register.withdraw(KEY, "a") is (container == "a")
    assert await exists(store) is (container == "b")
