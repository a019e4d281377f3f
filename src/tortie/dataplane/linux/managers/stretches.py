"""Stretches of tiers: which chains they are, and what stands in them, kept while any tier walks them."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.leaders import Sharers
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.rules.groups import Stretch, of_stretch, stretch_name
from tortie.dataplane.linux.rules.policies import Part
from tortie.desired.policies import POLICIES
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import KernelError, TortieError
from tortie.host.nft import NftKey, NftValue

_OUT_OF_MEMORY = (errno.ENOMEM, errno.ENOBUFS)


@dataclass(eq=False)
class Walk:
    """One stretch, and the tiers that share it."""

    stretch: Stretch
    sharers: Sharers[Any] = field(default_factory=Sharers[Any])
    may_pass: bool = False
    """Whether a policy in it may say Pass."""

    @property
    def name(self) -> str:
        """Of its chain; after `StretchManager.elect`."""
        return stretch_name(self.stretch, self.sharers.leader)


class StretchManager:
    """Tiers join and leave the sharers of a `walk`, then `elect` gives the chains their names. Settles after policies, since a
    stretch holds the rules of those policies to which it alone leads.
    """

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue], policies: PolicyManager) -> None:
        self._policies = policies
        self._settings = SettingsRow()
        self._walks: dict[Stretch, Walk] = {}
        self._walks_of: dict[Part, set[Walk]] = {}
        self._dirty: dict[Walk, None] = {}
        self._claims: Claims[Walk, NftKey, NftValue] = Claims("stretches", tracker)

    # What tiers ask

    def walk(self, stretch: Stretch) -> Walk:
        """The one of this stretch."""
        found = self._walks.get(stretch)
        if found is None:
            found = self._walks[stretch] = Walk(stretch)
            for part in stretch.parts():
                self._policies.use(part, holds=stretch.is_chain)
                self._walks_of.setdefault(part, set()).add(found)
            found.may_pass = self._may_pass(found)
        return found

    def elect(self, stirred: Iterable[Walk]) -> list[Walk]:
        """Those that are another thing to their sharers now: of the ``stirred``, which others share than before, those with
        another name, and of all, those that may say other things. One that nobody shares is gone."""
        found = [walk for walk in stirred if self._renamed(walk)]
        for part in self._policies.take_turned():
            for walk in self._walks_of.get(part, ()):
                walk.may_pass = self._may_pass(walk)
                self._dirty[walk] = None
                found.append(walk)
        return found

    def broken(
        self, failed: Mapping[Any, TortieError], by_part: Mapping[Part, TortieError]
    ) -> dict[Walk, TortieError]:
        """Those of which anything is not in the kernel; ``by_part``: as `PolicyManager.broken` tells."""
        found = {walk: error for key, error in failed.items() for walk in self._claims.owners_of(key)}
        for part, error in by_part.items():
            for walk in self._walks_of.get(part, ()):
                found.setdefault(walk, error)
        return found

    def _renamed(self, walk: Walk) -> bool:
        if walk.sharers:
            if not walk.stretch.is_chain or not walk.sharers.elect():
                return False
            self._dirty[walk] = None
            return True
        if self._walks.pop(walk.stretch, None) is not None:
            self._dirty[walk] = None
            for part in walk.stretch.parts():
                self._policies.leave(part, holds=walk.stretch.is_chain)
                self._walks_of[part].discard(walk)
                if not self._walks_of[part]:
                    del self._walks_of[part]
        return False

    def _may_pass(self, walk: Walk) -> bool:
        return any(self._policies.outline(part).passes for part in walk.stretch.parts())

    # Manager

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            if settings != self._settings:
                self._dirty.update(dict.fromkeys(self._walks.values()))
            self._settings = settings

    def settle(self) -> None:
        for part in self._policies.take_moved():
            self._dirty.update(dict.fromkeys(self._walks_of.get(part, ())))
        for walk in self._dirty:
            self._claims.set(walk, self._rendered(walk))
        self._dirty.clear()

    def _rendered(self, walk: Walk) -> Mapping[NftKey, NftValue]:
        stretch = walk.stretch
        if not stretch.is_chain or not walk.sharers:
            return {}
        held = [(self._policies.outline(part), self._policies.rules_within(part)) for part in stretch.parts()]
        return of_stretch(stretch, walk.name, held, self._settings)

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        """The policies of which rules stand where the kernel refused something. They get chains of their own until they change,
        for one cannot tell which of them it was, and none shall hinder the others. That memory ran out is nobody's fault."""
        found: dict[DesiredKey, TortieError] = {}
        for key, error in failed.items():
            for walk in self._claims.owners_of(key):
                for part in walk.stretch.parts():
                    if self._policies.rules_within(part) is None:
                        continue
                    found[DesiredKey(POLICIES.name, part.subject)] = error
                    if not (isinstance(error, KernelError) and error.errno in _OUT_OF_MEMORY):
                        self._policies.set_apart(part)
        return found
