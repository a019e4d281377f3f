"""What every ADD reads and what seldom changes, kept up to date by watches: is the datastore locked, and the namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from tortie.aio.backoff import Backoff
from tortie.aio.tasks import supervise
from tortie.datastore.store import Cursor, Store
from tortie.errors import NotFound, StoreError
from tortie.resources.cluster_information import CLUSTER_INFORMATION
from tortie.resources.namespace import NAMESPACE
from tortie.resources.resource import Kind, Put, Resource, ResourceKey, Update

KINDS = (CLUSTER_INFORMATION, NAMESPACE)


class LiveFacts:
    """A resource of these kinds, from the watch while it is sound, else from the datastore. Works without `run`, too."""

    def __init__(self, store: Store) -> None:
        self._store = store
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

    @staticmethod
    def _fold(known: dict[ResourceKey, Resource[Any]], updates: Sequence[Update]) -> None:
        for update in updates:
            if isinstance(update, Put):
                known[update.key] = update.resource
            else:
                known.pop(update.key, None)
