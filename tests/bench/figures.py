"""How figures are made and shown: medians, ratios of alternated pairs, and their 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of ``docs/benchmarks.md``. ``met`` is None where there is no target."""

    subject: str
    what: str
    value: str
    runs: str
    target: str = ""
    met: bool | None = None

    def row(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.met]
        return f"| {self.what} | {self.value} | {self.target} | {verdict} | {self.runs} |"


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float
    runs: int

    def text(self, unit: str = "", digits: int = 3) -> str:
        return f"{self.median:.{digits}g}{unit} [{self.low:.{digits}g}, {self.high:.{digits}g}]"


def interval(values: Sequence[float]) -> Interval:
    """The median and the order statistics that hold it with 95 % confidence (binomial; no assumption of shape)."""
    ordered = sorted(values)
    count = len(ordered)
    rank = 0
    while rank < count // 2 and 2 * _binomial_tail(count, rank) <= 0.05:
        rank += 1
    low = max(rank - 1, 0)
    return Interval(statistics.median(ordered), ordered[low], ordered[count - 1 - low], count)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def ratios(
    ours: Callable[[], Awaitable[float]], theirs: Callable[[], Awaitable[float]], *, pairs: int
) -> tuple[Interval, list[float], list[float]]:
    """Run the two in turn, each pair in the other order than the one before, and take the ratio pair by pair."""
    left: list[float] = []
    right: list[float] = []
    for number in range(pairs):
        if number % 2:
            right.append(await theirs())
            left.append(await ours())
        else:
            left.append(await ours())
            right.append(await theirs())
    return interval([mine / other for mine, other in zip(left, right, strict=True)]), left, right


def _binomial_tail(count: int, rank: int) -> float:
    """The probability that at most ``rank`` of ``count`` fair coins fall heads."""
    return sum(math.comb(count, heads) for heads in range(rank + 1)) / 2.0**count
