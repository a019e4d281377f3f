"""What one node of the graph hands to the next, and what the graph hands to the dataplane."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from tortie.desired.table import Delta, Table

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Outlet(Generic[K, V]):
    """Current values by key. A value that does not change tells nobody.

    Subscribers are told the key alone: they note it as dirty and read the value when the graph is flushed.
    """

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._subscribers: list[Callable[[K], None]] = []

    def subscribe(self, on_update: Callable[[K], None]) -> None:
        self._subscribers.append(on_update)

    def put(self, key: K, value: V) -> None:
        if self._values.get(key) != value:
            self._values[key] = value
            self._tell(key)

    def drop(self, key: K) -> None:
        if key in self._values:
            del self._values[key]
            self._tell(key)

    def _tell(self, key: K) -> None:
        for on_update in self._subscribers:
            on_update(key)

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def items(self) -> Iterator[tuple[K, V]]:
        return iter(self._values.items())

    def values(self) -> Iterator[V]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)


class Rows(Generic[K, V]):
    """One table of ``desired``: what it holds, and what changed since it was last taken."""

    def __init__(self, table: Table[K, V]) -> None:
        self.table = table
        self._rows: dict[K, V] = {}
        self._before: dict[K, V | None] = {}
        """Of each key that was touched since `take`: its row then."""

    def want(self, key: K, row: V | None) -> None:
        """The row from now on; None for none."""
        old = self._rows.get(key)
        if old == row:
            return
        self._before.setdefault(key, old)
        if row is None:
            del self._rows[key]
        else:
            self._rows[key] = row

    def get(self, key: K) -> V | None:
        return self._rows.get(key)

    def keys(self) -> Iterator[K]:
        return iter(self._rows)

    def take(self) -> Delta[K, V] | None:
        """What changed since the last time, or None."""
        put: dict[K, V] = {}
        gone: set[K] = set()
        for key, before in self._before.items():
            now = self._rows.get(key)
            if now == before:
                continue
            if now is None:
                gone.add(key)
            else:
                put[key] = now
        self._before.clear()
        return Delta(self.table, put, frozenset(gone)) if put or gone else None
