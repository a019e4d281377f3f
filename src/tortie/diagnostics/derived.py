"""What Kubernetes' documents alone imply, for questions about files: endpoints of pods, profiles of namespaces and accounts.

A pod that no endpoint stands for yet gets a stand-in, made as ADD would make it. Its address is that of the document's status,
or one that nothing else has; `StandIns` knows which are such, so that an answer that hangs on one can say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tortie.net.addresses import Address, Prefix, Version
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.profile import PROFILE
from tortie.resources.resource import Put, Resource, ResourceKey, Update
from tortie.resources.service_account import SERVICE_ACCOUNT
from tortie.resources.shape import is_array, is_object
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT
from tortie.workloads.endpoint import build_endpoint
from tortie.workloads.labels import allow_all, endpoint_after, profile_after, profile_without, source_of
from tortie.workloads.names import DEFAULT_INTERFACE, pod_interface
from tortie.workloads.sandbox import Sandbox
from tortie.workloads.wishes import Wishes

_NOWHERE = {4: Prefix.parse("240.0.0.0/4"), 6: Prefix.parse("100::/64")}
"""Addresses that no machine has: where stand-ins come from when no pool is known."""
_EVERYWHERE = (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))
_PREFIX = "cali"
_NETWORK = "k8s-pod-network"


@dataclass(frozen=True)
class StandIns:
    """``addresses`` are made up; the real ones will come from ``ranges``."""

    addresses: frozenset[Address] = frozenset()
    ranges: tuple[Prefix, ...] = _EVERYWHERE
    resources: tuple[Resource[Any], ...] = field(default=(), compare=False)


def stand_ins(resources: Sequence[Resource[Any]]) -> StandIns:
    """Endpoints for the pods that have none, with addresses."""
    there = {(each.key.within, each.spec.pod) for each in resources if each.key.kind == WORKLOAD_ENDPOINT}
    pools = [
        Prefix.parse(each.spec.cidr, strict=False)
        for each in resources
        if each.key.kind == IP_POOL and not each.spec.disabled
    ]
    source = _Addresses(pools, _taken(resources))
    made_up: set[Address] = set()
    endpoints: list[Resource[Any]] = []
    for pod in resources:
        if pod.key.kind != POD or (pod.key.within, pod.key.name) in there or not _has_network(pod):
            continue
        addresses = list(_of_status(pod))
        if not addresses:
            addresses = source.next()
            made_up.update(addresses)
        endpoints.append(_endpoint(pod, addresses))
    return StandIns(frozenset(made_up), tuple(pools) or _EVERYWHERE, tuple(endpoints))


def _has_network(pod: Resource[Any]) -> bool:
    """Whether it has one of its own, now or soon."""
    phase = pod.status.get("phase") if is_object(pod.status) else None
    return not pod.spec.host_network and phase not in ("Succeeded", "Failed")


def _endpoint(pod: Resource[Any], addresses: Iterable[Address]) -> Resource[Any]:
    namespace, name = pod.key.within, pod.key.name
    sandbox = Sandbox(
        network=_NETWORK,
        node=pod.spec.node_name,
        container_id="",
        ifname=DEFAULT_INTERFACE,
        netns="",
        namespace=namespace,
        pod=name,
        host_name=pod_interface(_PREFIX, namespace, name, DEFAULT_INTERFACE),
    )
    return build_endpoint(sandbox, addresses=addresses, mac="", wishes=Wishes(), pod=pod)


def _of_status(pod: Resource[Any]) -> Iterator[Address]:
    """The addresses that Kubernetes says it has."""
    status: Any = pod.status if is_object(pod.status) else {}
    listed: Any = status.get("podIPs")
    several: list[Any] = [each.get("ip") for each in listed if is_object(each)] if is_array(listed) else []
    first: Any = status.get("podIP")
    for text in dict.fromkeys([first, *several]):
        if text:
            try:
                yield Address.parse(str(text))
            except ValueError:
                continue


class _Addresses:
    """Hands out addresses that nothing has: of each version that the pools have, of IPv4 without any pool."""

    def __init__(self, pools: Sequence[Prefix], taken: set[Address]) -> None:
        self._taken = taken
        versions: list[Version] = sorted({pool.version for pool in pools}) or [4]
        self._ranges = [
            next((pool for pool in pools if pool.version == version), _NOWHERE[version])
            for version in versions
        ]
        self._next = {each: each.value + 1 for each in self._ranges}

    def next(self) -> list[Address]:
        return [self._of(each) for each in self._ranges]

    def _of(self, within: Prefix) -> Address:
        """Beyond the end of a small pool, where its addresses are used up, in what no machine has."""
        while True:
            address = Address(within.version, self._next[within])
            if address.value > within.last:
                return self._of(self._beyond(within))
            self._next[within] += 1
            if address not in self._taken:
                return address

    def _beyond(self, within: Prefix) -> Prefix:
        nowhere = _NOWHERE[within.version]
        self._next.setdefault(nowhere, nowhere.value + 1)
        return nowhere


def _taken(resources: Iterable[Resource[Any]]) -> set[Address]:
    found: set[Address] = set()
    for each in resources:
        if each.key.kind == WORKLOAD_ENDPOINT:
            found.update(Prefix.parse(text, strict=False).address for text in each.spec.ip_networks)
        elif each.key.kind == POD:
            found.update(_of_status(each))
    return found


def profiles(
    resources: Iterable[Resource[Any]], named_by: Iterable[Resource[Any]]
) -> Iterator[Resource[Any]]:
    """Of each namespace and service account, where none is stored, as `tortie.workloads` makes them; and of those that the
    endpoints of ``named_by`` name and no document describes."""
    everything = list(resources)
    stored = {each.key.name for each in everything if each.key.kind == PROFILE}
    made: dict[str, Resource[Any]] = {}
    for each in everything:
        if (named := profile_of(each)) is not None:
            name, prefix = named
            made[name] = profile_after(allow_all(name), prefix, each.metadata.labels)
    for each in named_by:
        for name in each.spec.profiles:
            if source_of(name) is not None:
                made.setdefault(name, allow_all(name))
    yield from (profile for name, profile in made.items() if name not in stored)


def profile_of(resource: Resource[Any]) -> tuple[str, str] | None:
    """The profile that passes this one's labels on, and the prefix under which it does."""
    if resource.key.kind == NAMESPACE:
        return f"kns.{resource.key.name}", "pcns."
    if resource.key.kind == SERVICE_ACCOUNT:
        return f"ksa.{resource.key.within}.{resource.key.name}", "pcsa."
    return None


