"""Wanted against seen, by key, at the cost of what changed."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Absent:
    """Stands for no value: None is a value."""


_ABSENT: Final = _Absent()


@dataclass(frozen=True, eq=False)
class Pending(Generic[K, V]):
    """What is to be done: keys to bring in line with their value, and keys to remove."""

    put: Mapping[K, V] = field(default_factory=dict[K, V])
    gone: frozenset[K] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.put or self.gone)


class DeltaTracker(Generic[K, V]):
    """Keeps what is wanted, what was seen, and the keys for which these may differ.

    `take` hands out what is to be done and forgets it; each of its keys must come back, through `did` or through `failed`.
    A key that failed is unsure: it counts as different from whatever is wanted until it was done or seen.
    """

    def __init__(self) -> None:
        self._wanted: dict[K, V] = {}
        self._seen: dict[K, V] = {}
        self._dirty: dict[K, None] = {}
        self._unsure: set[K] = set()

    @property
    def wanted(self) -> Mapping[K, V]:
        return MappingProxyType(self._wanted)

    @property
    def seen(self) -> Mapping[K, V]:
        """What is there as far as we know: as last read, and changed since by what was done."""
        return MappingProxyType(self._seen)

    @property
    def is_dirty(self) -> bool:
        """Whether `take` may have something to hand out."""
        return bool(self._dirty)

    def want(self, key: K, value: V) -> None:
        self._wanted[key] = value
        self._dirty[key] = None

    def unwant(self, key: K) -> None:
        """It shall not be there. Unwanting what nobody wanted costs nothing and is no error."""
        self._wanted.pop(key, None)
        self._dirty[key] = None

    def saw(self, actual: Mapping[K, V], *, only: Collection[K] | None = None) -> None:
        """This is what is there: everything, or all that is to be said of the keys in ``only``."""
        if only is None:
            self._seen = dict(actual)
            self._unsure.clear()
            self._dirty = {key: None for key, value in self._wanted.items() if not self._is_there(key, value)}
            self._dirty.update((key, None) for key in self._seen if key not in self._wanted)
            return
        for key in only:
            self._unsure.discard(key)
            if key in actual:
                self._seen[key] = actual[key]
            else:
                self._seen.pop(key, None)
            self._dirty[key] = None

    def take(self) -> Pending[K, V]:
        """What is to be done now, as it is now: later changes of what is wanted do not touch it."""
        put: dict[K, V] = {}
        gone: list[K] = []
        for key in self._dirty:
            wanted = self._wanted.get(key, _ABSENT)
            if not isinstance(wanted, _Absent):
                if not self._is_there(key, wanted):
                    put[key] = wanted
            elif key in self._seen or key in self._unsure:
                gone.append(key)
        self._dirty = {}
        return Pending(put, frozenset(gone))

    def did(self, put: Mapping[K, V], gone: Iterable[K] = ()) -> None:
        """These are real now."""
        for key, value in put.items():
            self._seen[key] = value
            self._unsure.discard(key)
            if not self._is_wanted(key, value):
                self._dirty[key] = None
        for key in gone:
            self._seen.pop(key, None)
            self._unsure.discard(key)
            if key in self._wanted:
                self._dirty[key] = None

    def failed(self, keys: Iterable[K]) -> None:
        """What was asked for these may be done, half done or not done: they come again."""
        for key in keys:
            self._unsure.add(key)
            self._dirty[key] = None

    def _is_there(self, key: K, value: V) -> bool:
        if key in self._unsure:
            return False
        seen = self._seen.get(key, _ABSENT)
        return not isinstance(seen, _Absent) and seen == value

    def _is_wanted(self, key: K, value: V) -> bool:
        wanted = self._wanted.get(key, _ABSENT)
        return not isinstance(wanted, _Absent) and wanted == value
