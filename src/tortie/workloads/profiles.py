"""Profiles of namespaces and service accounts, where no controller makes them: allowing all, as Calico's do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, InvalidDocument, NotFound
from tortie.resources.profile import PROFILE
from tortie.resources.resource import ResourceKey
from tortie.workloads.labels import allow_all, follow, source_of

TRUST_SECONDS = 60.0
"""How long we believe that a profile which we saw is still there."""


class Profiles:
    """Makes what is missing, with the labels of what it stands for, and remembers for a while what is there."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, float] = {}

    def forget(self, name: str) -> None:
        """It was deleted: the next pod that needs it has to have it made again."""
        self._seen.pop(name, None)

    async def ensure(self, names: Iterable[str]) -> None:
        """Raises `StoreError`."""
        now = self._clock()
        for name in names:
            if self._seen.get(name, 0.0) > now:
                continue
            try:
                await self._store.get(ResourceKey(PROFILE, name))
            except NotFound:
                with suppress(AlreadyExists, InvalidDocument):  # labels that nobody may have: without them
                    await self._store.create(allow_all(name))
                    if (source := source_of(name)) is not None:
                        await follow(self._store, source)
            self._seen[name] = now + TRUST_SECONDS
        if len(self._seen) > 10_000:
            self._seen = {name: until for name, until in self._seen.items() if until > now}
