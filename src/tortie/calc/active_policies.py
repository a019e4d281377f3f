"""Which policies matter here: those that select a local endpoint. Their rows, and what holds for each local endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from tortie.calc.established import APPLIES_TO_ESTABLISHED
from tortie.calc.ipset_members import IPSetMembers
from tortie.calc.label_index import LabelIndex
from tortie.calc.outlet import Outlet, Rows
from tortie.calc.policy import Policy, Standing, is_inert, policy_key, read
from tortie.calc.policy_order import Ranked, Resolver, Tiers, place
from tortie.calc.problems import Problems
from tortie.desired.endpoints import EndpointKey
from tortie.desired.policies import POLICIES, AppliedPolicies, PolicyKey, TierRow
from tortie.desired.table import Problem
from tortie.resources import registry
from tortie.resources.resource import NOTHING, Invalid, Metadata, Resource, ResourceKey
from tortie.resources.source import SOURCE_ANNOTATION
from tortie.resources.tier import TierSpec

KEPT = (SOURCE_ANNOTATION, APPLIES_TO_ESTABLISHED)
"""Annotations that say something of a policy's row."""


class HostKey(NamedTuple):
    """A HostEndpoint, among the local endpoints."""

    host_endpoint: str


LocalKey = EndpointKey | HostKey
_Alike = tuple[bytes, bool]
"""What must be equal for the same policies to hold for two local endpoints."""


@dataclass(frozen=True, kw_only=True)
class WorkloadPolicies:
    """What holds for a workload."""

    ingress: AppliedPolicies
    egress: AppliedPolicies


@dataclass(frozen=True, kw_only=True)
class HostPolicies:
    """What holds for a host endpoint; see `desired.host_endpoints`."""

    ingress: AppliedPolicies
    egress: AppliedPolicies
    forward_ingress: AppliedPolicies
    forward_egress: AppliedPolicies
    untracked_ingress: AppliedPolicies
    untracked_egress: AppliedPolicies
    pre_dnat: AppliedPolicies


class _Stored:
    """A policy, small: what is needed to read it anew when it becomes active."""

    __slots__ = ("annotations", "key", "place", "reason", "spec", "standing", "unknown")

    def __init__(self, resource: Resource[Any] | Invalid, policy: Policy) -> None:
        readable = resource.readable if isinstance(resource, Invalid) else resource
        self.key = resource.key
        self.spec = None if readable is None else msgspec.msgpack.encode(readable.spec)
        annotations: Mapping[str, str] = {} if readable is None else readable.metadata.annotations
        self.annotations = {name: annotations[name] for name in KEPT if name in annotations} or None
        self.unknown = NOTHING if readable is None else readable.unknown
        self.reason = resource.reason if isinstance(resource, Invalid) else None
        self.standing = policy.standing
        self.place = place(policy.key, policy.standing)

    def read(self) -> Policy:
        readable: Resource[Any] | None = None
        if self.spec is not None:
            spec = msgspec.msgpack.decode(self.spec, type=registry.info(self.key.kind).spec)
            metadata = Metadata(annotations=self.annotations or {})
            readable = Resource(key=self.key, metadata=metadata, spec=spec, unknown=self.unknown)
        if readable is None or self.reason is not None:
            return read(Invalid(self.key, self.reason or "", readable))
        return read(readable)


