"""A whole cluster as the verdict engine sees it, from a datastore or from files: rows of everywhere, and who is who.

In: resources. Out: a `Cluster`. The rows come from the same `calc.graph` that feeds the agents, run for everywhere at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tortie.calc.graph import KINDS, CalcGraph
from tortie.calc.scope import Scope
from tortie.datastore.store import Store
from tortie.desired.endpoints import EndpointKey
from tortie.desired.settings import NODE as SETTINGS_KEY
from tortie.desired.settings import SETTINGS, SettingsRow
from tortie.desired.table import Problem
from tortie.diagnostics import derived
from tortie.diagnostics.derived import StandIns
from tortie.diagnostics.services import Service, services
from tortie.net.addresses import Address, Interface
from tortie.resources.felix_configuration import FELIX_CONFIGURATION
from tortie.resources.host_endpoint import HOST_ENDPOINT
from tortie.resources.namespace import NAMESPACE
from tortie.resources.node import NODE
from tortie.resources.pod import POD
from tortie.resources.profile import PROFILE
from tortie.resources.resource import Invalid, Kind, Put, Resource, Update
from tortie.resources.service import SERVICE
from tortie.resources.service_account import SERVICE_ACCOUNT
from tortie.resources.taking import taken
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT
from tortie.verdict.journey import Whereabouts
from tortie.verdict.state import State

ALL_KINDS: tuple[Kind, ...] = tuple(dict.fromkeys((*KINDS, POD, NAMESPACE, SERVICE_ACCOUNT, SERVICE)))
"""What a question needs to know of a datastore."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One interface of a pod, as people name it. ``labels`` are its own and those it inherits."""

    name: str
    key: EndpointKey
    node: str
    addresses: tuple[Address, ...]
    labels: Mapping[str, str]
    ports: tuple[tuple[str, int, int], ...]
    """Name, protocol and number of each port that has a name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cluster:
    """``pods`` by namespace and name; only those with an address. ``on_hosts``: pods in their node's network, and that node."""

    state: State
    where: Whereabouts
    pods: Mapping[str, Pod]
    by_key: Mapping[EndpointKey, Pod]
    on_hosts: Mapping[str, str]
    services: tuple[Service, ...]
    stand_ins: StandIns
    problems: tuple[Problem, ...]

    def pod_at(self, address: Address) -> Pod | None:
        key = self.state.holders.get(address)
        return None if key is None else self.by_key.get(key)


async def read_store(store: Store) -> list[Update]:
    """Everything of a datastore that bears on verdicts, as agents take it. Raises `StoreError`."""
    found: list[Update] = []
    for kind in ALL_KINDS:
        async for page in store.list(kind):
            found.extend(map(taken, page.updates))
    return found


def overlay(below: Iterable[Update], above: Sequence[Resource[Any]]) -> list[Update]:
    """As if the resources were applied."""
    found = {update.key: update for update in below}
    found.update({resource.key: Put(resource) for resource in above})
    derived.following(found, above)
    return list(found.values())


def without(below: Iterable[Update], gone: Sequence[Resource[Any]]) -> list[Update]:
    """As if the resources were deleted."""
    found = {update.key: update for update in below}
    for resource in gone:
        found.pop(resource.key, None)
    derived.withdrawn(found, gone)
    return list(found.values())


