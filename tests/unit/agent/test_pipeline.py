from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tortie.agent.pipeline import MOST_NAMED, Pipeline, merge
from tortie.aio.tasks import supervise
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.policies import POLICIES, PolicyKey, PolicyRow
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey, Flush, Problem
from tortie.errors import DeadlineExceeded, KernelError
from tortie.net.addresses import Address, Prefix
from tortie.observe.health import Health
from tortie.observe.metrics import Metrics
from tortie.resources.resource import Delete, Kind, Put, Resource, ResourceKey, Revision, Update
from tortie.testing.recording import RecordingDataplane

ENDPOINT_KIND = Kind("projectcalico.org", "WorkloadEndpoint")
POD = ResourceKey(ENDPOINT_KIND, "web", "default")
POD_KEY = EndpointKey("default", "web")
ADDRESS = Address.parse("10.65.0.2")


def put(name: str = "web", revision: str = "1", interface: str = "cali1") -> Put:
    key = ResourceKey(ENDPOINT_KIND, name, "default")
    return Put(Resource(key=key, spec=interface, revision=Revision(revision)))


def announced(name: str = "web") -> Put:
    return Put(Resource(key=ResourceKey(ENDPOINT_KIND, name, "default"), spec="cali1"))


class ToyGraph:
    """Each resource is an endpoint and a route."""

    def __init__(self) -> None:
        self.folded: list[Update] = []
        self._dirty: dict[ResourceKey, Update] = {}
        self._generation = 0
        self.settings = SettingsRow(
            route_refresh_seconds=0, interface_refresh_seconds=0, rules_refresh_seconds=0
        )
        self.fold_hook: Callable[[], None] = lambda: None
        self.problems: tuple[Problem, ...] = ()
        self.policies: dict[PolicyKey, PolicyRow] = {}

    def fold(self, updates: Sequence[Update]) -> None:
        self.folded += updates
        self._dirty.update({update.key: update for update in updates})
        self.fold_hook()

    def flush(self, *, in_sync: bool) -> Flush:
        self._generation += 1
        endpoints: dict[EndpointKey, EndpointRow] = {}
        gone: set[EndpointKey] = set()
        for update in self._dirty.values():
            key = EndpointKey(update.key.within, update.key.name)
            if isinstance(update, Put):
                resource = update.resource
                endpoints[key] = EndpointRow(
                    interface=resource.spec, addresses=(ADDRESS,), revision=resource.revision or ""
                )
            else:
                gone.add(key)
        self._dirty.clear()
        deltas: list[Delta[Any, Any]] = []
        if self._generation == 1:
            deltas.append(Delta(SETTINGS, {NODE: self.settings}))
        if endpoints or gone:
            deltas.append(Delta(ENDPOINTS, endpoints, frozenset(gone)))
            if endpoints:
                row = RouteRow(kind="local-workload", interface="cali1")
                deltas.append(Delta(ROUTES, {ADDRESS.prefix: row}))
        if self.policies:
            deltas.append(Delta(POLICIES, self.policies))
        return Flush(self._generation, tuple(deltas), in_sync=in_sync, problems=self.problems)


class Bench:
    def __init__(self) -> None:
        self.graph = ToyGraph()
        self.dataplane = RecordingDataplane()
        self.health = Health()
        self.metrics = Metrics()
        self.pipeline = Pipeline(self.graph, self.dataplane, self.health, self.metrics)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loops = {"calculation": self.pipeline.run_calculation, "dataplane": self.pipeline.run_dataplane}
        task = asyncio.ensure_future(supervise(loops))
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def in_sync(self, *updates: Update) -> AsyncIterator[None]:
        """Running, and the dataplane has all of these."""
        async with self.running():
            await self.pipeline.receive(updates, in_sync=True)
            await until(self.pipeline.first_applied.is_set)
            yield


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - several loops change what is looked at
            await asyncio.sleep(0.002)