def following(found: dict[ResourceKey, Update], applied: Iterable[Resource[Any]]) -> None:
    """Bring into ``found`` what follows from the labels of what was applied, as ``tortie apply`` does."""
    pods = {(each.key.within, each.key.name): each for each in applied if each.key.kind == POD}
    fresh = {each.key for each in applied}
    for key, update in list(found.items()):
        if key.kind != WORKLOAD_ENDPOINT or key in fresh or not isinstance(update, Put):
            continue
        pod = pods.get((key.within, update.resource.spec.pod))
        if pod is not None:
            found[key] = Put(endpoint_after(update.resource, pod.metadata.labels))
    for each in applied:
        if (named := profile_of(each)) is None:
            continue
        name, prefix = named
        key = ResourceKey(PROFILE, name)
        old = found.get(key)
        if key not in fresh and isinstance(old, Put):
            found[key] = Put(profile_after(old.resource, prefix, each.metadata.labels))


def withdrawn(found: dict[ResourceKey, Update], gone: Iterable[Resource[Any]]) -> None:
    """Take out of ``found`` what goes with what was deleted, as ``tortie delete`` does."""
    for each in gone:
        if (named := profile_of(each)) is None:
            continue
        key = ResourceKey(PROFILE, named[0])
        old = found.get(key)
        if isinstance(old, Put):
            found[key] = Put(profile_without(old.resource))
