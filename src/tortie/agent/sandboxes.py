"""Which pod has which network namespace on this node, as the runtime told us with ADD: for `exec`-like questions of the operator.

Kept in files beside the sockets, so that a restarted agent still knows. Nothing depends on it: an unknown pod cannot be
probed from, and that is all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tortie.agent.cni_server import Delegate, Handler
from tortie.cni.config import NetConf
from tortie.cni.request import Request
from tortie.cni.result import Result
from tortie.desired.endpoints import EndpointKey
from tortie.errors import InvalidResource
from tortie.observe import log
from tortie.workloads.sandbox import Sandbox

NOTE_SECONDS = 0.1

logger = log.get("sandboxes")


class KnownSandbox(msgspec.Struct, frozen=True):
    """One interface of one container. ``endpoint`` names its WorkloadEndpoint."""

    container_id: str
    ifname: str
    netns: str
    namespace: str
    pod: str
    endpoint: str

    @property
    def key(self) -> EndpointKey:
        return EndpointKey(self.namespace, self.endpoint)


class Sandboxes:
    """A `Handler` around another that remembers what passes by."""

    def __init__(
        self, directory: Path, node: str, interface_prefix: Callable[[], str], handler: Handler
    ) -> None:
        self._directory = directory
        self._node = node
        self._prefix = interface_prefix
        self._handler = handler
        self._known: dict[EndpointKey, KnownSandbox] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.glob("*.json"):
            try:
                found = msgspec.json.decode(path.read_bytes(), type=KnownSandbox)
            except (OSError, msgspec.MsgspecError):
                path.unlink(missing_ok=True)
                continue
            self._known[found.key] = found

    @property
    def known(self) -> Mapping[EndpointKey, KnownSandbox]:
        return self._known

    def forget(self, key: EndpointKey) -> None:
        """The endpoint is gone, whoever took it away."""
        found = self._known.pop(key, None)
        if found is not None:
            self._note(found)

    async def attach(self, request: Request, netns: int, delegate: Delegate) -> Result:
        result = await self._handler.attach(request, netns, delegate)
        found = self._found(request)
        self._known[found.key] = found
        # Not on the way of the answer: the runtime waits for that, and nobody for the file.
        asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note, found)
        return result

    async def detach(self, request: Request, netns: int | None, delegate: Delegate) -> None:
        await self._handler.detach(request, netns, delegate)
        try:
            found = self._found(request)
        except InvalidResource:
            return  # a name that no ADD takes
        known = self._known.get(found.key)
        if known is not None and known.container_id == found.container_id:
            del self._known[found.key]
        asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note, found)

    async def check(self, request: Request, netns: int, delegate: Delegate) -> None:
        await self._handler.check(request, netns, delegate)

    async def collect(self, config: NetConf, delegate: Delegate) -> None:
        await self._handler.collect(config, delegate)

    async def status(self, config: NetConf, delegate: Delegate) -> None:
        await self._handler.status(config, delegate)

    def _found(self, request: Request) -> KnownSandbox:
        sandbox = Sandbox.of(request, node=self._node, interface_prefix=self._prefix())
        return KnownSandbox(
            container_id=request.container_id,
            ifname=request.ifname,
            netns=request.netns,
            namespace=sandbox.namespace,
            pod=sandbox.pod,
            endpoint=sandbox.endpoint.name,
        )

    def _note(self, sandbox: KnownSandbox) -> None:
        """Bring the sandbox's file in line with what is known by now."""
        path = self._directory / f"{sandbox.container_id}-{sandbox.ifname}.json"
        known = self._known.get(sandbox.key)
        try:
            if known is not None and known.container_id == sandbox.container_id:
                path.write_bytes(msgspec.json.encode(known))
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cannot note a sandbox", endpoint=str(sandbox.key), error=str(error))


def rows(
    endpoints: Mapping[EndpointKey, Any], known: Mapping[EndpointKey, KnownSandbox]
) -> list[dict[str, Any]]:
    """Every endpoint of this node, with the namespace it lives in where that is known."""
    made: list[dict[str, Any]] = []
    for key, row in sorted(endpoints.items()):
        sandbox = known.get(key)
        made.append(
            {
                "namespace": key.namespace,
                "endpoint": key.name,
                "pod": sandbox.pod if sandbox is not None else "",
                "container_id": sandbox.container_id if sandbox is not None else "",
                "netns": sandbox.netns if sandbox is not None else "",
                "interface": row.interface,
                "addresses": [str(address) for address in row.addresses],
                "up": row.up,
            }
        )
    return made
