from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, NotFound, StoreUnavailable
from tortie.resources.resource import Put, Resource, ResourceKey, Revision, Update
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec
from tortie.workloads.register import StoreRegister

KEY = ResourceKey(WORKLOAD_ENDPOINT, "n1-k8s-p-eth0", "default")


def endpoint(container: str) -> Resource[WorkloadEndpointSpec]:
    return Resource(key=KEY, spec=WorkloadEndpointSpec(node="n1", container_id=container))


class Noting:
    """Notes what the register tells of its own writes."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def hold(self, key: ResourceKey) -> None:
        self.heard.append("hold")

    def announce(self, update: Update) -> None:
        self.heard.append("announce")

    def write_through(self, update: Update) -> None:
        self.heard.append("put" if isinstance(update, Put) else "delete")

    def give_up(self, update: Update) -> None:
        self.heard.append("restore" if isinstance(update, Put) else "remove")


class AwayStore:
    """Raises on every write; ``found`` is what a read finds."""

    def __init__(self, found: Resource[Any] | None) -> None:
        self._found = found

    async def get(self, key: ResourceKey) -> Resource[Any]:
        if self._found is None:
            raise NotFound(str(key))
        return self._found

    async def create(self, resource: Resource[Any]) -> Resource[Any]:
        if self._found is not None:
            raise AlreadyExists(str(resource.key))
        raise StoreUnavailable("away")

    async def update(self, resource: Resource[Any]) -> Resource[Any]:
        raise StoreUnavailable("away")

    async def delete(self, key: ResourceKey, *, revision: Revision | None = None) -> None:
        raise StoreUnavailable("away")


@pytest.mark.parametrize(("found", "end"), [(None, "remove"), (True, "restore")])
async def test_what_could_not_be_published_is_taken_back(found: bool | None, end: str) -> None:
    noting = Noting()
    there = replace(endpoint("old"), revision=Revision("1")) if found else None
    with pytest.raises(StoreUnavailable):
        await StoreRegister(cast("Store", AwayStore(there)), noting).publish(endpoint("a"))
    assert noting.heard == ["announce", end]


async def test_what_is_there_is_not_announced_away(store: Store) -> None:
    noting = Noting()
    await StoreRegister(store).publish(endpoint("a"))
    there = await store.get(KEY)
    await StoreRegister(store, noting).publish(there.with_spec(endpoint("b").spec))
    assert noting.heard == ["hold", "put"]


async def exists(store: Store) -> bool:
    try:
        await store.get(KEY)
    except NotFound:
        return False
    return True


async def test_publishing_returns_the_stored_revision(store: Store) -> None:
    noting = Noting()
    register = StoreRegister(store, noting)
    revision = await register.publish(endpoint("a"))
    assert (await store.get(KEY)).revision == revision
    assert noting.heard == ["announce", "put"]


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
    noting = Noting()
    assert await StoreRegister(store, noting).withdraw(KEY, "new") is True
    assert not await exists(store)
    assert noting.heard == ["hold", "delete"]


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
