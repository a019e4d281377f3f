"""Scenarios as lists of states of the datastore, and five ways to arrive at each state.

A state is the whole datastore, and what the tables should then hold. Each list is run as written and expanded: what the graph
says must depend on the state alone, not on how it came about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.desired.table import Flush, Table
from tortie.resources.resource import Delete, Invalid, Put, Resource, ResourceKey, Update

Stored = Resource[Any] | Invalid


@dataclass(frozen=True, eq=False)
class State:
    """``rows``: of each table named, everything it should hold. ``problems``: parts of texts that should be reported, and
    nothing else should be."""

    name: str
    stored: Mapping[ResourceKey, Stored] = field(default_factory=dict[ResourceKey, Stored])
    rows: Mapping[Table[Any, Any], Mapping[Any, Any]] = field(
        default_factory=dict[Table[Any, Any], Mapping[Any, Any]]
    )
    problems: tuple[str, ...] = ()

    def then(self, name: str, *stored: Stored, without: Iterable[Stored] = ()) -> State:
        """Another state: this one with more, or with other, resources, or with less. Expectations do not carry over."""
        gone = {each.key for each in without}
        kept = {key: each for key, each in self.stored.items() if key not in gone}
        return State(name, {**kept, **{each.key: each for each in stored}})

    def holds(self, table: Table[Any, Any], rows: Mapping[Any, Any]) -> State:
        return replace(self, rows={**self.rows, table: rows})

    def reports(self, *problems: str) -> State:
        return replace(self, problems=problems)


EMPTY = State("empty")


class Run:
    """A graph, and the tables as a dataplane that applied every flush would hold them."""

    def __init__(self, scope: Scope) -> None:
        self.graph = CalcGraph(scope)
        self.tables: dict[str, dict[Any, Any]] = {}
        self.last = Flush(0)
        self._stored: Mapping[ResourceKey, Stored] = {}

    def updates_to(self, state: State) -> list[Update]:
        """What a syncer would say on the way from the last state to this one."""
        updates: list[Update] = [
            stored if isinstance(stored, Invalid) else Put(stored)
            for key, stored in state.stored.items()
            if self._stored.get(key) is not stored
        ]
        updates += [Delete(key) for key in self._stored if key not in state.stored]
        self._stored = state.stored
        return updates

    def take(self, updates: Iterable[Update]) -> None:
        self.graph.fold(list(updates))

    def wander(self, history: Iterable[State], random: Any) -> None:
        """From state to state by updates in any order, in slices of any size, flushed now and then and at the end."""
        for state in history:
            updates = self.updates_to(state)
            random.shuffle(updates)
            while updates:
                size = random.randint(1, len(updates))
                self.take(updates[:size])
                updates = updates[size:]
                if random.random() < 0.5:
                    self.flush()
        self.flush()

    def flush(self) -> Flush:
        self.last = self.graph.flush(in_sync=True)
        for delta in self.last.deltas:
            rows = self.tables.setdefault(delta.table.name, {})
            assert not delta.put.keys() & delta.gone
            assert delta.gone <= rows.keys(), "the graph took away what it never gave"
            assert all(rows.get(key) != row for key, row in delta.put.items()), "the graph repeated itself"
            for key in delta.gone:
                del rows[key]
            rows.update(delta.put)
        return self.last

    def snapshot(self) -> tuple[dict[str, dict[Any, Any]], tuple[Any, ...]]:
        return {name: dict(rows) for name, rows in self.tables.items() if rows}, self.last.problems

    def check(self, state: State) -> None:
        for table, rows in state.rows.items():
            assert self.tables.get(table.name, {}) == dict(rows), f"{state.name}: {table.name}"
        said = [f"{problem.subject}: {problem.field}: {problem.reason}" for problem in self.last.problems]
        for text in state.problems:
            assert any(text in line for line in said), f"{state.name}: nobody said {text!r} in {said}"
        assert len(said) == len(state.problems), f"{state.name}: {said}"


def from_scratch(scope: Scope, state: State) -> Run:
    """What a graph says that never saw another state."""
    run = Run(scope)
    run.take(run.updates_to(state))
    run.flush()
    return run


Way = Callable[[Run, list[State]], None]


def as_written(run: Run, states: list[State]) -> None:
    for state in states:
        run.take(run.updates_to(state))
        run.flush()
        run.check(state)


def reversed_keys(run: Run, states: list[State]) -> None:
    """Within each step, updates come in the opposite order."""
    for state in states:
        run.take(reversed(run.updates_to(state)))
        run.flush()
        run.check(state)


def reversed_states(run: Run, states: list[State]) -> None:
    """Backwards through the list."""
    as_written(run, states[::-1])


def empties_inserted(run: Run, states: list[State]) -> None:
    """Everything vanishes between any two states."""
    for state in states:
        as_written(run, [State("nothing", rows={}), state])


def split(run: Run, states: list[State]) -> None:
    """A flush after every single update."""
    for state in states:
        for update in run.updates_to(state):
            run.take([update])
            run.flush()
        run.flush()
        run.check(state)


def squashed(run: Run, states: list[State]) -> None:
    """No flush before the last state."""
    for state in states:
        run.take(run.updates_to(state))
    run.flush()
    run.check(states[-1])


WAYS: tuple[Way, ...] = (as_written, reversed_keys, reversed_states, empties_inserted, split, squashed)
