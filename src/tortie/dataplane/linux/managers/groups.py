"""Groups of endpoints that are treated alike: which chains they walk, kept while anybody is in them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.leaders import Sharers, Tokens
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.managers.stretches import StretchManager, Walk
from tortie.dataplane.linux.rules.groups import (
    Kind,
    group_name,
    of_group,
    of_tier,
    profile_parts,
    stretches,
    tier_name,
)
from tortie.desired.policies import AppliedPolicies, TierRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import NftKey, NftValue


@dataclass(eq=False)
class Group:
    """Those for whom the same holds in one direction. ``sort``: of what; these have nothing to do with each other's groups."""

    sort: str
    kind: Kind
    applied: AppliedPolicies
    sharers: Sharers[Hashable] = field(default_factory=Sharers[Hashable])
    tiers: list[_Tier] = field(default_factory=list["_Tier"])

    @property
    def name(self) -> str:
        """Of its chain; after `GroupManager.elect`."""
        return group_name(self.kind, self.sharers.leader)


@dataclass(eq=False)
class _Tier:
    kind: Kind
    row: TierRow
    sharers: Sharers[Group] = field(default_factory=Sharers[Group])
    stretches: list[Walk] = field(default_factory=list[Walk])

    @property
    def name(self) -> str:
        return tier_name(self.kind, self.row, self.sharers.leader)


@dataclass
class _Stirred:
    """What shall be looked at anew, in the order in which it came. ``walks``: stretches that others share than before."""

    groups: dict[Group, None] = field(default_factory=dict[Group, None])
    tiers: dict[_Tier, None] = field(default_factory=dict[_Tier, None])
    walks: dict[Walk, None] = field(default_factory=dict[Walk, None])


