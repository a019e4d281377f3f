"""What nobody will delete any more: GC by the runtime's list, and the remains of pods whose namespace has vanished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tortie.datastore.store import Store
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.errors import NotFound, TortieError
from tortie.ipam import records
from tortie.ipam.blocks import holders
from tortie.observe import log
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.resources.workload_endpoint import NETWORK_ANNOTATION, WORKLOAD_ENDPOINT
from tortie.workloads import names
from tortie.workloads.endpoint import belongs_to
from tortie.workloads.locks import Locks
from tortie.workloads.means import Means
from tortie.workloads.sandbox import Sandbox

_log = log.get("workloads")

LOOK_SECONDS = 5.0
GRACE_SECONDS = 10.0
"""An interface must have been missing for so long, at the same revision of its endpoint, before anything is done."""


async def collect_network(
    means: Means, locks: Locks, network: str, alive: frozenset[tuple[str, str]]
) -> list[Sandbox]:
    """GC: remove what the network has on this node but for ``alive`` (container id and interface). Returns what went.

    One that fails does not stop the next; the first error is raised at the end. Raises `StoreError`, `KernelError`.
    """
    gone: list[Sandbox] = []
    await _release_promised(means, locks, network, alive)
    failure: TortieError | None = None
    for endpoint in await _endpoints_of(means.store, means.node, network):
        if (endpoint.spec.container_id, endpoint.spec.endpoint) in alive:
            continue
        try:
            if await _remove(means, locks, endpoint, network):
                gone.append(Sandbox.from_endpoint(endpoint, network))
        except TortieError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return gone


class Collector:
    """Finds endpoints of this node whose interface is gone: a veth dies with the namespace of its pod, and nobody can
    bring it back. ``local`` is what should be real here, from the calculation.

    Careful on purpose: an endpoint must be seen twice without its interface, unchanged, with no request for it under
    way, and written by an ADD of ours; and the node must have no wire of a pod under a name that no endpoint has, for that
    may be its own, renamed.
    """

    def __init__(
        self,
        means: Means,
        locks: Locks,
        local: Callable[[], Mapping[EndpointKey, EndpointRow]],
        *,
        grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._means = means
        self._locks = locks
        self._local = local
        self._grace = grace_seconds
        self._clock = clock
        self._missing: dict[tuple[EndpointKey, str], float] = {}
        self._strays: frozenset[str] = frozenset()

    async def run(self) -> NoReturn:
        """Look again and again; a failure is logged and tried anew."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except TortieError as error:
                _log.warning("cannot clean up after vanished pods", reason=str(error))

    async def look(self) -> list[EndpointKey]:
        """One look; returns the endpoints that were removed. Raises `StoreError`, `KernelError`."""
        now = self._clock()
        exists = self._means.links.exists
        missing = {(key, row.revision) for key, row in self._local().items() if not exists(row.interface)}
        self._missing = {key: self._missing.get(key, now) for key in missing}
        due = sorted(key for key, since in self._missing.items() if now - since >= self._grace)
        if not due or await self._may_be_renamed():
            return []
        return [key for key, revision in due if await self._remove(key, revision)]

    async def _may_be_renamed(self) -> bool:
        known = {row.interface for row in self._local().values()}
        strays = await self._means.links.host_ends() - known
        if strays and strays != self._strays:
            _log.warning(
                "not cleaning up after vanished pods: these interfaces are wires of pods, and no endpoint names them",
                interfaces=", ".join(sorted(strays)),
            )
        self._strays = strays
        return bool(strays)

    async def _remove(self, key: EndpointKey, revision: str) -> bool:
        try:
            found = await self._means.store.get(ResourceKey(WORKLOAD_ENDPOINT, key.name, key.namespace))
        except NotFound:
            return False
        network = found.metadata.annotations.get(NETWORK_ANNOTATION, "")
        if not network or found.revision != revision or found.spec.node != self._means.node:
            return False
        if not await _remove(self._means, self._locks, found, network):
            return False
        _log.info("a pod vanished without a DEL; its endpoint and addresses are free", endpoint=str(key))
        return True


async def _release_promised(
    means: Means, locks: Locks, network: str, alive: frozenset[tuple[str, str]]
) -> None:
    """Addresses of this node's blocks that an ADD took and published nothing for, as when the machine died in its midst."""
    kept = {names.handle_id(network, container_id, ifname) for container_id, ifname in alive}
    kept |= {
        Sandbox.from_endpoint(endpoint, network).handle
        for endpoint in await _endpoints_of(means.store, means.node, network)
    }
    for affinity in await records.affinities(means.store, means.node):
        cidr = records.prefix_of_key(affinity.key)
        block = await records.find_block(means.store, cidr) if cidr is not None else None
        if block is None:
            continue
        for who in holders(block.spec).values():
            handle = who.handle or ""
            if handle in kept or not handle.startswith(f"{network}."):
                continue
            container_id = handle.removeprefix(f"{network}.")
            if who.attributes.get("node") == means.node and not locks.is_held(f"container {container_id}"):
                await means.allocator.release_handle(handle)


async def _endpoints_of(store: Store, node: str, network: str) -> list[Resource[Any]]:
    return [
        update.resource
        async for page in store.list(WORKLOAD_ENDPOINT)
        for update in page.updates
        if isinstance(update, Put)
        and update.resource.spec.node == node
        and belongs_to(update.resource, network)
    ]


async def _remove(means: Means, locks: Locks, endpoint: Resource[Any], network: str) -> bool:
    """Take it away, unless a request for it is under way or it has changed meanwhile."""
    sandbox = Sandbox.from_endpoint(endpoint, network)
    if any(locks.is_held(name) for name in sandbox.locks):
        return False
    async with locks.hold(*sandbox.locks):
        if not await means.register.withdraw(sandbox.endpoint, sandbox.container_id):
            return False
        await means.links.remove(sandbox.host_name)
        await means.allocator.release_handle(sandbox.handle)
    return True