class _Tiers:
    """What the policies come to for each sort of traffic."""

    forward_ingress: tuple[TierRow, ...] = ()
    forward_egress: tuple[TierRow, ...] = ()
    untracked_ingress: tuple[TierRow, ...] = ()
    untracked_egress: tuple[TierRow, ...] = ()
    pre_dnat: tuple[TierRow, ...] = ()

    def __init__(self, resolver: Resolver, policies: Sequence[Ranked], is_host: bool) -> None:
        tiers = resolver.tiers
        self._resolver = resolver
        self._applied: dict[tuple[str, ...], WorkloadPolicies] = {}
        self.ingress = tiers(policies, "ingress", _tracked)
        self.egress = tiers(policies, "egress", _tracked)
        if is_host:
            self.forward_ingress = tiers(policies, "ingress", _forward)
            self.forward_egress = tiers(policies, "egress", _forward)
            self.untracked_ingress = tiers(policies, "ingress", _untracked, ends=False)
            self.untracked_egress = tiers(policies, "egress", _untracked, ends=False)
            self.pre_dnat = tiers(policies, "ingress", _pre_dnat, ends=False)

    def with_profiles(self, profiles: tuple[str, ...]) -> WorkloadPolicies:
        """Found once for all that are alike: to hash the tiers takes as long as all else."""
        found = self._applied.get(profiles)
        if found is None:
            applied = self._resolver.applied
            found = self._applied[profiles] = WorkloadPolicies(
                ingress=applied(self.ingress, profiles), egress=applied(self.egress, profiles)
            )
        return found