async def test_nothing_reaches_the_dataplane_before_the_snapshot_is_whole() -> None:
    bench = Bench()
    async with bench.running():
        await bench.pipeline.receive([put("a")], in_sync=False)
        await until(lambda: len(bench.graph.folded) == 1)
        await asyncio.sleep(0.15)
        assert bench.dataplane.flushes == []
        assert not bench.health.readiness().ok
        await bench.pipeline.receive([put("b")], in_sync=True)
        await until(bench.pipeline.first_applied.is_set)
        assert len(bench.dataplane.flushes) == 1
        assert set(bench.dataplane.real["endpoints"]) == {
            EndpointKey("default", "a"),
            EndpointKey("default", "b"),
        }
        await until(lambda: bench.health.readiness().ok)


async def test_what_leaves_open_what_it_was_to_guard_makes_the_agent_not_ready_by_name() -> None:
    bench = Bench()
    bench.graph.problems = (Problem("NetworkPolicy default/a", "spec.selector", "is not well"),)
    async with bench.running():
        await bench.pipeline.receive([put("a")], in_sync=True)
        await until(lambda: bench.health.readiness().ok)
        bench.graph.problems += (
            Problem("GlobalNetworkPolicy g", "spec.selector", "is no selector", unsafe=True),
        )
        await bench.pipeline.receive([put("b")], in_sync=True)
        await until(lambda: not bench.health.readiness().ok)
        (reason,) = bench.health.readiness().reasons
        assert reason.endswith("GlobalNetworkPolicy g is not enforced: spec.selector: is no selector")
        shown = bench.metrics.render().decode()
        assert "tortie_invalid_resources 2.0" in shown
        for resource in ("NetworkPolicy default/a", "GlobalNetworkPolicy g"):
            assert f'tortie_invalid_resource{{field="spec.selector",resource="{resource}"}} 1.0' in shown
        bench.graph.problems = ()
        await bench.pipeline.receive([put("c")], in_sync=True)
        await until(lambda: bench.health.readiness().ok)
        assert "tortie_invalid_resource{" not in bench.metrics.render().decode()


async def test_in_sync_may_come_after_everything_was_folded() -> None:
    bench = Bench()
    async with bench.running():
        await bench.pipeline.receive([put("a")], in_sync=False)
        await until(lambda: len(bench.graph.folded) == 1)
        await asyncio.sleep(0.02)
        await bench.pipeline.receive([], in_sync=True)
        async with asyncio.timeout(10):
            await bench.pipeline.first_applied.wait()


async def test_an_empty_datastore_is_in_sync_too() -> None:
    bench = Bench()
    async with bench.running():
        await bench.pipeline.receive([], in_sync=True)
        await until(bench.pipeline.first_applied.is_set)


async def test_an_endpoint_is_realised_at_its_revision_and_not_before() -> None:
    bench = Bench()
    realised = bench.pipeline.realised
    async with bench.running():
        await bench.pipeline.receive([put(revision="1")], in_sync=True)
        await realised.wait(POD, Revision("1"), timeout_seconds=2)
        with pytest.raises(DeadlineExceeded, match="programming WorkloadEndpoint default/web"):
            await realised.wait(POD, Revision("2"), timeout_seconds=0.02)
        bench.dataplane.open.clear()
        waiting = asyncio.ensure_future(realised.wait(POD, Revision("2"), timeout_seconds=2))
        bench.pipeline.write_through(put(revision="2", interface="cali2"))
        await until(lambda: len(bench.dataplane.flushes) == 2)
        assert not waiting.done()
        bench.dataplane.open.set()
        await waiting
        assert realised.is_real(POD_KEY)


@pytest.mark.parametrize("failing", [DesiredKey("endpoints", POD_KEY), DesiredKey("routes", ADDRESS.prefix)])
async def test_an_endpoint_with_a_failing_part_is_not_realised_until_a_retry_succeeds(
    failing: DesiredKey,
) -> None:
    bench = Bench()
    error = KernelError(19, "add the route to", "cali1")
    bench.dataplane.failing[failing] = error
    async with bench.running():
        await bench.pipeline.receive([put()], in_sync=True)
        await until(lambda: bool(bench.pipeline.failed))
        with pytest.raises(KernelError, match="cannot add the route to cali1"):
            await bench.pipeline.realised.wait(POD, Revision("1"), timeout_seconds=0.01)
        waiting = asyncio.ensure_future(bench.pipeline.realised.wait(POD, Revision("1"), timeout_seconds=2))
        await asyncio.sleep(0)
        bench.dataplane.failing.clear()
        await waiting
        assert bench.pipeline.failed == {}


