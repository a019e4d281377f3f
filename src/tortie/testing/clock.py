"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """Satisfies ``observe.clock.Clock``."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now