class ActivePolicies:
    """In: policies of every kind, Tier, local endpoints with their labels. Out: POLICIES, `workloads` and `hosts` (what holds
    for each local endpoint), and the IP sets that active policies use."""

    def __init__(self, members: IPSetMembers, problems: Problems) -> None:
        self.rows = Rows(POLICIES)
        self.workloads: Outlet[EndpointKey, WorkloadPolicies] = Outlet()
        self.hosts: Outlet[str, HostPolicies] = Outlet()
        self._members = members
        self._problems = problems
        self._tiers = Tiers()
        self._resolver = Resolver(self._tiers)
        self._policies: dict[PolicyKey, _Stored] = {}
        self._matches: dict[PolicyKey, int] = {}
        self._index: LabelIndex[PolicyKey, LocalKey] = LabelIndex(self._started, self._stopped)
        self._profiles: dict[LocalKey, tuple[str, ...]] = {}
        self._reading: Policy | None = None
        """The policy that is just being put: should it become active, it need not be read again."""
        self._unmatched: set[PolicyKey] = set()
        self._dirty: set[LocalKey] = set()
        self._of_tier: dict[str, set[ResourceKey]] = {}
        self._dirty_tiers = False
        self.set_inherited = self._index.set_parent

    # Policies and tiers

    def on_policy(self, key: ResourceKey, resource: Resource[Any] | Invalid | None) -> None:
        name = policy_key(key)
        if isinstance(resource, Resource) and is_inert(resource.spec):
            resource = None
        if resource is None:
            self._forget(name)
            return
        policy = read(resource)
        before, stored = self._policies.get(name), _Stored(resource, policy)
        self._policies[name] = stored
        if before is None or before.standing.tier != stored.standing.tier:
            self._leave_tier(before)
            self._of_tier.setdefault(stored.standing.tier, set()).add(key)
            self._dirty_tiers = True
        self._problems.report(("policy", name), () if policy.problem is None else (policy.problem,))
        if policy.selector is None:
            self._index.unwatch(name)
        else:
            self._reading = policy
            self._index.watch(name, policy.selector)
            self._reading = None
            if before is not None and before.standing != stored.standing:
                self._dirty.update(self._index.matching(name))
        if self._is_active(name):
            self._activate(policy)
        else:
            self._unmatched.add(name)

    def _forget(self, name: PolicyKey) -> None:
        before = self._policies.pop(name, None)
        if before is not None:
            self._index.unwatch(name)
            self._unmatched.add(name)
            self._leave_tier(before)
            self._problems.report(("policy", name), ())

    def _leave_tier(self, stored: _Stored | None) -> None:
        if stored is None:
            return
        members = self._of_tier[stored.standing.tier]
        members.discard(stored.key)
        if not members:
            del self._of_tier[stored.standing.tier]
        self._dirty_tiers = True

    def on_tier(self, name: str, resource: Resource[TierSpec] | None) -> None:
        if self._tiers.put(name, resource):
            self._dirty.update(self._profiles)
        self._dirty_tiers = True

    # Local endpoints

    def put(self, key: LocalKey, labels: Mapping[str, str], profiles: Sequence[str]) -> None:
        """A local endpoint, with its own labels."""
        self._profiles[key] = tuple(profiles)
        self._index.put(key, labels, profiles)
        self._dirty.add(key)

    def drop(self, key: LocalKey) -> None:
        if self._profiles.pop(key, None) is not None:
            self._index.drop(key)
            self._dirty.add(key)

    def _started(self, name: PolicyKey, key: LocalKey) -> None:
        self._dirty.add(key)
        before = self._matches.get(name, 0)
        self._matches[name] = before + 1
        if before:
            return
        # A row that is about to go may be of an older policy: it may have changed while it matched nothing.
        stale = name in self._unmatched or self.rows.get(name) is None
        if stale and (self._reading is None or self._reading.key != name):
            self._activate(self._policies[name].read())

    def _stopped(self, name: PolicyKey, key: LocalKey) -> None:
        self._dirty.add(key)
        self._matches[name] -= 1
        if not self._matches[name]:
            del self._matches[name]
            self._unmatched.add(name)

    def _is_active(self, name: PolicyKey) -> bool:
        stored = self._policies.get(name)
        return stored is not None and (name in self._matches or stored.standing.everywhere)

    def _activate(self, policy: Policy) -> None:
        self.rows.want(policy.key, policy.row)
        self._members.use(policy.key, policy.sets)

    # What holds

    def flush(self) -> None:
        for name in self._unmatched:
            if not self._is_active(name):
                self.rows.want(name, None)
                self._members.use(name, {})
        self._unmatched.clear()
        if self._dirty_tiers:
            self._dirty_tiers = False
            self._report_tiers()
        alike: dict[_Alike, _Tiers] = {}
        for key in self._dirty:
            self._resolve(key, alike)
        self._dirty.clear()

    def _resolve(self, key: LocalKey, alike: dict[_Alike, _Tiers]) -> None:
        is_host = isinstance(key, HostKey)
        profiles = self._profiles.get(key)
        if profiles is None:
            if isinstance(key, HostKey):
                self.hosts.drop(key.host_endpoint)
            else:
                self.workloads.drop(key)
            return
        like = (self._index.likeness(key), is_host)
        tiers = alike.get(like)
        if tiers is None:
            ranked = sorted((self._policies[name].place, name) for name in self._index.matched(key))
            policies = [(name, self._policies[name].standing) for _, name in ranked]
            tiers = alike[like] = _Tiers(self._resolver, policies, is_host)
        found = tiers.with_profiles(profiles)
        if not isinstance(key, HostKey):
            self.workloads.put(key, found)
            return
        applied = self._resolver.applied
        host = HostPolicies(
            ingress=found.ingress,
            egress=found.egress,
            forward_ingress=applied(tiers.forward_ingress),
            forward_egress=applied(tiers.forward_egress),
            untracked_ingress=applied(tiers.untracked_ingress),
            untracked_egress=applied(tiers.untracked_egress),
            pre_dnat=applied(tiers.pre_dnat),
        )
        self.hosts.put(key.host_endpoint, host)

    def _report_tiers(self) -> None:
        """Policies of a tier that does not exist. They are enforced all the same, after all others."""
        problems = [
            Problem(str(key), "spec.tier", f"there is no tier {tier}; its policies come after all others")
            for tier, keys in self._of_tier.items()
            if not self._tiers.exists(tier)
            for key in keys
        ]
        self._problems.report("tiers", problems)


def _tracked(standing: Standing) -> bool:
    return standing.traffic == "tracked"


def _forward(standing: Standing) -> bool:
    return standing.traffic == "tracked" and standing.forward


def _untracked(standing: Standing) -> bool:
    return standing.traffic == "untracked"


def _pre_dnat(standing: Standing) -> bool:
    return standing.traffic == "pre-dnat"
