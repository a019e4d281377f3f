"""What every ADD reads, kept up to date by watches: is the datastore locked, the namespaces, and this node's pods."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from tortie.aio.backoff import Backoff
from tortie.aio.tasks import supervise
from tortie.datastore.store import Cursor, Store, Unchanged
from tortie.errors import NotFound, StoreError
from tortie.resources.cluster_information import CLUSTER_INFORMATION
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.resource import Kind, Put, Resource, ResourceKey, Update

KINDS = (CLUSTER_INFORMATION, NAMESPACE, POD)


class Recalled(NamedTuple):
    """A resource out of memory (None: there is none), and what makes sure that it is still so."""

    resource: Resource[Any] | None
    unchanged: Unchanged


class LiveFacts:
    """A resource of these kinds, from the watch while it is sound, else from the datastore. Works without `run`, too.

    Of pods it keeps those of ``node``, and those that nobody has given to a node."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._stored: dict[Kind, dict[ResourceKey, Resource[Any]]] = {}

    async def get(self, key: ResourceKey) -> Resource[Any] | None:
        """None: not stored. Raises `StoreError`, `InvalidResource`."""
        known = self._stored.get(key.kind)
        if known is not None and (found := known.get(key)) is not None:
            return found
        # What is not known may have been made a moment ago, and that it is locked must not be missed.
        try:
            return await self._store.get(key)
        except NotFound:
            return None

    def recall(self, key: ResourceKey) -> Recalled | None:
        """As the watch last told, which may be a moment old: whoever relies on it writes only while it is ``unchanged``.
        None while there is no watch."""
        known = self._stored.get(key.kind)
        if known is None:
            return None
        found = known.get(key)
        return Recalled(found, {key: None if found is None else found.revision})

    async def run(self) -> NoReturn:
        """Watch for ever. Raises nothing but cancellation: what the datastore does is retried with back-off."""
        await supervise({f"workloads watch {kind.name}": partial(self._follow, kind) for kind in KINDS})

    async def _follow(self, kind: Kind) -> None:
        delays = Backoff(first_seconds=0.2, most_seconds=5)
        while True:
            try:
                cursor = await self._list(kind)
                delays.reset()
                async with self._store.watch(kind, after=cursor) as changes:
                    async for change in changes:
                        self._fold(self._stored[kind], change.updates)
            except StoreError:
                pass
            finally:
                self._stored.pop(kind, None)
            await asyncio.sleep(delays.next_seconds())

    async def _list(self, kind: Kind) -> Cursor:
        found: dict[ResourceKey, Resource[Any]] = {}
        cursor = Cursor("")
        async for page in self._store.list(kind):
            cursor = page.cursor
            self._fold(found, page.updates)
        self._stored[kind] = found
        return cursor

    def _fold(self, known: dict[ResourceKey, Resource[Any]], updates: Sequence[Update]) -> None:
        for update in updates:
            if isinstance(update, Put) and self._concerns_us(update.resource):
                known[update.key] = update.resource
            else:
                known.pop(update.key, None)

    def _concerns_us(self, resource: Resource[Any]) -> bool:
        return resource.key.kind != POD or resource.spec.node_name in ("", self._node)
