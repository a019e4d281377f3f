"""A waiting room with a bound: newer values replace older ones of the same key, and who puts too much waits."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Inbox(Generic[K, V]):
    """At most ``limit`` keys wait here, in the order in which their keys came first.

    One consumer, any number of producers, one event loop. A value that replaces another keeps the place in the order, and
    needs no room.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[K, V] = {}
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, key: K, value: V) -> None:
        """Leave a value; waits while the inbox is full."""
        while len(self._waiting) >= self._limit and key not in self._waiting:
            self._room.clear()
            await self._room.wait()
        self.put_now(key, value)
        self.ring()

    def put_now(self, key: K, value: V) -> None:
        """Leave a value without waiting, beyond the bound if need be: for the few that may not wait. Take it, or `ring`."""
        self._waiting[key] = value

    def ring(self) -> None:
        """Wake who waits for something to take."""
        self._filled.set()

    def take(self, most: int) -> list[V]:
        """Up to ``most`` values, the oldest keys first; none when it is empty."""
        taken = [self._waiting.pop(key) for key in list(islice(self._waiting, most))]
        if not self._waiting:
            self._filled.clear()
        if len(self._waiting) < self._limit:
            self._room.set()
        return taken

    async def wait(self) -> None:
        """Until there is something to take."""
        await self._filled.wait()
