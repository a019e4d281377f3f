"""Tiers, policies, rules and profiles in their order: what becomes of a packet at one endpoint in one direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tortie.desired.policies import Action, AppliedPolicies, Direction, PolicyKey, PolicyRow, RuleRow, TierRow
from tortie.verdict.matching import matches
from tortie.verdict.packet import Packet
from tortie.verdict.state import State
from tortie.verdict.steps import PROFILE_KIND, DecidedBy, Step, Verdict

Asked = Callable[[RuleRow], bool]
"""Whether a rule matches the packet in question."""

MISSING = PolicyRow(
    tier="",
    ingress=(RuleRow(action="Deny"),),
    egress=(RuleRow(action="Deny"),),
    invalid="its rules are not there",
)
"""Stands for a policy or a profile that applies and has no row: nothing passes."""


_OF_A_PROFILE = PolicyRow(tier="")


class Outcome(NamedTuple):
    """``verdict`` None: nothing decided; who asked knows what that means there."""

    verdict: Verdict | None
    decided_by: DecidedBy | None = None


UNDECIDED = Outcome(None)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Whose policies they are, and whether what reaches a tier's end can be dropped there."""

    endpoint: str = ""
    tiers_end: bool = True


def asking(packet: Packet, state: State) -> Asked:
    return lambda rule: matches(rule, packet, state)


def evaluate(
    state: State,
    applied: AppliedPolicies,
    direction: Direction,
    asked: Asked,
    *,
    place: Place | None = None,
    steps: list[Step] | None = None,
) -> Outcome:
    """Walk the tiers, then the profiles. ``steps`` takes what was asked on the way."""
    walk = _Walk(state, direction, asked, place or Place(), steps)
    for tier in applied.tiers:
        outcome = walk.tier(tier)
        if outcome.verdict is not None:
            return outcome
    return walk.profiles(applied.profiles)


class _Walk:
    def __init__(
        self, state: State, direction: Direction, asked: Asked, place: Place, steps: list[Step] | None
    ) -> None:
        self._state = state
        self._direction: Direction = direction
        self._asked = asked
        self._place = place
        self._steps = steps

    def tier(self, tier: TierRow) -> Outcome:
        for key in tier.policies:
            policy = self._state.policies.get(key, MISSING)
            action = self._rules(policy.rules(self._direction), tier.name, key, policy)
            if policy.staged or action is None:
                continue
            if action == "Pass":
                return UNDECIDED
            return Outcome("allow" if action == "Allow" else "deny", "rule")
        if not self._place.tiers_end:
            return UNDECIDED
        if self._steps is not None:
            end = Step(
                endpoint=self._place.endpoint, tier=tier.name, action=tier.default_action, matched=True
            )
            self._steps.append(end)
        return UNDECIDED if tier.default_action == "Pass" else Outcome("deny", "tier-end")

    def profiles(self, names: tuple[str, ...]) -> Outcome:
        for name in names:
            row = self._state.profiles.get(name, MISSING)
            key = PolicyKey(PROFILE_KIND, "", name)
            action = self._rules(row.rules(self._direction), "", key, _OF_A_PROFILE)
            if action in ("Allow", "Deny"):
                return Outcome("allow" if action == "Allow" else "deny", "profile")
        return UNDECIDED

    def _rules(
        self, rules: tuple[RuleRow, ...], tier: str, key: PolicyKey, policy: PolicyRow
    ) -> Action | None:
        """The action of the first rule that matches and ends the policy. One without rules leaves a step all the same: that it
        is there can be why the end of its tier denies."""
        if not rules and self._steps is not None:
            self._steps.append(self._step(tier, key, policy, None, matched=False))
        for rule in rules:
            matched = self._asked(rule)
            if self._steps is not None:
                self._steps.append(self._step(tier, key, policy, rule, matched=matched))
            if matched and rule.action != "Log":
                return rule.action
        return None

    def _step(
        self, tier: str, key: PolicyKey, policy: PolicyRow, rule: RuleRow | None, *, matched: bool
    ) -> Step:
        line = rule.line if rule and rule.line else policy.line
        return Step(
            endpoint=self._place.endpoint,
            tier=tier,
            policy=key,
            rule=rule.index if rule else None,
            row=rule,
            action=rule.action if rule else "",
            matched=matched,
            staged=policy.staged,
            invalid=policy.invalid,
            file=policy.file,
            line=line if policy.file else 0,
        )
