"""Where endpoints are made known to every node, and taken back.

A datastore of its own kind has its own register: on the Kubernetes API an endpoint is a pod with annotations.
"""

from __future__ import annotations

from collections.abc import Callable
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

    async def withdraw(self, key: ResourceKey, container_id: str) -> bool:
        """Take it back, unless another container's stands there by now: then False. Absent is success."""
        ...


class StoreRegister:
    """Over a `Store`, by compare-and-swap. ``on_write`` hears at once of what is stored and gone now, so that this node's
    dataplane need not wait for the datastore to tell it."""

    def __init__(self, store: Store, on_write: Callable[[Update], None] = lambda update: None) -> None:
        self._store = store
        self._on_write = on_write
        self._published: dict[ResourceKey, tuple[str, Revision]] = {}
        """Ours as we wrote them, by container: saves a read where nobody else wrote since."""

    async def publish(self, endpoint: Resource[Any]) -> Revision:
        for _ in range(MOST_TRIES):
            try:
                if endpoint.revision is None:
                    stored = await self._store.create(endpoint)
                else:
                    stored = await self._store.update(endpoint)
            except (AlreadyExists, Conflict, NotFound):
                endpoint = await self._merged(endpoint)
            else:
                self._on_write(Put(stored))
                self._published[stored.key] = (stored.spec.container_id, _revision_of(stored))
                return _revision_of(stored)
        raise StoreUnavailable(f"{endpoint.key} is being changed by others all the time")

    async def withdraw(self, key: ResourceKey, container_id: str) -> bool:
        known = self._published.pop(key, None)
        revision = known[1] if known is not None and known[0] == container_id else None
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
            self._on_write(Delete(key))
            return True
        raise StoreUnavailable(f"{key} is being changed by others all the time")

    async def _merged(self, endpoint: Resource[Any]) -> Resource[Any]:
        """The same endpoint, ready to replace what stands there now; fields that we do not know stay."""
        try:
            found = await self._store.get(endpoint.key)
        except NotFound:
            return replace(endpoint, revision=None)
        return taking_the_place_of(found, endpoint)


def _revision_of(stored: Resource[Any]) -> Revision:
    if stored.revision is None:
        raise ValueError(f"the store returned {stored.key} without a revision")
    return stored.revision
