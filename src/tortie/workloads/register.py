"""Where endpoints are made known to every node, and taken back.

A datastore of its own kind has its own register: on the Kubernetes API an endpoint is a pod with annotations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, Conflict, NotFound, StoreUnavailable
from tortie.resources.resource import Delete, Put, Resource, ResourceKey, Revision, Update
from tortie.workloads.endpoint import taking_the_place_of

MOST_TRIES = 20
"""Each lost race means that someone else got on; so many in a row mean that something is wrong."""


class EndpointRegister(Protocol):
    async def publish(self, endpoint: Resource[Any]) -> Revision:
        """Make it known, in place of what stood there. Returns the stored revision. Raises `StoreError`."""
        ...

    def may_be_carried(self, key: ResourceKey) -> bool:
        """Whether the write of its addresses, which is about to begin, may carry a new endpoint along."""
        ...

    def carried(self, endpoint: Resource[Any]) -> Revision:
        """It was, and stands now. Returns its revision."""
        ...

    def may_leave(self, key: ResourceKey, container_id: str) -> Resource[Any] | None:
        """The endpoint as it stands as far as we know, if it is this container's and the release of its addresses, which
        is about to begin, may delete it along; `left` follows when it did."""
        ...

    def left(self, endpoint: Resource[Any]) -> None:
        """It is deleted."""
        ...

    async def withdraw(self, key: ResourceKey, container_id: str) -> bool:
        """Take it back, unless another container's stands there by now: then False. Absent is success."""
        ...


class OwnWrites(Protocol):
    """Hears of what we write, so that this node's dataplane need not wait for the datastore to tell it."""

    def hold(self, key: ResourceKey) -> None:
        """We are about to write this key."""
        ...

    def announce(self, update: Update) -> None:
        """We are about to write this, and want it to be real as soon as may be."""
        ...

    def write_through(self, update: Update) -> None:
        """The datastore holds this now."""
        ...

    def give_up(self, update: Update) -> None:
        """What was announced is not written; this is what was there before."""
        ...


class _Nobody:
    def hold(self, key: ResourceKey) -> None: ...

    def announce(self, update: Update) -> None: ...

    def write_through(self, update: Update) -> None: ...

    def give_up(self, update: Update) -> None: ...


class StoreRegister:
    """Over a `Store`, by compare-and-swap."""

    def __init__(self, store: Store, own_writes: OwnWrites | None = None) -> None:
        self._store = store
        self._own_writes: OwnWrites = _Nobody() if own_writes is None else own_writes
        self._published: dict[ResourceKey, Resource[Any]] = {}
        """Ours as we wrote them: saves a read where nobody else wrote since."""

    async def publish(self, endpoint: Resource[Any]) -> Revision:
        before: Update | None = None
        if endpoint.revision is None:
            before = Delete(endpoint.key)
            self._own_writes.announce(Put(endpoint))
        else:
            self._own_writes.hold(endpoint.key)
        try:
            for _ in range(MOST_TRIES):
                try:
                    if endpoint.revision is None:
                        stored = await self._store.create(endpoint)
                    else:
                        stored = await self._store.update(endpoint)
                except (AlreadyExists, Conflict, NotFound):
                    found = await self._find(endpoint.key)
                    before = before and (Delete(endpoint.key) if found is None else Put(found))
                    endpoint = _ready_to_replace(found, endpoint)
                else:
                    return self.carried(stored)
            raise StoreUnavailable(f"{endpoint.key} is being changed by others all the time")
        except BaseException:
            # It may be written all the same; then the datastore will say so.
            if before is not None:
                self._own_writes.give_up(before)
            raise

    def may_be_carried(self, key: ResourceKey) -> bool:
        self._own_writes.hold(key)
        return True

    def carried(self, endpoint: Resource[Any]) -> Revision:
        self._own_writes.write_through(Put(endpoint))
        revision = _revision_of(endpoint)
        self._published[endpoint.key] = endpoint
        return revision

    def may_leave(self, key: ResourceKey, container_id: str) -> Resource[Any] | None:
        known = self._published.get(key)
        if known is None or known.spec.container_id != container_id:
            return None
        self._own_writes.hold(key)
        return known

    def left(self, endpoint: Resource[Any]) -> None:
        self._published.pop(endpoint.key, None)
        self._own_writes.write_through(Delete(endpoint.key))

    async def withdraw(self, key: ResourceKey, container_id: str) -> bool:
        self._own_writes.hold(key)
        known = self._published.pop(key, None)
        ours = known is not None and known.spec.container_id == container_id
        revision = known.revision if known is not None and ours else None
        for _ in range(MOST_TRIES):
            try:
                if revision is None:
                    found = await self._store.get(key)
                    if found.spec.container_id != container_id:
                        return False
                    revision = found.revision
                await self._store.delete(key, revision=revision)
            except NotFound:
                return True
            except Conflict:
                revision = None
                continue
            self._own_writes.write_through(Delete(key))
            return True
        raise StoreUnavailable(f"{key} is being changed by others all the time")

    async def _find(self, key: ResourceKey) -> Resource[Any] | None:
        try:
            return await self._store.get(key)
        except NotFound:
            return None


def _ready_to_replace(found: Resource[Any] | None, endpoint: Resource[Any]) -> Resource[Any]:
    """The same endpoint for the place of what stands there now; fields that we do not know stay."""
    return replace(endpoint, revision=None) if found is None else taking_the_place_of(found, endpoint)


def _revision_of(stored: Resource[Any]) -> Revision:
    if stored.revision is None:
        raise ValueError(f"the store returned {stored.key} without a revision")
    return stored.revision
