from __future__ import annotations

from tortie.observe.health import Health
from tortie.testing.clock import ManualClock


def test_a_reporter_that_never_reported_is_not_ready_and_after_its_timeout_not_live() -> None:
    clock = ManualClock()
    health = Health(clock)
    health.register("calc", timeout_seconds=30)
    assert health.liveness().ok
    assert health.readiness().reasons == ("calc: has not reported yet",)
    clock.advance(31)
    assert health.liveness().reasons == ("calc: silent for 31 s, more than 30 s",)


def test_a_report_goes_stale() -> None:
    clock = ManualClock()
    health = Health(clock)
    reporter = health.register("dataplane", timeout_seconds=90)
    reporter.report()
    clock.advance(90)
    assert health.liveness().ok
    assert health.readiness().ok
    clock.advance(1)
    assert not health.liveness().ok
    assert not health.readiness().ok
    reporter.report()
    assert health.readiness().ok


def test_reasons_name_each_reporter_that_is_not_well() -> None:
    health = Health(ManualClock())
    health.register("a", timeout_seconds=1).report(ready=False, reason="waiting for the datastore")
    health.register("b", timeout_seconds=1).report(live=False, reason="broken")
    health.register("c", timeout_seconds=1).report()
    assert health.readiness().reasons == ("a: waiting for the datastore", "b: broken")
    assert health.liveness().reasons == ("b: broken",)


def test_a_reporter_for_readiness_alone_never_makes_the_process_dead() -> None:
    clock = ManualClock()
    health = Health(clock)
    health.register("datastore", timeout_seconds=10, for_live=False).report()
    clock.advance(100)
    assert health.liveness().ok
    assert not health.readiness().ok


def test_timeouts_are_overridden_by_name() -> None:
    clock = ManualClock()
    health = Health(clock)
    reporter = health.register("CalculationGraph", timeout_seconds=30)
    health.override_timeouts({"CalculationGraph": 3, "nobody": 1})
    reporter.report()
    assert reporter.interval_seconds == 1
    clock.advance(4)
    assert not health.liveness().ok
