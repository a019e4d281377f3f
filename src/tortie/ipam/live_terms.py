"""The terms, kept up to date by watches while `LiveTerms.run` runs; unknown whenever a watch is not sure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from tortie.aio.backoff import Backoff
from tortie.aio.tasks import supervise
from tortie.datastore.store import Cursor, Store
from tortie.errors import StoreError
from tortie.ipam.terms import CONFIGURATION_KEY, Terms, make_terms
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.ip_reservation import IP_RESERVATION
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION
from tortie.resources.node import NODE
from tortie.resources.resource import Invalid, Kind, Put, Resource, ResourceKey, Update

KINDS = (IP_POOL, IP_RESERVATION, IPAM_CONFIGURATION, NODE)


class LiveTerms:
    """What the watches have told so far."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = ResourceKey(NODE, node)
        self._stored: dict[Kind, dict[ResourceKey, Resource[Any]]] = {}
        self._terms: Terms | None = None
        self._readable = True

    def current(self) -> Terms | None:
        """None while nobody watches, a watch is broken or the configuration is invalid: then read, which tells why."""
        if self._terms is None and self._readable and len(self._stored) == len(KINDS):
            self._terms = make_terms(
                configuration=self._stored[IPAM_CONFIGURATION].get(CONFIGURATION_KEY),
                pools=list(self._stored[IP_POOL].values()),
                reservations=list(self._stored[IP_RESERVATION].values()),
                node=self._stored[NODE].get(self._node),
            )
        return self._terms

    async def run(self) -> NoReturn:
        """Watch for ever. Raises nothing but cancellation: what the datastore does is retried with back-off."""
        try:
            await supervise({f"ipam watches {kind.name}": partial(self._follow, kind) for kind in KINDS})
        finally:
            self._stored.clear()
            self._terms = None

    async def _follow(self, kind: Kind) -> None:
        delays = Backoff(first_seconds=0.2, most_seconds=5)
        while True:
            try:
                cursor = await self._list(kind)
                delays.reset()
                async with self._store.watch(kind, after=cursor) as changes:
                    async for change in changes:
                        self._fold(kind, change.updates)
            except StoreError:
                pass
            self._stored.pop(kind, None)
            self._terms = None
            await asyncio.sleep(delays.next_seconds())

    async def _list(self, kind: Kind) -> Cursor:
        found: dict[ResourceKey, Resource[Any]] = {}
        cursor = Cursor("")
        async for page in self._store.list(kind):
            cursor = page.cursor
            for update in page.updates:
                self._note_validity(update)
                if isinstance(update, Put) and self._cares(update.key):
                    found[update.key] = update.resource
        self._stored[kind] = found
        self._terms = None
        return cursor

    def _cares(self, key: ResourceKey) -> bool:
        return key.kind != NODE or key == self._node

    def _fold(self, kind: Kind, updates: Sequence[Update]) -> None:
        stored = self._stored[kind]
        for update in updates:
            self._note_validity(update)
            if not self._cares(update.key):
                continue
            if isinstance(update, Put):
                stored[update.key] = update.resource
            else:
                stored.pop(update.key, None)
            self._terms = None

    def _note_validity(self, update: Update) -> None:
        if update.key == CONFIGURATION_KEY:
            self._readable = not isinstance(update, Invalid)
