"""Overlapping ranges as intervals that do not touch, kept up at the cost of what changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable

Interval = tuple[int, int]
"""First and last; both belong to it."""

_REBUILD = 8
"""When more than one range in so many changes, all are merged anew: that is a sort, and cheaper than as many insertions."""


def merged(ranges: Iterable[Interval]) -> list[Interval]:
    """The same numbers as few intervals, in order; overlapping and adjacent ones become one."""
    found: list[Interval] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


class Intervals:
    """A set of ranges, each there once, and what they come to."""

    def __init__(self) -> None:
        self._ranges: list[Interval] = []
        self._merged: list[Interval] = []

    @property
    def merged(self) -> list[Interval]:
        return self._merged

    def change(
        self, added: Collection[Interval], removed: Collection[Interval]
    ) -> tuple[set[Interval], set[Interval]]:
        """Ranges come and go; the intervals that are no more, and those that are new."""
        if (len(added) + len(removed)) * _REBUILD > len(self._ranges):
            return self._rebuild({*self._ranges, *added}.difference(removed))
        before: set[Interval] = set()
        after: set[Interval] = set()
        for one in removed:
            place = bisect_left(self._ranges, one)
            if place < len(self._ranges) and self._ranges[place] == one:
                del self._ranges[place]
                self._replace(*self._around(*one), before, after, again=True)
        for one in added:
            place = bisect_left(self._ranges, one)
            if place == len(self._ranges) or self._ranges[place] != one:
                insort(self._ranges, one)
                self._replace(*self._around(*one), before, after, again=False, extra=one)
        return before - after, after - before

    def _rebuild(self, ranges: Collection[Interval]) -> tuple[set[Interval], set[Interval]]:
        old = set(self._merged)
        self._ranges = sorted(ranges)
        self._merged = merged(self._ranges)
        new = set(self._merged)
        return old - new, new - old

    def _around(self, low: int, high: int) -> tuple[int, int]:
        """The places of the intervals that overlap or touch this range."""
        first = bisect_left(self._merged, low - 1, key=lambda interval: interval[1])
        return first, bisect_right(self._merged, high + 1, key=lambda interval: interval[0])

    def _replace(
        self,
        first: int,
        end: int,
        before: set[Interval],
        after: set[Interval],
        *,
        again: bool,
        extra: Interval | None = None,
    ) -> None:
        """Make these intervals anew: from the ranges in them (``again``), or by joining them with one more."""
        old = self._merged[first:end]
        if again:
            new = merged(self._within(old))
        else:
            new = merged([*old, extra] if extra is not None else old)
        self._merged[first:end] = new
        for one in old:
            if one in after:
                after.discard(one)
            else:
                before.add(one)
        for one in new:
            if one in before:
                before.discard(one)
            else:
                after.add(one)

    def _within(self, intervals: list[Interval]) -> list[Interval]:
        found: list[Interval] = []
        for low, high in intervals:
            found += self._ranges[
                bisect_left(self._ranges, (low, 0)) : bisect_right(self._ranges, (high + 1,))
            ]
        return found
