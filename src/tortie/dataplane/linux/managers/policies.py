"""Rows of policies and profiles to chains, of those that some group leads to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.ipsets import IPSetManager
from tortie.dataplane.linux.rules.policies import Outline, Part, Rendered, of_part, outline
from tortie.dataplane.linux.rules.rule_match import refers_to
from tortie.desired.policies import POLICIES, PROFILES, PolicyKey, PolicyRow, ProfileRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import ElementKey, NftKey, NftValue, Rule, SetKey


class PolicyManager:
    """Groups say by `use` and `leave` which chains they lead to. Settles after groups and IP sets."""

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue], ipsets: IPSetManager) -> None:
        self._rows: dict[PolicyKey | str, PolicyRow | ProfileRow] = {}
        self._settings = SettingsRow()
        self._ipsets = ipsets
        self._used: Counter[Part] = Counter()
        self._holding: Counter[Part] = Counter()
        """How many of those who lead there could hold the rules themselves."""
        self._apart: set[Part] = set()
        """The kernel refused them where they stood."""
        self._shared: dict[Part, None] = {}
        """Others lead there than before."""
        self._parts_of: dict[PolicyKey | str, set[Part]] = {}
        self._rendered: dict[Part, Rendered] = {}
        self._sets_of: dict[Part, frozenset[str]] = {}
        self._users_of_set: dict[str, set[Part]] = {}
        self._dirty: dict[Part, None] = {}
        self._outlines: dict[Part, Outline] = {}
        self._turned: set[Part] = set()
        self._moved: set[Part] = set()
        self._claims: Claims[Part, NftKey, NftValue] = Claims(POLICIES.name, tracker)

    # What groups ask

    def use(self, part: Part, *, holds: bool = False) -> None:
        """Somebody leads there; ``holds``: and could hold the rules himself, if nobody else does (`rules_within`)."""
        self._used[part] += 1
        self._holding[part] += holds
        self._shared[part] = None
        if self._used[part] == 1:
            self._parts_of.setdefault(part.subject, set()).add(part)
            self._dirty[part] = None

    def leave(self, part: Part, *, holds: bool = False) -> None:
        self._used[part] -= 1
        self._holding[part] -= holds
        self._shared[part] = None
        if not self._used[part]:
            del self._used[part], self._holding[part]
            self._parts_of[part.subject].discard(part)
            if not self._parts_of[part.subject]:
                del self._parts_of[part.subject]
            self._outlines.pop(part, None)
            self._apart.discard(part)
            self._dirty[part] = None

    def outline(self, part: Part) -> Outline:
        """What whoever jumps to its chain must know of it."""
        found = self._outlines.get(part)
        if found is None:
            found = self._outlines[part] = outline(part, self._rows.get(part.subject))
        return found

    def take_turned(self) -> set[Part]:
        """Parts of which the outline has changed since the last call."""
        turned, self._turned = self._turned, set()
        return turned

    def rules_within(self, part: Part) -> tuple[Rule, ...] | None:
        """Its rules, if they are to stand where it is led to from; None: they have a chain of their own."""
        rendered = self._rendered.get(part)
        return rendered.within if rendered is not None else None

    def take_moved(self) -> set[Part]:
        """Parts of which `rules_within` has changed since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def set_apart(self, part: Part) -> None:
        """Give it a chain of its own until its policy changes, or nobody leads there."""
        self._apart.add(part)
        self._dirty[part] = None

    def broken(self, failed: Mapping[Any, TortieError]) -> dict[Part, TortieError]:
        """The parts of which anything is not in the kernel: their own objects, or a set that they refer to."""
        found: dict[Part, TortieError] = {}
        for key, error in failed.items():
            for part in self._claims.owners_of(key):
                found.setdefault(part, error)
        sets = {
            (key.family, key.set_name if isinstance(key, ElementKey) else key.name): error
            for key, error in failed.items()
            if isinstance(key, ElementKey | SetKey)
        }
        if sets:
            for ipset, parts in self._users_of_set.items():
                for part in parts:
                    missing = sets.get((part.family, self._ipsets.name_of(part.family, ipset)))
                    if missing is not None:
                        found.setdefault(part, missing)
        return found

    @property
    def rendered(self) -> Mapping[Part, Rendered]:
        """What stands for each part in use."""
        return self._rendered

    @property
    def rows(self) -> Mapping[PolicyKey | str, PolicyRow | ProfileRow]:
        """Of policies by their keys, of profiles by their names."""
        return self._rows

    # Manager

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table in (POLICIES, PROFILES):
            changed = [key for key, row in delta.put.items() if self._rows.get(key) != row]
            before = {part: self._outlines.pop(part, None) for part in self._parts(changed, delta.gone)}
            for subject in delta.gone:
                self._rows.pop(subject, None)
            self._rows.update(delta.put)
            for part, known in before.items():
                self._dirty[part] = None
                self._apart.discard(part)
                if self.outline(part) != known:
                    self._turned.add(part)
        elif delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            if settings != self._settings:
                self._dirty.update(dict.fromkeys(self._used))
            self._settings = settings

    def _parts(self, *subjects: Iterable[PolicyKey | str]) -> list[Part]:
        return [part for group in subjects for subject in group for part in self._parts_of.get(subject, ())]

    def settle(self) -> None:
        for ipset in self._ipsets.take_renamed():
            self._dirty.update(dict.fromkeys(self._users_of_set.get(ipset, ())))
        for part in self._shared:
            if self._may_stand_within(part) != (self.rules_within(part) is not None):
                self._dirty[part] = None
        self._shared.clear()
        for part in self._dirty:
            self._render(part)
        self._dirty.clear()

    def _may_stand_within(self, part: Part) -> bool:
        return self._used[part] == self._holding[part] == 1 and part not in self._apart

    def _render(self, part: Part) -> None:
        row = self._rows.get(part.subject)
        used = part in self._used
        rules = row.rules(part.direction) if row is not None and used else ()
        self._refer(part, frozenset(ipset for rule in rules for ipset in refers_to(rule)))
        if not used:
            self._claims.set(part, {})
            self._rendered.pop(part, None)
            return
        before = self.rules_within(part)
        alone = self._may_stand_within(part)
        rendered = of_part(part, row, self._settings, self._ipsets.name_of, alone=alone)
        self._rendered[part] = rendered
        if rendered.within != before:
            self._moved.add(part)
        self._claims.set(part, rendered.objects)

    def _refer(self, part: Part, ipsets: frozenset[str]) -> None:
        before = self._sets_of.pop(part, frozenset())
        for ipset in before - ipsets:
            self._users_of_set[ipset].discard(part)
            if not self._users_of_set[ipset]:
                del self._users_of_set[ipset]
        for ipset in ipsets - before:
            self._users_of_set.setdefault(ipset, set()).add(part)
        if ipsets:
            self._sets_of[part] = ipsets

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        if not failed:
            return {}
        found: dict[DesiredKey, TortieError] = {}
        for part, error in self.broken(failed).items():
            table = PROFILES if isinstance(part.subject, str) else POLICIES
            found.setdefault(DesiredKey(table.name, part.subject), error)
        return found
