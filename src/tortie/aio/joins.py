"""Two things at once within one task, without leaving either behind."""

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


async def unless(event: asyncio.Event, work: Awaitable[A]) -> A | None:
    """Do the work, but stop at once when the event is set: then None. The event wins over a result that came with it."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return None if event.is_set() else await doing
    finally:
        for task in (doing, stopping):
            task.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
