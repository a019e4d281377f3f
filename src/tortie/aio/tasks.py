"""The only place that makes tasks: eternal loops over one TaskGroup, and finite work under a name and a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class LoopEnded(Exception):
    """An eternal loop returned, which none may do."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the loop {self.name!r} ended"


async def supervise(loops: Mapping[str, Callable[[], Awaitable[None]]]) -> NoReturn:
    """Run eternal loops side by side; when one ends, all end.

    A single failure is re-raised as it was, with the loop's name as a note; several as an exception group.
    """

    async def guarded(name: str, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except Exception as error:
            error.add_note(f"in the loop {name!r}")
            raise
        raise LoopEnded(name)

    try:
        async with asyncio.TaskGroup() as group:
            for name, loop in loops.items():
                group.create_task(guarded(name, loop), name=name)
    except BaseExceptionGroup as failures:
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from None
        raise
    raise LoopEnded("supervise was given none")


class Group:
    """Finite work, each piece with a name, at most ``limit`` at once. Servers use it.

    A piece that fails is handed to ``on_error`` and disturbs no other. `close` waits ``grace_seconds``, then cancels.
    """

    def __init__(self, limit: int, on_error: Callable[[str, BaseException], None]) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin as soon as there is a slot. The caller may await or shield the task; it lives on without that."""
        task = asyncio.create_task(self._bounded(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _bounded(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            await self._slots.acquire()
        except BaseException:
            work.close()
            raise
        try:
            return await work
        finally:
            self._slots.release()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(task.get_name(), error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self, grace_seconds: float = 5.0) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
