"""The verdict on a packet: what lets it out at its source and in at its destination, and what decided that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.oracle.cluster import Thing, profiles, services, things
from tests.oracle.documents import Document
from tests.oracle.packets import Packet, number
from tests.oracle.policies import Direction, Policy, Tier, Traffic, applied, policies, tiers
from tests.oracle.rules import Rule, Seen, calico_rule

DecidedBy = Literal["rule", "tier-end", "profile", "no-profile", "host", "failsafe"]


@dataclass
class Decision:
    """What happens to a packet in one direction, at one endpoint.

    ``missed`` holds, of each rule on the way that failed by one criterion alone, its fields; ``passed`` what the way led through:
    ``Pass``, ``Log`` and the ends of tiers that pass.
    """

    endpoint: Thing
    allowed: bool
    decided_by: DecidedBy
    tier: str = ""
    policy: Policy | None = None
    profile: str = ""
    index: int = -1
    rule: Rule | None = None
    missed: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    passed: list[str] = field(default_factory=list[str])
    place: str = ""
    """Of a HostEndpoint: where on the packet's way."""

    def __str__(self) -> str:
        policy = self.policy
        what = f"{policy.kind} {policy.namespace}/{policy.name} rule {self.index}" if policy else self.profile
        return f"{'allow' if self.allowed else 'deny'} by {self.decided_by} {self.tier} {what}"


@dataclass
class Way:
    """What a packet has met so far."""

    missed: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    passed: list[str] = field(default_factory=list[str])
    place: str = ""

    def is_matched(self, rule: Rule, seen: Seen) -> bool:
        """Whether the rule ends something. A Log that matches is passed by."""
        misses = rule.misses(seen)
        if len(misses) == 1:
            self.missed.append(misses[0])
        if misses:
            return False
        if rule.action == "Log":
            self.passed.append("Log")
            return False
        return True

    def ends(self, endpoint: Thing, allowed: bool, decided_by: DecidedBy, **more: Any) -> Decision:
        return Decision(
            endpoint,
            allowed,
            decided_by,
            missed=self.missed,
            passed=self.passed,
            place=self.place,
            **more,
        )


@dataclass(frozen=True)
class Verdict:
    """None where no workload stands on that side."""

    egress: Decision | None
    ingress: Decision | None

    @property
    def allowed(self) -> bool:
        return all(side is None or side.allowed for side in (self.egress, self.ingress))


class Oracle:
    """Judges packets by one set of documents."""

    def __init__(self, documents: Iterable[Document]) -> None:
        documents = list(documents)
        inherited = profiles(documents)
        self.things: Sequence[Thing] = things(documents, inherited)
        self.tiers: Sequence[Tier] = tiers(documents)
        self.policies: Sequence[Policy] = policies(documents)
        self.services = services(documents)
        self._profiles: dict[tuple[str, Direction], list[Rule]] = {}
        for name, profile in inherited.items():
            self._profiles[name, "ingress"] = [calico_rule(rule, "") for rule in profile.ingress]
            self._profiles[name, "egress"] = [calico_rule(rule, "") for rule in profile.egress]
        self._at: dict[str, Sequence[Thing]] = {}
        self._singles: defaultdict[tuple[int, int], list[Thing]] = defaultdict(list)
        for thing in self.things:
            for net in thing.nets:
                if net.first == net.last:
                    self._singles[net.version, net.first].append(thing)
        self._applied: dict[tuple[str, ...], list[tuple[Tier, list[Policy]]]] = {}

    def at(self, address: str) -> Sequence[Thing]:
        """Whatever holds an address."""
        if address not in self._at:
            self._at[address] = [thing for thing in self.things if thing.holds(address)]
        return self._at[address]

    def workload(self, address: str) -> Thing | None:
        """The workload whose address it is."""
        here = self._singles.get(number(address), ())
        return next((thing for thing in here if thing.is_workload), None)

    def seen(self, packet: Packet) -> Seen:
        return Seen(packet, self.at(packet.source), self.at(packet.destination), self.services)

    def judge(self, packet: Packet) -> Verdict:
        """Both directions, each where a workload stands."""
        seen = self.seen(packet)
        source, destination = self.workload(packet.source), self.workload(packet.destination)
        return Verdict(
            egress=self.decide(source, "egress", seen) if source else None,
            ingress=self.decide(destination, "ingress", seen) if destination else None,
        )

    def applied(
        self, endpoint: Thing, direction: Direction, traffic: Traffic = "tracked"
    ) -> list[tuple[Tier, list[Policy]]]:
        key = (endpoint.kind, endpoint.namespace, endpoint.name, direction, traffic)
        if key not in self._applied:
            self._applied[key] = applied(endpoint, direction, traffic, self.tiers, self.policies)
        return self._applied[key]

    def decide(self, endpoint: Thing, direction: Direction, seen: Seen) -> Decision:
        """Tier by tier, policy by policy, rule by rule; then the profiles."""
        way = Way()
        return (
            self.by_tiers(endpoint, direction, seen, way)
            or self.by_profiles(endpoint, direction, seen, way)
            or way.ends(endpoint, False, "no-profile")
        )

    def by_tiers(
        self, endpoint: Thing, direction: Direction, seen: Seen, way: Way, traffic: Traffic = "tracked"
    ) -> Decision | None:
        """None when no policy decides. Only of what is tracked or forwarded is anything denied at a tier's end."""
        for tier, selecting in self.applied(endpoint, direction, traffic):
            enforced = [policy for policy in selecting if not policy.staged]
            if not enforced:
                way.passed.append("staged")
                continue
            decision = self._tier(endpoint, direction, seen, tier, enforced, way, traffic)
            if decision is not None:
                return decision
        return None

    def by_profiles(self, endpoint: Thing, direction: Direction, seen: Seen, way: Way) -> Decision | None:
        for profile in endpoint.profiles:
            for index, rule in enumerate(self._profiles.get((profile, direction), ())):
                if way.is_matched(rule, seen):
                    return way.ends(
                        endpoint, rule.action == "Allow", "profile", profile=profile, index=index, rule=rule
                    )
        return None

    def _tier(
        self,
        endpoint: Thing,
        direction: Direction,
        seen: Seen,
        tier: Tier,
        enforced: Sequence[Policy],
        way: Way,
        traffic: Traffic,
    ) -> Decision | None:
        """None when the next tier is to decide."""
        for policy in enforced:
            for index, rule in enumerate(policy.rules[direction]):
                if not way.is_matched(rule, seen):
                    continue
                if rule.action == "Pass":
                    way.passed.append("Pass")
                    return None
                return way.ends(
                    endpoint,
                    rule.action == "Allow",
                    "rule",
                    tier=tier.name,
                    policy=policy,
                    index=index,
                    rule=rule,
                )
        if traffic in ("untracked", "pre-dnat"):
            way.passed.append("tier-end of no say")
            return None
        if tier.action == "Pass":
            way.passed.append("tier-end Pass")
            return None
        return way.ends(endpoint, False, "tier-end", tier=tier.name)
