"""What the datastore says of a sandbox before anything is done: read all at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from tortie.cni.errors import CNIError, Code
from tortie.datastore.store import Store
from tortie.errors import NotFound, StoreUnavailable
from tortie.resources.cluster_information import CLUSTER_INFORMATION
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.workloads.sandbox import Sandbox

_CLUSTER = ResourceKey(CLUSTER_INFORMATION, "default")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """None: not stored. A pod that nobody stored still gets a network."""

    pod: Resource[Any] | None
    namespace: Resource[Any] | None
    endpoint: Resource[Any] | None


async def read_facts(store: Store, sandbox: Sandbox) -> Facts:
    """Raises `StoreUnavailable`, also while ``datastoreReady`` is false."""
    wanted = [_CLUSTER, sandbox.endpoint]
    if sandbox.pod:
        wanted.append(ResourceKey(POD, sandbox.pod, sandbox.namespace))
        wanted.append(ResourceKey(NAMESPACE, sandbox.namespace))
    found = await asyncio.gather(*(_get(store, key) for key in wanted))
    _refuse_unready(found[0])
    return Facts(
        endpoint=found[1],
        pod=found[2] if sandbox.pod else None,
        namespace=found[3] if sandbox.pod else None,
    )


async def require_ready(store: Store) -> None:
    """Raises `StoreUnavailable` while the datastore is away or locked."""
    _refuse_unready(await _get(store, _CLUSTER))


def _refuse_unready(cluster: Resource[Any] | None) -> None:
    if cluster is not None and cluster.spec.datastore_ready is False:
        raise StoreUnavailable(
            "ClusterInformation default says that the datastore is not ready (spec.datastoreReady: false): "
            "someone migrates or upgrades it; ADD and DEL work again when it is unlocked"
        )


async def _get(store: Store, key: ResourceKey) -> Resource[Any] | None:
    try:
        return await store.get(key)
    except NotFound:
        return None


async def require_pool(store: Store) -> None:
    """Raises `CNIError` 50 when no pool could give a pod an address."""
    async for page in store.list(IP_POOL):
        for update in page.updates:
            if isinstance(update, Put) and not update.resource.spec.disabled:
                return
    raise CNIError(
        Code.NOT_AVAILABLE,
        "there is no enabled IPPool to take addresses from; create one: tortie create -f …",
    )