def build(updates: Sequence[Update], *, offline: bool = False) -> Cluster:
    """Calculate the rows of everywhere. ``offline``: they are files, in which nobody made the profiles that ADD makes."""
    stored = [update.resource for update in updates if isinstance(update, Put)]
    made_up = derived.stand_ins(stored)
    everything = [*stored, *made_up.resources]
    named_by = (
        [each for each in everything if each.key.kind == WORKLOAD_ENDPOINT] if offline else made_up.resources
    )
    everything += derived.profiles(everything, named_by)
    invalid = [update for update in updates if isinstance(update, Invalid)]
    graph = CalcGraph(Scope(None))
    graph.fold([*map(Put, everything), *invalid])
    flush = graph.flush(in_sync=True)
    state = State(flush.deltas)
    endpoints = [each for each in everything if each.key.kind == WORKLOAD_ENDPOINT]
    labels = {each.key.name: each.spec.labels_to_apply for each in everything if each.key.kind == PROFILE}
    where = Whereabouts(
        pods={EndpointKey(each.key.within, each.key.name): each.spec.node for each in endpoints},
        host_endpoints={
            each.key.name: each.spec.node for each in everything if each.key.kind == HOST_ENDPOINT
        },
        nodes={each.key.name: _addresses(each) for each in everything if each.key.kind == NODE},
        settings=_settings(everything),
    )
    pods: dict[str, Pod] = {}
    by_key: dict[EndpointKey, Pod] = {}
    for each in sorted(endpoints, key=lambda one: one.spec.endpoint):
        pod = _pod(each, state, labels)
        if pod is not None:
            by_key[pod.key] = pods.setdefault(pod.name, pod)
    return Cluster(
        state=state,
        where=where,
        pods=dict(sorted(pods.items())),
        by_key=by_key,
        on_hosts={
            f"{each.key.within}/{each.key.name}": each.spec.node_name
            for each in stored
            if each.key.kind == POD and each.spec.host_network
        },
        services=tuple(services(stored)),
        stand_ins=made_up,
        problems=flush.problems,
    )


def _pod(endpoint: Resource[Any], state: State, labels: Mapping[str, Mapping[str, str]]) -> Pod | None:
    key = EndpointKey(endpoint.key.within, endpoint.key.name)
    row = state.endpoints.get(key)
    if row is None or not row.addresses:
        return None
    spec = endpoint.spec
    inherited: dict[str, str] = {}
    for profile in spec.profiles:
        inherited.update(labels.get(profile, {}))
    numbers = {"TCP": 6, "UDP": 17, "SCTP": 132}
    return Pod(
        name=f"{endpoint.key.within}/{spec.pod or spec.workload or endpoint.key.name}",
        key=key,
        node=spec.node,
        addresses=row.addresses,
        labels={**inherited, **endpoint.metadata.labels},
        ports=tuple(
            (
                port.name,
                port.protocol if isinstance(port.protocol, int) else numbers.get(port.protocol.upper(), 0),
                port.port,
            )
            for port in spec.ports
            if port.name
        ),
    )


def _addresses(node: Resource[Any]) -> tuple[Address, ...]:
    """The node's own first, then those of its tunnels."""
    spec = node.spec
    bgp = spec.bgp
    texts = [bgp.ipv4_address, bgp.ipv6_address] if bgp else []
    texts += [each.address for each in spec.addresses]
    texts += [bgp.ipv4_ipip_tunnel_addr] if bgp else []
    texts += [spec.ipv4_vxlan_tunnel_addr, spec.ipv6_vxlan_tunnel_addr]
    found: dict[Address, None] = {}
    for text in texts:
        if text:
            try:
                found[Interface.parse(text).address] = None
            except ValueError:
                continue
    return tuple(found)


def _settings(resources: Sequence[Resource[Any]]) -> dict[str, SettingsRow]:
    """Of each node that some FelixConfiguration other than the default may concern."""
    felix = [each for each in resources if each.key.kind == FELIX_CONFIGURATION]
    if all(each.key.name == "default" for each in felix):
        return {}
    found: dict[str, SettingsRow] = {}
    nodes = [each for each in resources if each.key.kind == NODE]
    for node in nodes:
        graph = CalcGraph(Scope(node.key.name))
        graph.fold([*map(Put, felix), Put(node)])
        for delta in graph.flush(in_sync=True).deltas:
            if delta.table == SETTINGS and SETTINGS_KEY in delta.put:
                found[node.key.name] = delta.put[SETTINGS_KEY]
    return found