class GroupManager:
    """Endpoints `join` and `leave`, then `elect` gives the groups their names. Settles after all of them did.

    Groups share tiers, and tiers share stretches. Each is named after the least of those who share it (`Sharers`), so that a
    change which they all undergo is made where they stand.
    """

    def __init__(
        self,
        tracker: DeltaTracker[NftKey, NftValue],
        policies: PolicyManager,
        stretches: StretchManager,
    ) -> None:
        self._policies = policies
        self._stretches = stretches
        self._settings = SettingsRow()
        self._groups: dict[tuple[str, Kind, AppliedPolicies], Group] = {}
        self._tokens = Tokens()
        self._known: dict[tuple[str, Kind, int], Group] = {}
        """Equal rows are one object, as a rule: then a group need not be found by all that is in it."""
        self._tiers: dict[tuple[Kind, TierRow], _Tier] = {}
        self._stirred: dict[Group, None] = {}
        self._dirty = _Stirred()
        """What is to be rendered."""
        self._claims: Claims[Group | _Tier, NftKey, NftValue] = Claims("groups", tracker)

    # What endpoints ask

    def join(
        self, sort: str, kind: Kind, applied: AppliedPolicies, member: Hashable, created: str = ""
    ) -> Group:
        """One more for whom this holds; ``created``: when it was made (RFC 3339). One that is gone for good is to `forget`."""
        group = self._known.get((sort, kind, id(applied)))
        if group is None or group.applied is not applied:
            group = self._groups.get((sort, kind, applied))
            if group is None:
                group = Group(sort, kind, applied)
                self._groups[sort, kind, applied] = group
                self._known[sort, kind, id(applied)] = group
        group.sharers.join(member, self._tokens.take(member, created))
        self._stirred[group] = None
        return group

    def leave(self, group: Group, member: Hashable) -> None:
        """One fewer."""
        group.sharers.leave(member)
        self._stirred[group] = None

    def forget(self, member: Hashable) -> None:
        """It has left all groups, and does not come back."""
        self._tokens.give_back(member)

    def elect(self) -> list[Group]:
        """The groups that have other names now; those that nobody is in any more are not among them."""
        # One member more or less is nothing to a group that keeps its name.
        changed = [group for group in self._stirred if group.sharers.elect() or not group.sharers]
        self._dirty.groups.update(dict.fromkeys(changed))
        self._stirred = {}
        return [group for group in changed if group.sharers]

    def broken(self, failed: Mapping[Any, TortieError]) -> dict[Group, TortieError]:
        """The groups of which anything on the way is not in the kernel."""
        wrong: dict[Group | _Tier, TortieError] = {}
        for key, error in failed.items():
            for owner in self._claims.owners_of(key):
                wrong.setdefault(owner, error)
        by_part = self._policies.broken(failed)
        by_walk = self._stretches.broken(failed, by_part)
        if not wrong and not by_part and not by_walk:
            return {}
        found: dict[Group, TortieError] = {}
        for group in self._groups.values():
            on_the_way = [wrong.get(group)]
            for tier in group.tiers:
                on_the_way += [wrong.get(tier), *(by_walk.get(walk) for walk in tier.stretches)]
            on_the_way += [by_part.get(part) for part in profile_parts(group.kind, group.applied)]
            first = next((each for each in on_the_way if each is not None), None)
            if first is not None:
                found[group] = first
        return found

    # Who shares what

    def _share_tiers(self, group: Group) -> None:
        if not group.sharers:
            self._forget(group)
            return
        if not group.tiers:
            for row in group.applied.tiers:
                # The same whether the group cuts or not.
                of = (group.kind._replace(cuts=False), row)
                tier = self._tiers.get(of)
                if tier is None:
                    tier = self._tiers[of] = _Tier(*of)
                group.tiers.append(tier)
        if not self._claims.wanted_by(group):
            for part in profile_parts(group.kind, group.applied):
                self._policies.use(part)
        for tier in group.tiers:
            tier.sharers.join(group, group.sharers.leader)
            self._dirty.tiers[tier] = None

    def _forget(self, group: Group) -> None:
        for tier in group.tiers:
            tier.sharers.leave(group)
            self._dirty.tiers[tier] = None
        group.tiers = []
        if self._claims.wanted_by(group):
            for part in profile_parts(group.kind, group.applied):
                self._policies.leave(part)
        self._groups.pop((group.sort, group.kind, group.applied), None)
        self._known.pop((group.sort, group.kind, id(group.applied)), None)

    def _share_walks(self, tier: _Tier) -> None:
        renamed = tier.sharers.elect()
        if not tier.sharers:
            for walk in tier.stretches:
                walk.sharers.leave(tier)
                self._dirty.walks[walk] = None
            tier.stretches = []
            self._tiers.pop((tier.kind, tier.row), None)
            return
        if renamed:
            self._dirty.groups.update(dict.fromkeys(tier.sharers))
        if not tier.stretches:
            for stretch in stretches(tier.kind, tier.row):
                tier.stretches.append(self._stretches.walk(stretch))
        elif not renamed:
            return
        for walk in tier.stretches:
            walk.sharers.join(tier, tier.sharers.leader)
            self._dirty.walks[walk] = None

    # Manager

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            if settings != self._settings:
                self._dirty.groups.update(dict.fromkeys(self._groups.values()))
                self._dirty.tiers.update(dict.fromkeys(self._tiers.values()))
            self._settings = settings

    def settle(self) -> None:
        dirty = self._dirty
        for group in list(dirty.groups):
            self._share_tiers(group)
        for tier in list(dirty.tiers):
            self._share_walks(tier)
        for walk in self._stretches.elect(dirty.walks):
            dirty.tiers.update(dict.fromkeys(walk.sharers))
        self._render(dirty)
        self._dirty = _Stirred()

    def _render(self, dirty: _Stirred) -> None:
        for group in dirty.groups:
            tiers = [tier.name for tier in group.tiers]
            leader = group.sharers.leader
            self._claims.set(
                group,
                of_group(group.kind, group.applied, leader, tiers, self._settings) if group.sharers else {},
            )
        for tier in dirty.tiers:
            walked = [(walk.name, walk.may_pass) for walk in tier.stretches]
            self._claims.set(
                tier, of_tier(tier.kind, tier.row, tier.name, walked, self._settings) if tier.sharers else {}
            )

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        """Its own rows are none: endpoints ask `broken`."""
        del failed
        return {}
