"""Tiers and orders: which policies hold for an endpoint, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

from tortie.calc.policy import Standing
from tortie.desired.policies import AppliedPolicies, Direction, PolicyKey, TierRow
from tortie.errors import InvalidResource
from tortie.resources.resource import Resource
from tortie.resources.tier import BUILT_IN, TierSpec, default_action

DefaultAction = Literal["Deny", "Pass"]


class Tier(NamedTuple):
    """A tier's place and what happens at its end."""

    order: float | None
    default_action: DefaultAction


_BUILT_IN: Mapping[str, Tier] = {
    name: Tier(order, "Pass" if default_action(name) == "Pass" else "Deny")
    for name, order in BUILT_IN.items()
}
_UNKNOWN = Tier(None, "Deny")
"""Policies of a tier that nobody made are enforced after all others."""


class Tiers:
    """Tiers by name: those stored, and Calico's built-in ones where nobody stored them."""

    def __init__(self) -> None:
        self._stored: dict[str, Tier] = {}

    def __len__(self) -> int:
        return len(self._stored)

    def put(self, name: str, resource: Resource[TierSpec] | None) -> bool:
        """Whether that changes anything. Raises `InvalidResource`."""
        before = self.get(name)
        if resource is None:
            self._stored.pop(name, None)
        else:
            action = resource.spec.default_action or default_action(name)
            if action not in ("Deny", "Pass"):
                raise InvalidResource("spec.defaultAction", action, "is neither Deny nor Pass")
            order = resource.spec.order
            self._stored[name] = Tier(
                BUILT_IN.get(name) if order is None else order, "Pass" if action == "Pass" else "Deny"
            )
        return self.get(name) != before

    def exists(self, name: str) -> bool:
        return name in self._stored or name in _BUILT_IN

    def get(self, name: str) -> Tier:
        return self._stored.get(name) or _BUILT_IN.get(name, _UNKNOWN)

    def place(self, name: str) -> tuple[float, str]:
        order = self.get(name).order
        return (math.inf if order is None else order, name)


def place(key: PolicyKey, standing: Standing) -> tuple[float, str]:
    """Where a policy stands in its tier."""
    order = math.inf if standing.order is None else standing.order
    return (order, f"{key.name}/{key.namespace}/{key.kind}")


Ranked = tuple[PolicyKey, Standing]
Filter = Callable[[Standing], bool]


class Resolver:
    """Makes `AppliedPolicies`; equal ones are one object as long as somebody holds it."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self._interned: WeakValueDictionary[tuple[tuple[TierRow, ...], tuple[str, ...]], AppliedPolicies] = (
            WeakValueDictionary()
        )

    def applied(self, tiers: tuple[TierRow, ...], profiles: tuple[str, ...] = ()) -> AppliedPolicies:
        found = AppliedPolicies(tiers=tiers, profiles=profiles)
        return self._interned.setdefault((tiers, profiles), found)

    def tiers(
        self, policies: Sequence[Ranked], direction: Direction, only: Filter, *, ends: bool = True
    ) -> tuple[TierRow, ...]:
        """Of those policies (in their order) the ones for this direction for which ``only`` holds. Without ``ends`` nothing
        happens at a tier's end."""
        by_tier: dict[str, list[Ranked]] = {}
        for ranked in policies:
            standing = ranked[1]
            if direction in standing.directions and only(standing):
                found = by_tier.get(standing.tier)
                if found is None:
                    by_tier[standing.tier] = [ranked]
                else:
                    found.append(ranked)
        return tuple(self._tier(name, by_tier[name], ends) for name in sorted(by_tier, key=self._tiers.place))

    def _tier(self, name: str, policies: Sequence[Ranked], ends: bool) -> TierRow:
        enforced = ends and not all(standing.staged for _, standing in policies)
        return TierRow(
            name=name,
            default_action=self._tiers.get(name).default_action if enforced else "Pass",
            policies=tuple(key for key, _ in policies),
        )
