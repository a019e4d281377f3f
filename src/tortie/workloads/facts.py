"""What the datastore says of a sandbox, and whether it may be changed now."""

from __future__ import annotations

from typing import Any

from tortie.cni.errors import CNIError, Code
from tortie.datastore.store import NOTHING, Store
from tortie.errors import NotFound, StoreUnavailable
from tortie.resources.cluster_information import CLUSTER_INFORMATION
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.workloads.live_facts import Recalled
from tortie.workloads.means import Means
from tortie.workloads.sandbox import Sandbox

_CLUSTER = ResourceKey(CLUSTER_INFORMATION, "default")


async def read_pod(means: Means, sandbox: Sandbox) -> Resource[Any] | None:
    """None: no pod is named, or nobody stored it; it gets a network all the same. Raises `StoreError`."""
    if not sandbox.pod:
        return None
    try:
        return await means.store.get(ResourceKey(POD, sandbox.pod, sandbox.namespace))
    except NotFound:
        return None


def recall_pod(means: Means, sandbox: Sandbox) -> Recalled | None:
    """As `read_pod`, out of memory; None: only the datastore knows."""
    if not sandbox.pod:
        return Recalled(None, NOTHING)
    return means.live.recall(ResourceKey(POD, sandbox.pod, sandbox.namespace))


async def read_namespace(means: Means, sandbox: Sandbox) -> Resource[Any] | None:
    """As `read_pod`, of the pod's namespace."""
    if not sandbox.pod:
        return None
    return await means.live.get(ResourceKey(NAMESPACE, sandbox.namespace))


async def require_ready(means: Means) -> None:
    """Raises `StoreUnavailable` while the datastore is away or locked."""
    cluster = await means.live.get(_CLUSTER)
    if cluster is not None and cluster.spec.datastore_ready is False:
        raise StoreUnavailable(
            "ClusterInformation default says that the datastore is not ready (spec.datastoreReady: false): "
            "someone migrates or upgrades it; ADD and DEL work again when it is unlocked"
        )


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
