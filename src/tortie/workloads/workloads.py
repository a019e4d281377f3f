"""The face of this room: what the CNI server calls. One request at a time a pod and a container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

from tortie.aio.checkpoints import checkpoint
from tortie.aio.joins import Recall
from tortie.aio.tasks import supervise
from tortie.cni.config import NetConf
from tortie.cni.errors import CNIError, Code
from tortie.cni.request import Request
from tortie.cni.result import Result
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.errors import DeadlineExceeded, InvalidResource
from tortie.observe import log
from tortie.workloads.addresses import check_delegate
from tortie.workloads.attach import attach
from tortie.workloads.check import check
from tortie.workloads.collect import Collector, collect_network
from tortie.workloads.detach import detach
from tortie.workloads.facts import require_pool, require_ready
from tortie.workloads.locks import Locks
from tortie.workloads.means import Delegate, Means
from tortie.workloads.sandbox import Sandbox

_log = log.get("workloads")

REQUEST_SECONDS = 90.0
"""The shim gives up after 120."""


@dataclass(frozen=True)
class NotReady:
    """Why the agent cannot serve ADD. ``limited``: what runs already may suffer too."""

    reason: str
    limited: bool = False


class Workloads:
    """ADD, DEL, CHECK, GC and STATUS of one node. ``readiness`` says why no ADD can be served now, or None; ``local`` is
    what should be real on this node, from the calculation."""

    def __init__(
        self,
        means: Means,
        *,
        readiness: Callable[[], NotReady | None] = lambda: None,
        local: Callable[[], Mapping[EndpointKey, EndpointRow]] = dict,
    ) -> None:
        self._means = means
        self._local = local
        self._readiness = readiness
        self._adding: dict[str, Recall] = {}
        self.locks = Locks()

    async def run(self) -> NoReturn:
        """What goes on beside the requests, for ever: facts from watches, and cleaning up after vanished pods."""
        collector = Collector(self._means, self.locks, self._local)
        await supervise({"workload facts": self._means.live.run, "vanished pods": collector.run})

    async def attach(self, request: Request, netns: int, delegate: Delegate) -> Result:
        """ADD. Raises `TortieError`, with nothing left behind."""
        sandbox = self._sandbox(request)
        async with self._turn(sandbox):
            checkpoint("add.accepted")
            recall = self._adding[sandbox.container_id] = Recall()
            try:
                result = await attach(self._means, sandbox, request, netns, delegate, recall)
            finally:
                del self._adding[sandbox.container_id]
            checkpoint("add.done")
            return result

    async def detach(self, request: Request, netns: int | None, delegate: Delegate) -> None:
        """DEL. An ADD for the same container that is still running stops and undoes itself first."""
        try:
            sandbox = self._sandbox(request)
        except InvalidResource as error:
            # ADD refuses such a name, so nothing bears it; told of an error, a runtime would keep the sandbox and ask for ever.
            _log.info("a DEL for a name that no ADD takes", container=request.container_id, reason=str(error))
            return
        if sandbox.container_id in self._adding:
            self._adding[sandbox.container_id].call_off()
        async with self._turn(sandbox):
            checkpoint("del.accepted")
            await detach(self._means, sandbox, request, netns, delegate)
            checkpoint("del.done")

    async def check(self, request: Request, netns: int, delegate: Delegate) -> None:
        """CHECK. Raises `CNIError` that names what differs."""
        sandbox = self._sandbox(request)
        async with self._turn(sandbox):
            await check(self._means, sandbox, request, netns, delegate)

    async def collect(self, config: NetConf, delegate: Delegate) -> None:
        """GC: what the network has on this node beside the attachments that the runtime still knows."""
        alive = frozenset((one.container_id, one.ifname) for one in config.alive or ())
        await collect_network(self._means, self.locks, config.name, alive)
        if not config.ipam.is_built_in:
            plugin = config.ipam.type
            end = await delegate("GC", plugin)
            try:
                check_delegate(plugin, "GC", end)
            except CNIError as error:
                if error.code != Code.INVALID_ENVIRONMENT:  # a plugin of an older spec knows no GC
                    raise

    async def status(self, config: NetConf, delegate: Delegate) -> None:
        """STATUS. Raises `CNIError` 50, or 51 when running pods may suffer too."""
        missing = self._readiness()
        if missing is not None:
            code = Code.LIMITED_CONNECTIVITY if missing.limited else Code.NOT_AVAILABLE
            raise CNIError(code, missing.reason)
        await require_ready(self._means)
        if config.ipam.is_built_in:
            await require_pool(self._means.store)

    def _sandbox(self, request: Request) -> Sandbox:
        prefix = self._means.interface_prefix()
        return Sandbox.of(request, node=self._means.node, interface_prefix=prefix)

    @asynccontextmanager
    async def _turn(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """Our turn for this sandbox, and no longer than a runtime waits."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS), self.locks.hold(*sandbox.locks):
                yield
        except TimeoutError:
            raise DeadlineExceeded(f"the request for {sandbox}", REQUEST_SECONDS) from None