async def test_what_is_not_real_is_a_metric_by_name_policies_first_and_not_without_end() -> None:
    bench = Bench()
    refused = PolicyKey("NetworkPolicy", "default", "wordy")
    error = KernelError(2, "add the rules of", "cali-po-wordy")
    bench.dataplane.failing = {
        DesiredKey("endpoints", EndpointKey("default", f"p{n}")): error for n in range(300)
    }
    async with bench.in_sync(*[put(f"p{n}") for n in range(300)]):
        bench.graph.policies = {refused: PolicyRow(tier="default")}
        bench.dataplane.failing[DesiredKey("policies", refused)] = error
        await bench.pipeline.receive([put("one-more")], in_sync=True)
        await until(lambda: len(bench.pipeline.failed) == 301)
        shown = bench.metrics.render().decode()
        assert "tortie_dataplane_failed_rows 301.0" in shown
        named = 'tortie_dataplane_failed_row{key="NetworkPolicy default/wordy",table="policies"} 1.0'
        assert named in shown
        assert shown.count("tortie_dataplane_failed_row{") == MOST_NAMED
        bench.dataplane.failing.clear()
        await until(lambda: not bench.pipeline.failed)
        shown = bench.metrics.render().decode()
        assert "tortie_dataplane_failed_rows 0.0" in shown
        assert "tortie_dataplane_failed_row{" not in shown


async def test_a_dataplane_that_can_do_nothing_gets_everything_again_later() -> None:
    bench = Bench()
    async with bench.in_sync(put("a")):
        bench.dataplane.broken = KernelError(105, "open a netlink socket")
        await bench.pipeline.receive([put("b")], in_sync=True)
        await until(lambda: not bench.health.readiness().ok)
        assert "cannot open a netlink socket" in bench.health.readiness().reasons[0]
        await bench.pipeline.receive([Delete(put("a").key)], in_sync=True)
        bench.dataplane.broken = None
        await until(lambda: set(bench.dataplane.real["endpoints"]) == {EndpointKey("default", "b")})
        await until(lambda: bench.health.readiness().ok)


async def test_drift_is_repaired_by_one_resync_for_many_events() -> None:
    bench = Bench()
    async with bench.in_sync():
        for _ in range(50):
            bench.pipeline.drifted("routes")
        await until(lambda: bench.dataplane.resyncs == 1)
        await asyncio.sleep(0.05)
        assert bench.dataplane.resyncs == 1


async def test_the_kernel_is_read_anew_at_the_smallest_refresh_interval() -> None:
    bench = Bench()
    bench.graph.settings = SettingsRow(
        route_refresh_seconds=0.05, interface_refresh_seconds=60, rules_refresh_seconds=0
    )
    async with bench.running():
        await bench.pipeline.receive([], in_sync=True)
        await until(lambda: bench.dataplane.resyncs >= 2)


async def test_what_is_announced_is_made_real_while_it_is_being_written() -> None:
    bench = Bench()
    async with bench.in_sync():
        bench.pipeline.announce(announced())
        await until(lambda: POD_KEY in bench.dataplane.real.get("endpoints", {}))
        await until(lambda: bench.pipeline.realised.is_real(POD_KEY))
        waiting = asyncio.ensure_future(bench.pipeline.realised.wait(POD, Revision("5"), timeout_seconds=2))
        bench.dataplane.open.clear()
        bench.pipeline.write_through(put(revision="5"))
        await waiting  # nothing is left to do for it
        bench.dataplane.open.set()
        bench.pipeline.announce(announced("db"))
        await until(lambda: len(bench.dataplane.real["endpoints"]) == 2)
        bench.pipeline.give_up(Delete(put("db").key))
        await until(lambda: len(bench.dataplane.real["endpoints"]) == 1)


