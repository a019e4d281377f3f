"""The one thread in which the dataplane speaks to the kernel, in the node's namespace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from tortie.kernel import netns
from tortie.kernel.netns import Namespace

T = TypeVar("T")


class KernelThread:
    """Runs blocking calls one after the other, off the event loop. Sockets that are made here live in ``namespace``,
    and so does /proc/sys/net (None: where the process is)."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dataplane")
        self._namespace = namespace
        self._entered = namespace is None
        self._ident = 0

    async def run(self, function: Callable[[], T]) -> T:
        """Raises what the function raises. A caller that is cancelled leaves it running to its end."""
        if threading.get_ident() == self._ident:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._call, function)

    async def together(self, steps: Coroutine[Any, Any, T]) -> T:
        """Run there what waits for nothing but `run`: handing over after each step would take longer than most steps."""
        return await self.run(lambda: _without_waiting(steps))

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """As `run`, for callbacks of the event loop."""
        return self._executor.submit(self._call, function)

    def _call(self, function: Callable[[], T]) -> T:
        self._ident = threading.get_ident()
        if not self._entered and self._namespace is not None:
            netns.enter_for_good(self._namespace)
            self._entered = True
        return function()

    def close(self) -> None:
        self._executor.shutdown(wait=True)


def _without_waiting(steps: Coroutine[Any, Any, T]) -> T:
    try:
        steps.send(None)
    except StopIteration as end:
        done: T = end.value
        return done
    steps.close()
    raise RuntimeError("steps in the dataplane's thread waited for something else")
