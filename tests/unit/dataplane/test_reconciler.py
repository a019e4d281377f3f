"""A driver with its tracker: failures come again, and what mended itself is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from tortie.dataplane.api import Outcome
from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.reconciler import Reconciler
from tortie.errors import KernelError, TortieError


class Shelf:
    """A driver over a dict. ``broken`` keys fail; ``crash`` is raised by the next call."""

    name: ClassVar[str] = "shelf"

    def __init__(self) -> None:
        self.there: dict[str, int] = {}
        self.broken: set[str] = set()
        self.crash: BaseException | None = None
        self.calls: list[tuple[dict[str, int], frozenset[str]]] = []

    async def read(self) -> Mapping[str, int]:
        return dict(self.there)

    async def apply(self, put: Mapping[str, int], gone: frozenset[str]) -> Outcome:
        self.calls.append((dict(put), gone))
        if self.crash is not None:
            raise self.crash
        failed: dict[str, TortieError] = {}
        for key in [*put, *gone]:
            if key in self.broken:
                failed[key] = KernelError(5, "put on the shelf", key)
            elif key in put:
                self.there[key] = put[key]
            else:
                self.there.pop(key, None)
        return Outcome(failed)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def reconciler(shelf: Shelf) -> Reconciler[str, int]:
    return Reconciler(shelf, DeltaTracker())


async def round_of(reconciler: Reconciler[str, int]) -> None:
    reconciler.begin()
    await reconciler.remove()
    await reconciler.put()


async def test_removals_and_puts_are_separate_or_at_once(
    shelf: Shelf, reconciler: Reconciler[str, int]
) -> None:
    shelf.there = {"old": 1}
    await reconciler.read()
    reconciler.tracker.want("new", 2)
    await round_of(reconciler)
    assert shelf.calls == [({}, frozenset({"old"})), ({"new": 2}, frozenset())]
    reconciler.tracker.want("newer", 3)
    reconciler.tracker.unwant("new")
    reconciler.begin()
    await reconciler.apply()
    assert shelf.calls[2:] == [({"newer": 3}, frozenset({"new"}))]
    assert (reconciler.puts, reconciler.removals) == (2, 2)
    await round_of(reconciler)
    assert len(shelf.calls) == 3, "nothing to do is no call"


async def test_a_failure_stops_no_other_and_comes_again(
    shelf: Shelf, reconciler: Reconciler[str, int]
) -> None:
    shelf.broken = {"bad"}
    for key in ("good", "bad"):
        reconciler.tracker.want(key, 1)
    await round_of(reconciler)
    assert shelf.there == {"good": 1}
    assert list(reconciler.failed) == ["bad"]
    shelf.broken = set()
    await round_of(reconciler)
    assert shelf.there == {"good": 1, "bad": 1}
    assert not reconciler.failed
    assert shelf.calls[-1] == ({"bad": 1}, frozenset())


async def test_a_failure_that_mended_itself_is_forgotten(
    shelf: Shelf, reconciler: Reconciler[str, int]
) -> None:
    shelf.broken = {"bad"}
    reconciler.tracker.want("bad", 1)
    await round_of(reconciler)
    reconciler.saw({"bad": 1}, only=["bad"])
    await round_of(reconciler)
    assert not reconciler.failed


async def test_a_failure_that_nobody_wants_any_more_is_cleaned_up(
    shelf: Shelf, reconciler: Reconciler[str, int]
) -> None:
    shelf.broken = {"bad"}
    reconciler.tracker.want("bad", 1)
    await round_of(reconciler)
    reconciler.tracker.unwant("bad")
    shelf.broken = set()
    await round_of(reconciler)
    assert shelf.calls[-1] == ({}, frozenset({"bad"}))
    assert not reconciler.failed


async def test_an_error_of_the_whole_call_is_one_of_each_key(
    shelf: Shelf, reconciler: Reconciler[str, int]
) -> None:
    shelf.crash = KernelError(105, "send")
    reconciler.tracker.want("a", 1)
    reconciler.tracker.want("b", 1)
    await round_of(reconciler)
    assert set(reconciler.failed) == {"a", "b"}
    shelf.crash = None
    await round_of(reconciler)
    assert shelf.there == {"a": 1, "b": 1}


async def test_a_defect_is_raised_and_nothing_is_lost(shelf: Shelf, reconciler: Reconciler[str, int]) -> None:
    shelf.crash = ZeroDivisionError()
    reconciler.tracker.want("a", 1)
    reconciler.begin()
    with pytest.raises(ZeroDivisionError):
        await reconciler.put()
    shelf.crash = None
    await round_of(reconciler)
    assert shelf.there == {"a": 1}


async def test_a_round_that_was_begun_and_left_comes_again(
    shelf: Shelf, reconciler: Reconciler[str, int]
) -> None:
    reconciler.tracker.want("a", 1)
    reconciler.begin()
    await round_of(reconciler)
    assert shelf.there == {"a": 1}
