"""Ranges that come and go, against merging them all anew."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.linux.rules.intervals import Interval, Intervals, merged

RANGES = st.tuples(st.integers(0, 120), st.sampled_from((0, 0, 1, 3, 7, 15, 63))).map(
    lambda r: (r[0], r[0] + r[1])
)
STEPS = st.lists(st.tuples(st.frozensets(RANGES, max_size=3), st.frozensets(RANGES, max_size=3)), max_size=12)


def follow(
    kept: Intervals, ranges: set[Interval], added: frozenset[Interval], removed: frozenset[Interval]
) -> None:
    """One step, and what must hold after it."""
    before = set(kept.merged)
    gone, new = kept.change(added - removed, removed - added)
    ranges |= added - removed
    ranges -= removed - added
    assert kept.merged == merged(ranges)
    assert (before - gone) | new == set(kept.merged)
    assert gone <= before
    assert not new & before


@given(st.frozensets(RANGES, min_size=30, max_size=60), STEPS)
def test_step_by_step_they_are_what_all_of_them_come_to(
    start: frozenset[Interval], steps: list[tuple[frozenset[Interval], frozenset[Interval]]]
) -> None:
    kept, ranges = Intervals(), set[Interval]()
    follow(kept, ranges, start, frozenset())
    for added, removed in steps:
        follow(kept, ranges, added, removed)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(kept.merged))


def test_a_change_among_many_concerns_its_neighbours_alone() -> None:
    kept = Intervals()
    many = frozenset((4 * number, 4 * number + 1) for number in range(20_000))
    kept.change(many, ())
    assert kept.change([(8, 9), (10, 10)], ()) == ({(8, 9)}, {(8, 10)})
    assert kept.change((), [(10, 10), (11, 11)]) == ({(8, 10)}, {(8, 9)})
    gone, new = kept.change([(0, 79_999)], ())
    assert (gone, new) == (set(many), {(0, 79_999)})
    assert kept.change((), [(0, 79_999)]) == ({(0, 79_999)}, set(many))
    assert kept.change(random.Random(1).sample(sorted(many), 100), ()) == (set(), set())
