"""Which row wants which kernel object: what a manager needs to change one row at the cost of that row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.desired.table import DesiredKey
from tortie.errors import TortieError

O = TypeVar("O", bound=Hashable)  # noqa: E741
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
W = TypeVar("W")


class _Several(list[O]):
    """Those who claim one object, in the order in which they came to want it as it is."""


class Claims(Generic[O, K, V]):
    """Tells the tracker the difference when a row's wishes change, and remembers whose they are.

    When two rows claim one object the later claim stands; when it is withdrawn the other one does.
    """

    def __init__(self, table: str, tracker: DeltaTracker[K, V]) -> None:
        self._table = table
        self._tracker = tracker
        self._of_owner: dict[O, Mapping[K, V]] = {}
        self._owners: dict[K, O | _Several[O]] = {}
        """Nearly always one."""

    def set(self, owner: O, wanted: Mapping[K, V]) -> None:
        """This is all that the row wants now; nothing at all when it is gone."""
        before = self._of_owner.get(owner, {})
        for key in before:
            if key not in wanted:
                self._withdraw(owner, key)
        for key, value in wanted.items():
            if key not in before:
                self._join(owner, key)
            elif before[key] == value:
                continue
            elif isinstance(owners := self._owners[key], _Several):
                owners.remove(owner)
                owners.append(owner)
            self._tracker.want(key, value)
        if wanted:
            self._of_owner[owner] = wanted
        else:
            self._of_owner.pop(owner, None)

    def _join(self, owner: O, key: K) -> None:
        there = self._owners.setdefault(key, owner)
        if isinstance(there, _Several):
            there.append(owner)
        elif there is not owner:
            self._owners[key] = _Several((there, owner))

    def _withdraw(self, owner: O, key: K) -> None:
        owners = self._owners[key]
        if not isinstance(owners, _Several):
            del self._owners[key]
            self._tracker.unwant(key)
            return
        stood = owners[-1] == owner
        owners.remove(owner)
        if stood:
            self._tracker.want(key, self._of_owner[owners[-1]][key])
        if len(owners) == 1:
            self._owners[key] = owners[0]

    def wanted_by(self, owner: O) -> Mapping[K, V]:
        return self._of_owner.get(owner, {})

    def owners_of(self, key: K) -> tuple[O, ...]:
        owners = self._owners.get(key)
        if owners is None:
            return ()
        return tuple(owners) if isinstance(owners, _Several) else (owners,)

    def blame(self, failed: Mapping[K, TortieError]) -> dict[DesiredKey, TortieError]:
        """The rows whose objects are among these."""
        found: dict[DesiredKey, TortieError] = {}
        for key, error in failed.items():
            for owner in self.owners_of(key):
                found.setdefault(DesiredKey(self._table, owner), error)
        return found

    def everyone(self, error: TortieError) -> dict[DesiredKey, TortieError]:
        """Every row, when something fails on which all of them stand."""
        return {DesiredKey(self._table, owner): error for owner in self._of_owner}
