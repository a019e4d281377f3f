"""Groups of endpoints that are treated alike: which chains they walk, kept while anybody is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.rules.groups import (
    Kind,
    Stretch,
    group_name,
    of_group,
    of_tier,
    parts,
    stretches,
    tier_name,
)
from tortie.dataplane.linux.rules.policies import Part
from tortie.desired.policies import AppliedPolicies, TierRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import NftKey, NftValue


class GroupManager:
    """Endpoints `join` and `leave`; settles after them. A group's name is the chain's that a verdict map leads to."""

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue], policies: PolicyManager) -> None:
        self._policies = policies
        self._settings = SettingsRow()
        self._names: dict[tuple[int, Kind], str] = {}
        self._groups: dict[str, tuple[Kind, AppliedPolicies]] = {}
        self._tiers: dict[str, tuple[Kind, TierRow]] = {}
        self._members: Counter[str] = Counter()
        self._tiers_of: dict[Stretch, set[str]] = {}
        self._stretches_of: dict[Part, set[Stretch]] = {}
        self._passing: dict[Stretch, tuple[bool, ...]] = {}
        self._dirty: dict[str, None] = {}
        self._claims: Claims[str, NftKey, NftValue] = Claims("groups", tracker)

    def join(self, kind: Kind, applied: AppliedPolicies) -> str:
        """One endpoint more; the name of its group."""
        name = self._name(kind, applied)
        self._members[name] += 1
        if self._members[name] > 1:
            return name
        self._groups[name] = (kind, applied)
        self._names[id(applied), kind] = name
        self._dirty[name] = None
        for tier in applied.tiers:
            self._join_tier(kind, tier)
        for part in parts(kind, AppliedPolicies(profiles=applied.profiles)):
            self._policies.use(part)
        return name

    def _name(self, kind: Kind, applied: AppliedPolicies) -> str:
        """Equal rows are one object, as a rule: then its name need not be made again from all that is in it."""
        name = self._names.get((id(applied), kind))
        if name is not None and self._groups[name][1] is applied:
            return name
        return group_name(kind, applied)

    def _join_tier(self, kind: Kind, tier: TierRow) -> None:
        name = tier_name(kind, tier)
        self._members[name] += 1
        if self._members[name] > 1:
            return
        self._tiers[name] = (kind, tier)
        self._dirty[name] = None
        for stretch in stretches(kind, tier):
            tiers = self._tiers_of.get(stretch)
            if tiers is not None:
                tiers.add(name)
                continue
            self._tiers_of[stretch] = {name}
            for part in stretch.parts():
                self._policies.use(part)
                self._stretches_of.setdefault(part, set()).add(stretch)

    def leave(self, name: str) -> None:
        """One endpoint fewer."""
        self._members[name] -= 1
        if self._members[name]:
            return
        del self._members[name]
        kind, applied = self._groups.pop(name)
        self._names.pop((id(applied), kind), None)
        self._dirty[name] = None
        for tier in applied.tiers:
            self._leave_tier(kind, tier)
        for part in parts(kind, AppliedPolicies(profiles=applied.profiles)):
            self._policies.leave(part)

    def _leave_tier(self, kind: Kind, tier: TierRow) -> None:
        name = tier_name(kind, tier)
        self._members[name] -= 1
        if self._members[name]:
            return
        del self._members[name], self._tiers[name]
        self._dirty[name] = None
        for stretch in stretches(kind, tier):
            self._tiers_of[stretch].discard(name)
            if not self._tiers_of[stretch]:
                del self._tiers_of[stretch]
                self._passing.pop(stretch, None)
                self._leave_stretch(stretch)

    def _leave_stretch(self, stretch: Stretch) -> None:
        for part in stretch.parts():
            self._policies.leave(part)
            self._stretches_of[part].discard(stretch)
            if not self._stretches_of[part]:
                del self._stretches_of[part]

    def _tiers_with(self, part: Part) -> set[str]:
        return {
            name for stretch in self._stretches_of.get(part, ()) for name in self._tiers_of.get(stretch, ())
        }

    def _may_pass(self, stretch: Stretch) -> tuple[bool, ...]:
        found = self._passing.get(stretch)
        if found is None:
            found = self._passing[stretch] = tuple(self._policies.may_pass(part) for part in stretch.parts())
        return found

    def broken(self, failed: Mapping[Any, TortieError]) -> dict[str, TortieError]:
        """The groups of which anything on the way is not in the kernel."""
        found: dict[str, TortieError] = {}
        for key, error in failed.items():
            for name in self._claims.owners_of(key):
                found.setdefault(name, error)
        by_part = self._policies.broken(failed)
        for part, error in by_part.items():
            for name in self._tiers_with(part):
                found.setdefault(name, error)
        if not found and not by_part:
            return {}
        for name, (kind, applied) in self._groups.items():
            on_the_way = [found.get(tier_name(kind, tier)) for tier in applied.tiers]
            on_the_way += [
                by_part.get(part) for part in parts(kind, AppliedPolicies(profiles=applied.profiles))
            ]
            first = next((each for each in on_the_way if each is not None), None)
            if first is not None:
                found.setdefault(name, first)
        return found

    # Manager

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            if settings != self._settings:
                self._dirty.update(dict.fromkeys((*self._groups, *self._tiers)))
            self._settings = settings

    def settle(self) -> None:
        for part in self._policies.take_turned():
            for stretch in self._stretches_of.get(part, ()):
                self._passing.pop(stretch, None)
            self._dirty.update(dict.fromkeys(self._tiers_with(part)))
        for name in self._dirty:
            if name in self._groups:
                self._claims.set(name, of_group(*self._groups[name], self._settings))
            elif name in self._tiers:
                self._claims.set(name, of_tier(*self._tiers[name], self._settings, self._may_pass))
            else:
                self._claims.set(name, {})
        self._dirty.clear()

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        """Its own rows are none: endpoints ask `broken`."""
        del failed
        return {}
