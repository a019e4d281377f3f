"""One at a time a pod and a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager


class Locks:
    """Locks by name, made on first use and forgotten with the last user. First come, first served."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, *names: Hashable) -> AsyncIterator[None]:
        """Hold all of them. They are taken in one order everywhere, so that two holders cannot wait for each other."""
        async with AsyncExitStack() as stack:
            for name in sorted(set(names), key=repr):
                await stack.enter_async_context(self._one(name))
            yield

    def is_held(self, name: Hashable) -> bool:
        """Whether someone holds it or waits for it."""
        return name in self._locks

    @asynccontextmanager
    async def _one(self, name: Hashable) -> AsyncIterator[None]:
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[name]
            if users == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, users - 1)
