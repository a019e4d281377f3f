"""Whether this process is live and ready, and why not: each loop reports, and a report goes stale.

The names of the reporters are Felix's where the meaning is the same, so that ``healthTimeoutOverrides`` of a FelixConfiguration
apply (Calico, *Health* of ``libcalico-go``). Reports are single assignments, so that another thread may read them: the health
server answers from a thread of its own even while the event loop hangs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tortie.observe.clock import SYSTEM, Clock


class Verdict(NamedTuple):
    """``reasons`` name each reporter that is not well, and why. Empty: all is well."""

    ok: bool
    reasons: tuple[str, ...]


class Report(NamedTuple):
    """What a reporter said last, and when (monotonic seconds)."""

    live: bool
    ready: bool
    reason: str
    at: float


@dataclass
class _Reporter:
    name: str
    timeout_seconds: float
    for_live: bool
    for_ready: bool
    last: Report | None = None
    started: float = 0.0


class Reporter:
    """One loop's own end of `Health`."""

    def __init__(self, state: _Reporter, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def report(self, *, live: bool = True, ready: bool = True, reason: str = "") -> None:
        """This is how I am now. Say it again within the time-out."""
        self._state.last = Report(live, ready, reason, self._clock.monotonic())

    @property
    def interval_seconds(self) -> float:
        """How often an idle loop should report: thrice a time-out, and at least every 2 s, so that a shorter one soon holds."""
        timeout = self._state.timeout_seconds
        return min(timeout / 3, 2.0) if timeout else 2.0


class Health:
    """All reporters of the process. A reporter counts from its registration: silence for a time-out is not live."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._reporters: dict[str, _Reporter] = {}

    def register(
        self, name: str, *, timeout_seconds: float, for_live: bool = True, for_ready: bool = True
    ) -> Reporter:
        """A new reporter. ``timeout_seconds`` 0: its reports never go stale."""
        state = _Reporter(name, timeout_seconds, for_live, for_ready, started=self._clock.monotonic())
        self._reporters[name] = state
        return Reporter(state, self._clock)

    def override_timeouts(self, seconds: Mapping[str, float]) -> None:
        """Change the time-outs of the reporters that are named here; others keep theirs."""
        for name, value in seconds.items():
            if name in self._reporters:
                self._reporters[name].timeout_seconds = value

    def liveness(self) -> Verdict:
        """Not live means: restart me."""
        return self._verdict([state for state in self._all() if state.for_live], ready=False)

    def readiness(self) -> Verdict:
        """Not ready means: I cannot do my work now, and a restart would not help."""
        return self._verdict([state for state in self._all() if state.for_ready], ready=True)

    def table(self) -> list[dict[str, object]]:
        """Each reporter and what it said last."""
        now = self._clock.monotonic()
        return [
            {
                "name": state.name,
                "live": not self._unwell(state, ready=False),
                "ready": not self._unwell(state, ready=True),
                "reason": self._unwell(state, ready=True),
                "age_seconds": round(now - (state.last.at if state.last else state.started), 1),
                "timeout_seconds": state.timeout_seconds,
            }
            for state in self._all()
        ]

    def _all(self) -> list[_Reporter]:
        return list(self._reporters.values())

    def _verdict(self, states: list[_Reporter], *, ready: bool) -> Verdict:
        said = [(state.name, self._unwell(state, ready=ready)) for state in states]
        reasons = tuple(f"{name}: {reason}" for name, reason in said if reason)
        return Verdict(not reasons, reasons)

    def _unwell(self, state: _Reporter, *, ready: bool) -> str:
        now = self._clock.monotonic()
        since = state.last.at if state.last is not None else state.started
        if state.timeout_seconds and now - since > state.timeout_seconds:
            return f"silent for {now - since:.0f} s, more than {state.timeout_seconds:g} s"
        if state.last is None:
            return "has not reported yet" if ready else ""
        if not state.last.live:
            return state.last.reason or "not live"
        if ready and not state.last.ready:
            return state.last.reason or "not ready"
        return ""
