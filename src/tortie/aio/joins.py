"""Several things at once within one task, and work that another may call off; nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Wait for the end of both, then return what they did or raise the first one's error.

    When one fails, the other has ended too: an undo meets no latecomer.
    """
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


class Recall:
    """Lets another task call off what this one waits for. Costs nothing while nobody does."""

    def __init__(self) -> None:
        self.called_off = False
        self._waiting: asyncio.Timeout | None = None

    def call_off(self) -> None:
        """What is waited for stops now, and whoever asks later sees `called_off`."""
        self.called_off = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def wait(self, work: Awaitable[A]) -> A | None:
        """Do the work; None when it was called off. One piece of work at a time."""
        if self.called_off:
            if asyncio.iscoroutine(work):
                work.close()
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await work
        except TimeoutError:
            if not self.called_off:
                raise
            return None
        finally:
            self._waiting = None
