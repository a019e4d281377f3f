"""Tables, their changes, and what a flush of the calculation carries to the dataplane."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Table(Generic[K, V]):
    """A named kind of desired object, with its row type."""

    name: str
    row: type[V]


class DesiredKey(NamedTuple):
    """One row of one table, by name."""

    table: str
    key: Hashable


@dataclass(frozen=True, eq=False)
class Delta(Generic[K, V]):
    """What changed in one table since the flush before. A key is in ``put`` or in ``gone``, never in both."""

    table: Table[K, V]
    put: Mapping[K, V] = field(default_factory=dict[K, V])
    gone: frozenset[K] = frozenset()


class Problem(NamedTuple):
    """Something in the datastore that cannot be taken as it is, and what is wrong with it."""

    subject: str
    field: str
    reason: str
    unsafe: bool = False
    """It leaves open what it was to guard, so that the agent is not ready."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.subject, self.field, self.reason) if part)


@dataclass(frozen=True, eq=False)
class Flush:
    """One step of the desired state.

    ``generation`` counts the flushes of this agent. Until ``in_sync`` is True a dataplane only reads. ``problems`` are all
    that stand now, not only new ones. Deltas come in `desired.order`, at most one a table.
    """

    generation: int
    deltas: tuple[Delta[Any, Any], ...] = ()
    in_sync: bool = False
    problems: tuple[Problem, ...] = ()
