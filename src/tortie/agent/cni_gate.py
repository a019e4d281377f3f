"""What a container runtime meets while the agent starts: it waits a moment, and is then told what the agent waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tortie.agent.cni_server import Delegate, Handler
from tortie.cni.config import NetConf
from tortie.cni.errors import CNIError, Code
from tortie.cni.request import Request
from tortie.cni.result import Result

WAIT_SECONDS = 15.0
"""A restart takes less; a runtime gives a plugin far more."""


class Gate:
    """A `Handler` that is shut until `open` is called. ``why`` says what the agent waits for."""

    def __init__(self, why: Callable[[], str], *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._why = why
        self._wait_seconds = wait_seconds
        self._handler: asyncio.Future[Handler] | None = None

    def open(self, handler: Handler) -> None:
        """Let requests through to this handler."""
        self._future().set_result(handler)

    async def attach(self, request: Request, netns: int, delegate: Delegate) -> Result:
        return await (await self._through()).attach(request, netns, delegate)

    async def detach(self, request: Request, netns: int | None, delegate: Delegate) -> None:
        await (await self._through()).detach(request, netns, delegate)

    async def check(self, request: Request, netns: int, delegate: Delegate) -> None:
        await (await self._through()).check(request, netns, delegate)

    async def collect(self, config: NetConf, delegate: Delegate) -> None:
        await (await self._through()).collect(config, delegate)

    async def status(self, config: NetConf, delegate: Delegate) -> None:
        """Never waits: the question is whether it would have to."""
        if not self._future().done():
            raise CNIError(Code.NOT_AVAILABLE, self._text())
        await self._future().result().status(config, delegate)

    async def _through(self) -> Handler:
        future = self._future()
        if future.done():
            return future.result()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            raise CNIError(Code.TRY_LATER, self._text()) from None

    def _text(self) -> str:
        return f"the agent of this node is not ready: {self._why() or 'it is starting'}"

    def _future(self) -> asyncio.Future[Handler]:
        if self._handler is None:
            self._handler = asyncio.get_running_loop().create_future()
        return self._handler
