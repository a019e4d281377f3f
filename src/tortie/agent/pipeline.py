"""From the datastore to the kernel: fold what comes in, flush when nothing waits, apply, and try again what failed.

Two loops. *calculation* folds updates in slices of at most 5 ms. *dataplane* flushes once the intake is empty and applies; it
alone speaks to the dataplane. Retry (a failure that we know) and refresh (drift that nobody told us of) are separate timers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from tortie.agent.intake import Intake
from tortie.agent.realised import RealisedEndpoints
from tortie.aio.backoff import Backoff
from tortie.dataplane.api import Applied, Dataplane
from tortie.desired.endpoints import ENDPOINTS, EndpointKey
from tortie.desired.ipsets import IPSETS
from tortie.desired.order import ORDER
from tortie.desired.policies import POLICIES, PROFILES
from tortie.desired.routes import ROUTES
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey, Flush, Problem
from tortie.errors import TortieError
from tortie.observe import log
from tortie.observe.clock import SYSTEM, Clock
from tortie.observe.health import Health
from tortie.observe.metrics import Metrics
from tortie.resources.resource import Put, ResourceKey, Update

SLICE_SECONDS = 0.005
SLICE_UPDATES = 16
"""How many updates are folded between two looks at the clock."""
GATHER_SECONDS = 0.008
"""How long a round waits at most for what this agent is writing: about as long as the wires of eight pods take."""
MOST_WAIT_SECONDS = 0.1
"""A flush waits no longer than this for the intake to become empty."""
DRIFT_SECONDS = 0.001
"""Netlink tells of drift in many events; they are gathered for this long."""
DRIFT_INTERVAL_SECONDS = 0.02
"""Drift is repaired no more often."""
REFRESH = "refresh"
MOST_NAMED = 200
"""Of more invalid resources, and of more rows that are not real, only so many are metrics of their own."""
_WRITTEN = (POLICIES.name, PROFILES.name)
CALCULATION_TIMEOUT_SECONDS = 30.0
DATAPLANE_TIMEOUT_SECONDS = 90.0

logger = log.get("pipeline")


class Graph(Protocol):
    """What the pipeline needs of ``calc.graph.CalcGraph``."""

    def fold(self, updates: Sequence[Update]) -> None: ...

    def flush(self, *, in_sync: bool) -> Flush: ...


class Pipeline:
    """Carries updates to the dataplane. Give its two loops to `tortie.aio.tasks.supervise`."""

    def __init__(
        self, graph: Graph, dataplane: Dataplane, health: Health, metrics: Metrics, clock: Clock = SYSTEM
    ) -> None:
        self.intake = Intake()
        self.realised = RealisedEndpoints(metrics.realise_time.observe)
        self.problems: tuple[Problem, ...] = ()
        self._unsafe: list[Problem] = []
        self.failed: Mapping[DesiredKey, TortieError] = {}
        self.generation = 0
        """The last flush that was applied."""
        self.desired: dict[str, dict[Any, Any]] = {}
        """Every row that was handed to the dataplane, by table."""
        self.first_applied = asyncio.Event()
        self.on_endpoints: Callable[[set[EndpointKey]], Awaitable[None]] | None = None
        """Called with the endpoints that became real, ceased to be real, or are gone."""
        self.hang_calculation_after_seconds: float | None = None
        self.hang_dataplane_after_seconds: float | None = None
        """For tests: from then on the loop does nothing any more."""
        self._graph = graph
        self._dataplane = dataplane
        self._metrics = metrics
        self._clock = clock
        self._calculation_health = health.register(
            "CalculationGraph", timeout_seconds=CALCULATION_TIMEOUT_SECONDS
        )
        self._dataplane_health = health.register(
            "InternalDataplaneMainLoop", timeout_seconds=DATAPLANE_TIMEOUT_SECONDS
        )
        self._announced: dict[ResourceKey, Update] = {}
        self._wake = asyncio.Event()
        self._dirty_since: float | None = None
        self._unapplied: Flush | None = None
        self._drift: set[str] = set()
        self._drift_at: float | None = None
        self._repaired_at = float("-inf")
        self._retry_at: float | None = None
        self._refresh_at: float | None = None
        self._backoff = Backoff(first_seconds=0.1, most_seconds=10.0)
        self._reason = "waiting for the datastore"
        self._started = clock.monotonic()

    # What comes in

    async def receive(self, updates: Sequence[Update], *, in_sync: bool) -> None:
        """The syncer's sink. Waits while the calculation is behind."""
        await self.intake.receive(updates, in_sync=in_sync)
        if in_sync and not self.first_applied.is_set():
            if self._dirty_since is None:
                self._dirty_since = self._clock.monotonic()
            self._wake.set()

    def hold(self, key: ResourceKey) -> None:
        """We are about to write this key (``workloads.register.OwnWrites``)."""
        self.intake.hold(key)

    def announce(self, update: Update) -> None:
        """We are about to write this, and an ADD waits for it to be real."""
        self.intake.announce(update)
        self._announced[update.key] = update
        self._hurry()

    def write_through(self, update: Update) -> None:
        """We wrote this just now: do not wait for the datastore to tell us."""
        self.intake.write_through(update)
        announced = self._announced.pop(update.key, None)
        if isinstance(announced, Put) and isinstance(update, Put):
            key, stored = EndpointKey(update.key.within, update.key.name), update.resource
            if announced.resource.spec == stored.spec:
                self.realised.stored(key, stored.revision or "")
        self._hurry()

    def give_up(self, update: Update) -> None:
        """What was announced is not written; this is what was there before."""
        self._announced.pop(update.key, None)
        self.intake.give_up(update)

    def _hurry(self) -> None:
        """Fold at once rather than when the loop comes round: an ADD counts in tenths of milliseconds."""
        if self.first_applied.is_set():
            self._fold_slice()
        if self.intake:
            self.intake.ring()
        else:
            self._wake.set()

    def drifted(self, what: str) -> None:
        """Someone changed what is ours in the kernel; ``what`` names the sort of thing."""
        self._drift.add(what)
        if self._drift_at is None:
            earliest = self._repaired_at + DRIFT_INTERVAL_SECONDS
            self._drift_at = max(self._clock.monotonic() + DRIFT_SECONDS, earliest)
            self._wake.set()

    def waiting_because(self, reason: str) -> None:
        """Why there is nothing to apply yet, for `/readiness`."""
        self._reason = reason

    # The calculation's loop

    async def run_calculation(self) -> None:
        """Fold what comes in. Eternal."""
        health = self._calculation_health
        while True:
            health.report(ready=self.intake.in_sync, reason="" if self.intake.in_sync else self._reason)
            try:
                async with asyncio.timeout(health.interval_seconds):
                    await self.intake.wait()
            except TimeoutError:
                await self._hang(self.hang_calculation_after_seconds)
                continue
            await self._hang(self.hang_calculation_after_seconds)
            self._fold_slice()
            if not self.intake:
                self._wake.set()
            # Let others run: the syncer fills the intake, servers answer.
            await asyncio.sleep(0)

    async def _hang(self, after_seconds: float | None) -> None:
        if after_seconds is not None and self._clock.monotonic() - self._started >= after_seconds:
            logger.warning("hanging, as asked for")
            await asyncio.Event().wait()

    def _fold_slice(self) -> None:
        started = self._clock.monotonic()
        if self._dirty_since is None:
            self._dirty_since = started
        while updates := self.intake.take(SLICE_UPDATES):
            self._graph.fold(updates)
            for update in updates:
                self._metrics.calc_graph_updates.labels(str(update.key.kind)).inc()
            if self._clock.monotonic() - started >= SLICE_SECONDS:
                break
        self._metrics.calc_graph_update_time.observe(self._clock.monotonic() - started)
        self._metrics.inbox_size.set(len(self.intake))

    # The dataplane's loop

    async def run_dataplane(self) -> None:
        """Start the dataplane and keep it in line. Eternal."""
        await self._start()
        while True:
            self._report()
            await self._sleep()
            await self._hang(self.hang_dataplane_after_seconds)
            now = self._clock.monotonic()
            if self._flush_due(now):
                await self._gather()
                await self._flush_and_apply()
            elif self._drift_at is not None and now >= self._drift_at:
                await self._repair_drift()
            elif self._retry_at is not None and now >= self._retry_at:
                await self._apply(self._unapplied or Flush(self.generation, in_sync=True))
            elif self._refresh_at is not None and now >= self._refresh_at:
                await self._resync(REFRESH)

    async def _start(self) -> None:
        while True:
            try:
                await self._dataplane.start()
                return
            except TortieError as error:
                logger.error("cannot start the dataplane", error=str(error))
                self._dataplane_health.report(ready=False, reason=str(error))
                await asyncio.sleep(self._backoff.next_seconds())

    def _report(self) -> None:
        reason = ""
        if not self.first_applied.is_set():
            reason = self._reason
        elif self._unapplied is not None:
            reason = f"the dataplane cannot be programmed: {self._cannot}"
        else:
            reason = "; ".join(
                str(each._replace(subject=f"{each.subject} is not enforced")) for each in self._unsafe
            )
        self._dataplane_health.report(ready=not reason, reason=reason)

    _cannot = ""

    async def _sleep(self) -> None:
        """Until there is something to do, or something is due, or it is time to say that all is well."""
        now = self._clock.monotonic()
        due = [now + self._dataplane_health.interval_seconds]
        due += [at for at in (self._retry_at, self._refresh_at, self._drift_at) if at is not None]
        if self._dirty_since is not None and self.intake.in_sync:
            due.append(self._dirty_since + MOST_WAIT_SECONDS)
        try:
            async with asyncio.timeout(max(0.0, min(due) - now)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _flush_due(self, now: float) -> bool:
        if self._dirty_since is None or not self.intake.in_sync:
            return False
        if not self.intake:
            return True
        # Never a first flush from half a snapshot: what is missing in it would be removed from the kernel.
        return self.first_applied.is_set() and now - self._dirty_since >= MOST_WAIT_SECONDS

    async def _gather(self) -> None:
        """Of several ADDs at once the next are nearly here: one round for all is less work than a round each."""
        until = self._clock.monotonic() + GATHER_SECONDS
        while self.intake.writing and (left := until - self._clock.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            self._wake.clear()

    async def _flush_and_apply(self) -> None:
        started = self._clock.monotonic()
        self._dirty_since = None
        flush = self._graph.flush(in_sync=True)
        self._metrics.calc_graph_flush_time.observe(self._clock.monotonic() - started)
        self._note(flush)
        if flush.deltas or not self.first_applied.is_set():
            await self._apply(flush if self._unapplied is None else merge(self._unapplied, flush))

    def _note(self, flush: Flush) -> None:
        """Remember what is wanted now."""
        if flush.problems != self.problems:
            self._note_problems(flush.problems)
        if not flush.deltas:
            return
        for delta in flush.deltas:
            rows = self.desired.setdefault(delta.table.name, {})
            rows.update(delta.put)
            for key in delta.gone:
                rows.pop(key, None)
            self._metrics.desired_rows.labels(delta.table.name).set(len(rows))
            self._metrics.messages.labels(delta.table.name).inc(len(delta.put) + len(delta.gone))
        self.realised.flushed(flush)
        self._metrics.active_local_endpoints.set(len(self.desired.get(ENDPOINTS.name, ())))
        self._metrics.active_local_policies.set(len(self.desired.get(POLICIES.name, ())))
        if any(delta.table.name == IPSETS.name for delta in flush.deltas):
            sets = self.desired[IPSETS.name]
            self._metrics.active_local_selectors.set(sum(name.startswith("s:") for name in sets))
        self._metrics.routes.set(len(self.desired.get(ROUTES.name, ())))

    def _note_problems(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        self._unsafe = [problem for problem in problems if problem.unsafe]
        self._metrics.problems.set(len(problems))
        self._metrics.problem.clear()
        for each in problems[:MOST_NAMED]:
            self._metrics.problem.labels(each.subject, each.field).set(1)

    async def _apply(self, flush: Flush) -> None:
        self._retry_at = None
        started = self._clock.monotonic()
        try:
            applied = await self._dataplane.apply(flush)
        except TortieError as error:
            self._unapplied = flush
            self._could_not(error)
            return
        took = self._clock.monotonic() - started
        self._metrics.apply_time.observe(took)
        logger.debug(
            "applied",
            generation=flush.generation,
            milliseconds=round(took * 1000, 2),
            put=sum(len(delta.put) for delta in flush.deltas),
            gone=sum(len(delta.gone) for delta in flush.deltas),
            tables=",".join(delta.table.name for delta in flush.deltas),
        )
        self._unapplied = None
        gone = {key for delta in flush.deltas if delta.table.name == ENDPOINTS.name for key in delta.gone}
        await self._took(applied, gone)

    async def _repair_drift(self) -> None:
        why = ",".join(sorted(self._drift))
        self._drift.clear()
        self._drift_at = None
        if self.first_applied.is_set():
            await self._resync(why)
            self._repaired_at = self._clock.monotonic()

    async def _resync(self, why: str) -> None:
        self._metrics.refreshes.labels(why).inc()
        if why == REFRESH:
            self._refresh_at = None
        started = self._clock.monotonic()
        try:
            applied = await self._dataplane.resync()
        except TortieError as error:
            self._could_not(error)
            return
        took = self._clock.monotonic() - started
        logger.debug("looked at the kernel", why=why, milliseconds=round(took * 1000, 2))
        await self._took(applied, set())

    def _could_not(self, error: TortieError) -> None:
        """Nothing at all could be done."""
        self._cannot = str(error)
        self._metrics.apply_failures.inc()
        self._retry_at = self._clock.monotonic() + self._backoff.next_seconds()
        logger.error("cannot program the dataplane", error=str(error))

    async def _took(self, applied: Applied, gone: set[EndpointKey]) -> None:
        new = {key: error for key, error in applied.failed.items() if key not in self.failed}
        for key, error in new.items():
            logger.warning("cannot make real", table=key.table, key=str(key.key), error=str(error))
        if applied.failed.keys() != self.failed.keys():
            self._name_failed(applied.failed)
        self.failed = applied.failed
        self.generation = applied.generation
        self._metrics.generation.set(applied.generation)
        if applied.failed:
            self._metrics.apply_failures.inc()
            self._retry_at = self._clock.monotonic() + self._backoff.next_seconds()
        else:
            self._retry_at = None
            self._backoff.reset()
        if self._refresh_at is None:
            self._refresh_at = self._next_refresh()
        changed = self.realised.applied(applied) | gone
        if not self.first_applied.is_set():
            logger.info("in sync", generation=applied.generation, failed=len(applied.failed))
            self.first_applied.set()
        if changed and self.on_endpoints is not None:
            await self.on_endpoints(changed)

    def _name_failed(self, failed: Mapping[DesiredKey, TortieError]) -> None:
        self._metrics.failed_rows.set(len(failed))
        self._metrics.failed_row.clear()
        # What the user wrote comes first: a refused policy takes its endpoints along, and they are many.
        for row in sorted(failed, key=lambda row: row.table not in _WRITTEN)[:MOST_NAMED]:
            self._metrics.failed_row.labels(row.table, str(row.key)).set(1)

    def _next_refresh(self) -> float | None:
        settings: SettingsRow = self.desired.get(SETTINGS.name, {}).get(NODE) or SettingsRow()
        intervals = (
            settings.route_refresh_seconds,
            settings.interface_refresh_seconds,
            settings.rules_refresh_seconds,
        )
        wanted = [seconds for seconds in intervals if seconds > 0]
        return self._clock.monotonic() + min(wanted) if wanted else None


def merge(older: Flush, newer: Flush) -> Flush:
    """Both flushes in one."""
    deltas: dict[str, Delta[Any, Any]] = {delta.table.name: delta for delta in older.deltas}
    for delta in newer.deltas:
        before = deltas.get(delta.table.name)
        if before is None:
            deltas[delta.table.name] = delta
            continue
        put = {key: row for key, row in before.put.items() if key not in delta.gone} | dict(delta.put)
        gone = (before.gone - delta.put.keys()) | delta.gone
        deltas[delta.table.name] = Delta(delta.table, put, frozenset(gone))
    place = {table.name: number for number, table in enumerate(ORDER)}
    ordered = sorted(deltas.values(), key=lambda delta: place[delta.table.name])
    return Flush(newer.generation, tuple(ordered), in_sync=newer.in_sync, problems=newer.problems)