async def test_several_that_are_being_written_become_real_in_one_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tortie.agent.pipeline.GATHER_SECONDS", 30.0)
    bench = Bench()
    async with bench.in_sync():
        before = len(bench.dataplane.flushes)
        names = ("web", "db", "cache")
        for name in names:
            bench.pipeline.hold(put(name).key)
        for name in names:
            bench.pipeline.write_through(put(name))
            await asyncio.sleep(0.01)
        await until(lambda: len(bench.dataplane.real.get("endpoints", {})) == 3)
        assert len(bench.dataplane.flushes) == before + 1


async def test_a_write_that_takes_long_holds_nobody_up() -> None:
    bench = Bench()
    async with bench.in_sync():
        bench.pipeline.hold(put("slow").key)
        bench.pipeline.write_through(put())
        await until(lambda: POD_KEY in bench.dataplane.real.get("endpoints", {}))


async def test_what_is_announced_waits_for_no_write_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tortie.agent.pipeline.GATHER_SECONDS", 30.0)
    bench = Bench()
    async with bench.in_sync():
        bench.pipeline.announce(announced())
        await until(lambda: POD_KEY in bench.dataplane.real.get("endpoints", {}))


async def test_what_the_datastore_says_of_our_own_write_waits_for_its_echo() -> None:
    bench = Bench()
    async with bench.in_sync(put(revision="1")):
        bench.pipeline.write_through(put(revision="9"))
        await bench.pipeline.receive([Delete(POD)], in_sync=True)  # of the sandbox before, still on its way
        await bench.pipeline.receive([put(revision="9")], in_sync=True)
        await bench.pipeline.realised.wait(POD, Revision("9"), timeout_seconds=2)
        await asyncio.sleep(0.05)
        assert not any(isinstance(update, Delete) for update in bench.graph.folded)


async def test_without_an_echo_the_datastore_counts_again_after_a_second() -> None:
    bench = Bench()
    async with bench.in_sync(put(revision="1")):
        bench.pipeline.write_through(put(revision="9"))
        await bench.pipeline.receive([Delete(POD)], in_sync=True)
        await until(lambda: any(isinstance(update, Delete) for update in bench.graph.folded))
        await until(lambda: bench.dataplane.real["endpoints"] == {})


async def test_a_long_list_does_not_hold_the_loop() -> None:
    bench = Bench()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async with bench.running():
        ticking = asyncio.ensure_future(tick())
        bench.graph.fold_hook = lambda: _spin(0.003)
        await bench.pipeline.receive([put(f"p{n}") for n in range(160)], in_sync=True)
        await until(bench.pipeline.first_applied.is_set)
        ticking.cancel()
    assert ticks >= 5
    assert len(bench.dataplane.flushes) == 1


def _spin(seconds: float) -> None:
    import time

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_an_apply_that_hangs_makes_the_dataplane_silent() -> None:
    bench = Bench()
    bench.health.override_timeouts({"InternalDataplaneMainLoop": 0.1, "CalculationGraph": 0.1})
    async with bench.in_sync():
        await asyncio.sleep(0.3)
        assert bench.health.liveness().ok
        bench.dataplane.open.clear()
        await bench.pipeline.receive([put()], in_sync=True)
        await until(lambda: not bench.health.liveness().ok)
        assert bench.health.liveness().reasons[0].startswith("InternalDataplaneMainLoop: silent for")
        bench.dataplane.open.set()
        await until(lambda: bench.health.liveness().ok)


def test_two_flushes_in_one() -> None:
    a, b, c = (Prefix.parse(f"10.0.{n}.0/24") for n in range(3))
    row, other = RouteRow(kind="blackhole"), RouteRow(kind="blackhole", advertised=True)
    older = Flush(1, (Delta(ROUTES, {a: row, b: row}, frozenset({c})),))
    newer = Flush(
        2, (Delta(SETTINGS, {NODE: SettingsRow()}), Delta(ROUTES, {c: row, b: other}, frozenset({a})))
    )
    merged = merge(older, newer)
    assert [delta.table for delta in merged.deltas] == [SETTINGS, ROUTES]
    assert merged.deltas[1].put == {b: other, c: row}
    assert merged.deltas[1].gone == {a}
    assert merged.generation == 2
