"""What every cluster needs and a new one has not: a pool, ClusterInformation, settings under which pods reach nodes, and the
built-in tiers, which Calico's nodes and tools look for.

Any node may be the first, and several at once: everything is written where it is absent, or field by field where unset.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from tortie.agent.autodetect import HostInterface
from tortie.agent.default_pools import default_pool
from tortie.agent.node_options import NodeOptions
from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, Conflict, NotFound
from tortie.net.addresses import Version
from tortie.resources.cluster_information import CLUSTER_INFORMATION, ClusterInformationSpec
from tortie.resources.felix_configuration import FELIX_CONFIGURATION, FelixConfigurationSpec
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.resource import Invalid, Kind, Put, Resource, ResourceKey
from tortie.resources.tier import BUILT_IN, TIER, TierSpec, default_action

MOST_TRIES = 20
"""How often a write is tried again after someone else was faster."""
VERSIONS: tuple[Version, ...] = (4, 6)


def missing_pools(
    options: NodeOptions, interfaces: Sequence[HostInterface], pools: Sequence[Resource[IPPoolSpec]]
) -> list[Resource[IPPoolSpec]]:
    """The default pools of those IP versions that have none and want one. Raises `UsageError`, `InvalidResource`."""
    made: list[Resource[IPPoolSpec]] = []
    for version in VERSIONS if options.default_pools else ():
        if any((":" in pool.spec.cidr) == (version == 6) for pool in pools):
            continue
        if version == 6 and options.want[6] == "none" and options.pools[6].cidr is None:
            continue
        pool = default_pool(version, options.pools[version], interfaces)
        if pool is not None:
            made.append(pool)
    return made


async def ensure_cluster_information(store: Store, cluster_type: str) -> None:
    def completed(spec: ClusterInformationSpec) -> ClusterInformationSpec:
        return msgspec.structs.replace(
            spec,
            cluster_guid=spec.cluster_guid or uuid.uuid4().hex,
            cluster_type=spec.cluster_type or cluster_type,
            datastore_ready=True if spec.datastore_ready is None else spec.datastore_ready,
        )

    await _amend(store, ResourceKey(CLUSTER_INFORMATION, "default"), ClusterInformationSpec(), completed)


async def ensure_felix_configuration(store: Store) -> None:
    """With Calico's own defaults a pod's packet to a node is masqueraded, and the node drops it."""

    def completed(spec: FelixConfigurationSpec) -> FelixConfigurationSpec:
        return msgspec.structs.replace(
            spec,
            nat_outgoing_exclusions=spec.nat_outgoing_exclusions or "IPPoolsAndHostIPs",
            default_endpoint_to_host_action=spec.default_endpoint_to_host_action or "Return",
        )

    await _amend(store, ResourceKey(FELIX_CONFIGURATION, "default"), FelixConfigurationSpec(), completed)


async def ensure_tiers(store: Store) -> None:
    """Those that are built in, as Calico's nodes write them. To our own calculation they exist in any case."""
    there = {tier.key.name async for tier in every(store, TIER)}
    for name in BUILT_IN.keys() - there:
        spec = TierSpec(order=BUILT_IN[name], default_action=default_action(name))
        await create_if_absent(store, Resource(key=ResourceKey(TIER, name), spec=spec))


async def stored_or_none(store: Store, key: ResourceKey) -> Resource[Any] | None:
    try:
        return await store.get(key)
    except NotFound:
        return None


async def every(store: Store, kind: Kind) -> AsyncIterator[Resource[Any]]:
    """Every readable resource of a kind; of an invalid one what can be read."""
    async for page in store.list(kind):
        for update in page.updates:
            if isinstance(update, Put):
                yield update.resource
            elif isinstance(update, Invalid) and update.readable is not None:
                yield update.readable


async def pools_of(store: Store) -> list[Resource[IPPoolSpec]]:
    return [resource async for resource in every(store, IP_POOL)]


async def create_if_absent(store: Store, resource: Resource[Any]) -> None:
    try:
        await store.create(resource)
    except AlreadyExists:
        return


async def _amend(store: Store, key: ResourceKey, empty: Any, completed: Callable[[Any], Any]) -> None:
    """Fill in what is unset, and write only when something was."""
    for _ in range(MOST_TRIES):
        stored = await stored_or_none(store, key)
        before = stored if stored is not None else Resource(key=key, spec=empty)
        if await written(store, stored, before.with_spec(completed(before.spec))):
            return
    raise Conflict(str(key))


async def written(store: Store, stored: Resource[Any] | None, wanted: Resource[Any]) -> bool:
    """False when someone else was faster: read again."""
    try:
        if stored is None:
            await store.create(wanted)
        elif wanted.spec != stored.spec or wanted.metadata.annotations != stored.metadata.annotations:
            await store.update(wanted)
    except (AlreadyExists, Conflict, NotFound):
        return False
    return True
