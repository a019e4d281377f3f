"""The calculation graph: its only wiring, and its picture.

::

    Node ──────────────▶ hosts ───┬──────────────┬────────────▶ IPSETS, MEMBERS (all-hosts)
    FelixConfiguration ─────────▶ settings ──────┼────────────▶ SETTINGS
    IPPool ────────────▶ pools ───┼─────┬────────┼────────────▶ IPSETS, MEMBERS (masq-ipam-pools, all-ipam-pools)
    BGPConfiguration ─▶ bgp_settings ───┼──────▶ bgp ─────────▶ BGP_NODE, BGP_PEERS
    BGPPeer ────────────────────────────┼────────┘
    AllocationBlock ───▶ blocks ────────┴──▶ routes ──────────▶ ROUTES
    BlockAffinity ────────────┼────────────────┘│
    WorkloadEndpoint ──▶ endpoints ◀──┐─────────┴─────────────▶ ENDPOINTS
                     │                │ workloads
                     │   policies, Tier ▶ active ─────────────▶ POLICIES
                     ▼                ▲ │  │ hosts
    HostEndpoint ──▶ labelled ────────┤ │  └▶ host_endpoints ─▶ HOST_ENDPOINTS
    (Global)NetworkSet ▶ │            │ │ sets
                         ▼            │ ▼
    EndpointSlice, Endpoints ▶ members◀─┴───┐ ────────────────▶ IPSETS, MEMBERS (selectors, named ports, services)
                         ▲            │     │ sets
    Profile ─────────────┴────────── profiles ────────────────▶ PROFILES
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from tortie.calc.active_policies import ActivePolicies
from tortie.calc.bgp import BGPNode
from tortie.calc.bgp_settings import BGPSettingsNode
from tortie.calc.block_index import BlockIndex
from tortie.calc.endpoints import EndpointsNode
from tortie.calc.host_endpoints import HostEndpointsNode
from tortie.calc.hosts import HostsNode
from tortie.calc.ipset_members import IPSetMembers
from tortie.calc.ipsets import IPSets
from tortie.calc.labelled import LabelledNode
from tortie.calc.outlet import Rows
from tortie.calc.policy import POLICY_KINDS
from tortie.calc.pools import PoolsNode
from tortie.calc.problems import Problems
from tortie.calc.profiles import ProfilesNode
from tortie.calc.routes import RoutesNode
from tortie.calc.scope import Scope
from tortie.calc.settings import SettingsNode
from tortie.desired.endpoints import EndpointKey
from tortie.desired.order import ORDER
from tortie.desired.table import Flush, Problem
from tortie.errors import InvalidResource
from tortie.net.addresses import Prefix
from tortie.resources.allocation_block import ALLOCATION_BLOCK
from tortie.resources.bgp_configuration import BGP_CONFIGURATION
from tortie.resources.bgp_peer import BGP_PEER
from tortie.resources.block_affinity import BLOCK_AFFINITY, block_cidr
from tortie.resources.endpoint_slice import ENDPOINT_SLICE
from tortie.resources.endpoints import ENDPOINTS
from tortie.resources.felix_configuration import FELIX_CONFIGURATION
from tortie.resources.global_network_set import GLOBAL_NETWORK_SET
from tortie.resources.host_endpoint import HOST_ENDPOINT
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.network_set import NETWORK_SET
from tortie.resources.node import NODE
from tortie.resources.profile import PROFILE
from tortie.resources.resource import Invalid, Kind, Put, Resource, ResourceKey, Update
from tortie.resources.tier import TIER
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT

KINDS: tuple[Kind, ...] = (
    FELIX_CONFIGURATION,
    BGP_CONFIGURATION,
    NODE,
    IP_POOL,
    BGP_PEER,
    BLOCK_AFFINITY,
    ALLOCATION_BLOCK,
    TIER,
    PROFILE,
    *POLICY_KINDS,
    HOST_ENDPOINT,
    NETWORK_SET,
    GLOBAL_NETWORK_SET,
    ENDPOINT_SLICE,
    ENDPOINTS,
    WORKLOAD_ENDPOINT,
)
"""What a syncer must watch for the graph."""

Intake = Callable[[ResourceKey, Resource[Any] | None], None]


class CalcGraph:
    """Resources in, desired rows out. One per view; give it every update, in any order, and flush when there is time.

    An invalid resource counts as absent and stands in `Flush.problems` until it is mended or gone; a policy fails closed.
    """

    def __init__(self, scope: Scope) -> None:
        problems = Problems()
        ipsets = IPSets()
        hosts = HostsNode(ipsets)
        pools = PoolsNode(ipsets)
        settings = SettingsNode(scope, hosts.hosts, problems)
        bgp_settings = BGPSettingsNode(scope, problems)
        blocks = BlockIndex()
        members = IPSetMembers(ipsets)
        active = ActivePolicies(members, problems)
        profiles = ProfilesNode(members, (members.set_inherited, active.set_inherited), problems)
        host_endpoints = HostEndpointsNode(active.hosts)
        labelled = LabelledNode(scope, members, active, profiles, host_endpoints)
        endpoints = EndpointsNode(scope, blocks, active.workloads, problems)
        routes = RoutesNode(scope, blocks, endpoints, pools.pools)
        bgp = BGPNode(scope, hosts.hosts, pools.pools, settings.settings, bgp_settings.settings, problems)

        def on_workload(key: ResourceKey, resource: Resource[Any] | None) -> None:
            endpoint = EndpointKey(sys.intern(key.within), key.name)
            endpoints.on_update(endpoint, resource)
            labelled.on_workload(endpoint, resource, endpoints.claimed(endpoint) if resource else ())

        self._problems = problems
        self._generation = 0
        self._intakes: dict[Kind, Intake] = {
            FELIX_CONFIGURATION: lambda key, resource: settings.on_update(key.name, resource),
            BGP_CONFIGURATION: lambda key, resource: bgp_settings.on_update(key.name, resource),
            NODE: lambda key, resource: hosts.on_update(key.name, resource),
            IP_POOL: lambda key, resource: pools.on_update(key.name, resource),
            BGP_PEER: lambda key, resource: bgp.on_peer(key.name, resource),
            BLOCK_AFFINITY: lambda key, resource: routes.on_affinity(key.within, _prefix(key), resource),
            ALLOCATION_BLOCK: lambda key, resource: routes.on_block(_prefix(key), resource),
            TIER: lambda key, resource: active.on_tier(key.name, resource),
            PROFILE: lambda key, resource: profiles.on_update(key.name, resource),
            HOST_ENDPOINT: lambda key, resource: labelled.on_host_endpoint(key.name, resource),
            NETWORK_SET: lambda key, resource: labelled.on_network_set(key.within, key.name, resource),
            GLOBAL_NETWORK_SET: lambda key, resource: labelled.on_network_set("", key.name, resource),
            ENDPOINT_SLICE: lambda key, resource: members.on_slice(key.within, key.name, resource),
            ENDPOINTS: lambda key, resource: members.on_endpoints(key.within, key.name, resource),
            WORKLOAD_ENDPOINT: on_workload,
        }
        self._policies = active
        self._stages: tuple[Callable[[], None], ...] = (
            hosts.flush,
            pools.flush,
            settings.flush,
            bgp_settings.flush,
            active.flush,
            profiles.flush,
            members.flush,
            host_endpoints.flush,
            endpoints.flush,
            routes.flush,
            bgp.flush,
        )
        rows: tuple[Rows[Any, Any], ...] = (
            settings.rows,
            ipsets.sets,
            ipsets.members,
            active.rows,
            profiles.rows,
            host_endpoints.rows,
            endpoints.rows,
            routes.rows,
            bgp.nodes,
            bgp.peers,
        )
        self._tables = sorted(rows, key=lambda each: ORDER.index(each.table))

    def fold(self, updates: Sequence[Update]) -> None:
        """Take updates in; may be called in slices. A kind that the graph does not read is passed over."""
        for update in updates:
            if update.key.kind in POLICY_KINDS:
                self._policies.on_policy(update.key, _content(update))
                continue
            intake = self._intakes.get(update.key.kind)
            if intake is None:
                continue
            if isinstance(update, Put):
                self._problems.report(update.key, ())
                self._take(intake, update.key, update.resource)
            else:
                reason = update.reason if isinstance(update, Invalid) else ""
                self._refuse(intake, update.key, reason)

    def _take(self, intake: Intake, key: ResourceKey, resource: Resource[Any]) -> None:
        try:
            intake(key, resource)
        except InvalidResource as error:
            self._refuse(intake, key, error.rule, error.field)
        except ValueError as error:
            # What validation lets pass and we cannot read all the same: as good as invalid.
            self._refuse(intake, key, str(error))

    def _refuse(self, intake: Intake, key: ResourceKey, reason: str, field: str = "") -> None:
        self._problems.report(key, (Problem(str(key), field, reason),) if reason else ())
        try:
            intake(key, None)
        except ValueError:
            return  # a key that cannot be read was never taken in

    def flush(self, *, in_sync: bool) -> Flush:
        """What changed since the last flush. ``in_sync``: whether everything that is stored has been folded once."""
        for stage in self._stages:
            stage()
        self._generation += 1
        deltas = tuple(delta for rows in self._tables if (delta := rows.take()) is not None)
        return Flush(self._generation, deltas, in_sync, self._problems.all())


def _prefix(key: ResourceKey) -> Prefix:
    return Prefix.parse(block_cidr(key.name))


def _content(update: Update) -> Resource[Any] | Invalid | None:
    if isinstance(update, Put):
        return update.resource
    return update if isinstance(update, Invalid) else None
