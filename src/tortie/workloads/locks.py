"""One at a time a pod and a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Locks:
    """Locks by name, made on first use and forgotten with the last user. First come, first served."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, *names: Hashable) -> AsyncIterator[None]:
        """Hold all of them. They are taken in one order everywhere, so that two holders cannot wait for each other."""
        waited: list[Hashable] = []
        held: list[asyncio.Lock] = []
        try:
            for name in sorted(set(names), key=repr):
                lock, users = self._locks.get(name) or (asyncio.Lock(), 0)
                self._locks[name] = (lock, users + 1)
                waited.append(name)
                await lock.acquire()
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()
            for name in waited:
                self._leave(name)

    def is_held(self, name: Hashable) -> bool:
        """Whether someone holds it or waits for it."""
        return name in self._locks

    def _leave(self, name: Hashable) -> None:
        lock, users = self._locks.pop(name)
        if users > 1:
            self._locks[name] = (lock, users - 1)
