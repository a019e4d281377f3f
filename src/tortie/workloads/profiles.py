"""Profiles of namespaces and service accounts, where no controller makes them: allowing all, as Calico's do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, InvalidDocument, NotFound
from tortie.resources.profile import PROFILE, ProfileSpec
from tortie.resources.resource import Resource, ResourceKey
from tortie.resources.rules import Rule
from tortie.workloads.labels import OWN_NAME, follow, source_of

TRUST_SECONDS = 60.0
"""How long we believe that a profile which we saw is still there."""


class Profiles:
    """Makes what is missing, with the labels of what it stands for, and remembers for a while what is there."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, float] = {}

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


def allow_all(name: str) -> Resource[ProfileSpec]:
    """A profile that lets everything in and out, and gives its endpoints the name of what it stands for."""
    source = source_of(name)
    labels: dict[str, str] = {}
    if source is not None:
        labels[("pcsa." if source.within else "pcns.") + OWN_NAME] = source.name
    allow = (Rule(action="Allow"),)
    spec = ProfileSpec(ingress=allow, egress=allow, labels_to_apply=labels)
    return Resource(key=ResourceKey(PROFILE, name), spec=spec)
