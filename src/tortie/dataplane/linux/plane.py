"""The node's dataplane: which managers and drivers there are, and in which order they work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tortie.dataplane.api import Applied
from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.drift import DriftWatch, Hints
from tortie.dataplane.linux.drivers.links import LinkDriver
from tortie.dataplane.linux.drivers.nft import NftDriver
from tortie.dataplane.linux.drivers.node import NodeDriver
from tortie.dataplane.linux.drivers.routes import RouteDriver
from tortie.dataplane.linux.drivers.thread import KernelThread
from tortie.dataplane.linux.established import LiveState, denied_flows
from tortie.dataplane.linux.managers.dispatch import DispatchManager
from tortie.dataplane.linux.managers.frame import FrameManager
from tortie.dataplane.linux.managers.groups import GroupManager
from tortie.dataplane.linux.managers.host_endpoints import HostEndpointManager
from tortie.dataplane.linux.managers.ipsets import IPSetManager
from tortie.dataplane.linux.managers.links import LinkKey, LinkManager
from tortie.dataplane.linux.managers.node import NodeManager
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.managers.routes import RouteManager
from tortie.dataplane.linux.managers.stretches import StretchManager
from tortie.dataplane.linux.policy_counts import policy_counts, snapshot
from tortie.dataplane.linux.sockets import KernelSockets
from tortie.dataplane.reconciler import Reconciler, Stage
from tortie.desired.endpoints import ENDPOINTS, EndpointRow
from tortie.desired.host_endpoints import HOST_ENDPOINTS
from tortie.desired.ipsets import MEMBERS
from tortie.desired.policies import POLICIES, PROFILES
from tortie.desired.settings import SETTINGS
from tortie.desired.table import DesiredKey, Flush, Problem
from tortie.errors import KernelError, TortieError
from tortie.host.nft import NftKey, NftValue
from tortie.host.policy_counts import PolicyCount
from tortie.host.routes import Route, RouteKey
from tortie.kernel.monitor import Event
from tortie.kernel.netns import Namespace

HEAR_SECONDS = 0.005
"""Netlink tells of every step of a change: what one ADD or DEL does is looked at together, and after it."""
ROUTE_GRACE_SECONDS = 10.0
"""A route to a workload's interface that no endpoint has yet is left so long: a CNI plugin may have been faster than the
datastore."""
VANISHED_SECONDS = 1.0
"""An interface that vanished is looked at after this long: as a rule its endpoint is withdrawn by then."""
RULES_POLL_SECONDS = 5.0
"""How often the generation of nf_tables is asked for: one small message says that nobody else changed anything."""
SWEEP_SECONDS = 0.05
"""Flows of addresses that left are forgotten so soon after, for all of them at once: a look at conntrack takes the kernel
10 ms however few they are. An address that comes back does not come before that."""
_OF_POLICY = (SETTINGS, MEMBERS, PROFILES, POLICIES, ENDPOINTS)


class LinuxDataplane:
    """Makes flushes real in the network namespace ``namespace`` (None: the process's own).

    ``extra`` stages (BIRD's) come last in the order. ``on_drift`` is called from the event loop when the kernel was changed
    by other hands in a way that concerns us: call `resync` soon, which then looks at just that. Nothing is written before
    the first flush that is in sync. Implements ``dataplane.api.Dataplane``.
    """

    def __init__(
        self,
        *,
        namespace: Namespace | None = None,
        extra: Sequence[Stage] = (),
        on_drift: Callable[[str], None] | None = None,
    ) -> None:
        self.on_drift = on_drift
        self._thread = KernelThread(namespace)
        self._sweeper = KernelThread(namespace)
        self._sweep: asyncio.TimerHandle | None = None
        self._extra = tuple(extra)
        self._lock = asyncio.Lock()
        self._generation = 0
        self._in_sync = False
        self._policy_changed = False
        self.flows_cut = 0
        """Flows that a new deny has cut since the start."""
        self._rows: dict[DesiredKey, None] = {}
        self._kernel: KernelSockets | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._first_seen: dict[RouteKey, float] = {}
        self._trouble: dict[str, TortieError] = {}
        self._warnings: tuple[Problem, ...] = ()
        self._unheard: list[Event] = []

        nft: DeltaTracker[NftKey, NftValue] = DeltaTracker()
        self._nft_tracker = nft
        self._link_tracker: DeltaTracker[LinkKey, bool] = DeltaTracker()
        self._route_tracker: DeltaTracker[RouteKey, Route] = DeltaTracker()
        self._node_tracker: DeltaTracker[str, str] = DeltaTracker()
        frame = FrameManager(nft)
        self._route_manager = RouteManager(self._route_tracker)
        self._link_manager = LinkManager(self._link_tracker)
        ipsets = IPSetManager(nft)
        policies = self._policies = PolicyManager(nft, ipsets)
        stretches = StretchManager(nft, policies)
        groups = GroupManager(nft, policies, stretches)
        self._ipsets = ipsets
        dispatch = self._dispatch = DispatchManager(nft, frame, groups)
        self._hosts = HostEndpointManager(nft, groups)
        self._nft_managers = (frame, ipsets, dispatch, self._hosts, groups, policies, stretches)
        self._node_manager = NodeManager(self._node_tracker)

    # Dataplane

    async def start(self) -> None:
        """Open the kernel. Raises `DataplaneUnsupported`, `KernelError`, `NamespaceGone`."""
        if self._kernel is not None:
            return
        kernel = await self._thread.run(KernelSockets.open)
        self._make_stages(kernel)
        self._drift = DriftWatch(
            links=self._links.links,
            wanted_interfaces=lambda: self._link_manager.interfaces,
            wanted_aspects=self._link_tracker.wanted.keys(),
            wanted_routes=self._route_tracker.wanted,
            wanted_switches=self._node_tracker.wanted,
            wants_addresses=lambda: self._hosts.needs_addresses,
            own_port=kernel.routes.port,
            owns=self._routes.owns,
        )
        try:
            self._drift.learn(await self._thread.run(kernel.routes.names))
        except BaseException:
            kernel.close()
            raise
        self._kernel = kernel
        asyncio.get_running_loop().add_reader(kernel.monitor.fileno(), self._hear)

    async def apply(self, flush: Flush) -> Applied:
        async with self._lock:
            self._take(flush)
            if not self._in_sync:
                if not flush.in_sync:
                    waiting = _Waiting()
                    return Applied(self._generation, dict.fromkeys(self._rows, waiting))
                self._in_sync = True
                await self._read_everything()
                self._later(RULES_POLL_SECONDS, self._poll_rules)
            elif any(delta.table == HOST_ENDPOINTS for delta in flush.deltas):
                await self._guarded("addresses", self._read_addresses)
            return await self._round()

    async def resync(self) -> Applied:
        """After drift that `on_drift` told of: look at that. Else look at everything. Either way retry what failed."""
        async with self._lock:
            if not self._in_sync:
                return Applied(self._generation, dict.fromkeys(self._rows, _Waiting()))
            hints = self._drift.take()
            if hints and not hints.everything:
                await self._read_hinted(hints)
            else:
                await self._read_everything()
            return await self._round()

    async def close(self) -> None:
        async with self._lock:
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            if self._sweep is not None:
                self._sweep.cancel()
                self._sweep = None
                await self._guarded("conntrack", lambda: self._sweeper.run(self._routes.forget_flows))
            self._sweeper.close()
            self._thread.close()
            kernel, self._kernel = self._kernel, None
            if kernel is not None:
                asyncio.get_running_loop().remove_reader(kernel.monitor.fileno())
                kernel.close()

    @property
    def troubles(self) -> Mapping[str, TortieError]:
        """What could not be read, removed or looked after at the last try, by its name; tried again with the next round or
        refresh."""
        return self._trouble

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What an administrator should know, though no row failed for it."""
        return self._warnings

    @property
    def kernel_writes(self) -> int:
        """How often the kernel was changed since the start: messages, and switches set."""
        kernel = self._kernel
        if kernel is None:
            return 0
        return kernel.nft.batches + self._links.writes + self._routes.writes + self._node.writes

    @property
    def flows_flushed(self) -> int:
        """Conntrack entries that were removed since their address left."""
        return self._routes.flows_flushed if self._kernel is not None else 0

    async def policy_counts(self, *, every_rule: bool = True) -> tuple[PolicyCount, ...]:
        """What each rule and each end of a tier has decided; unless ``every_rule``, if anything. Raises `KernelError`."""
        kernel = self._kernel
        if kernel is None:
            return ()
        async with self._lock:
            there = snapshot(self._policies)
        read = kernel.counters.counters
        return await self._sweeper.run(lambda: policy_counts(there, read(), every_rule=every_rule))

    # The order

    def _make_stages(self, kernel: KernelSockets) -> None:
        thread = self._thread
        self._links = LinkDriver(kernel.routes, thread, lambda: self._link_tracker.wanted)
        self._nft = NftDriver(kernel.nft, thread)
        self._node = NodeDriver(kernel.routes, thread)
        self._node_stage = Stage((self._node_manager,), Reconciler(self._node, self._node_tracker))
        self._routes = RouteDriver(
            kernel.routes, kernel.conntrack, thread, lambda: self._route_manager.settings
        )
        self._nft_stage = Stage(self._nft_managers, Reconciler(self._nft, self._nft_tracker))
        self._link_stage = Stage((self._link_manager,), Reconciler(self._links, self._link_tracker))
        self._route_stage = Stage((self._route_manager,), Reconciler(self._routes, self._route_tracker))
        self._kernel_stages = (self._node_stage, self._nft_stage, self._link_stage, self._route_stage)
        self._stages = (*self._kernel_stages, *self._extra)

    def _take(self, flush: Flush) -> None:
        self._generation = flush.generation
        self._policy_changed = self._policy_changed or any(
            delta.table in _OF_POLICY for delta in flush.deltas
        )
        for delta in flush.deltas:
            for stage in self._stages:
                for manager in stage.managers:
                    manager.on_delta(delta)
            for key in delta.gone:
                self._rows.pop(DesiredKey(delta.table.name, key), None)
            if not self._in_sync:
                self._rows.update(dict.fromkeys(DesiredKey(delta.table.name, key) for key in delta.put))

    def _settle(self) -> None:
        for stage in self._stages:
            for manager in stage.managers:
                manager.settle()

    async def _round(self) -> Applied:
        """The kernel first, then what else there is."""
        self._rows.clear()
        await self._thread.together(self._change_kernel())
        for stage in self._extra:
            await stage.reconciler.apply()
        self._sweep_soon(SWEEP_SECONDS)
        failed: dict[DesiredKey, TortieError] = {}
        for stage in self._stages:
            self._note_leftovers(stage.reconciler)
        for stage in reversed(self._stages):
            for manager in stage.managers:
                failed.update(manager.blame(stage.reconciler.failed))
        asyncio.get_running_loop().call_soon(self._consider)
        return Applied(self._generation, failed)

    async def _change_kernel(self) -> None:
        """Removals backwards, then puts forwards. The rules change at once, between the routes that go and those that come."""
        self._settle()
        for stage in self._stages:
            stage.reconciler.begin()
        for stage in reversed(self._kernel_stages):
            if stage is not self._nft_stage:
                await stage.reconciler.remove()
        for stage in self._kernel_stages:
            if stage is not self._nft_stage:
                await stage.reconciler.put()
                continue
            await stage.reconciler.apply()
            if stage.reconciler.failed and await self._nft.disturbed():
                # Someone changed our tables meanwhile: what we thought to be there is not.
                await self._read(stage)
                stage.reconciler.begin()
                await stage.reconciler.apply()
        if self._policy_changed:
            await self._guarded("established", self._cut_flows)

    def _note_leftovers(self, reconciler: Reconciler[Any, Any]) -> None:
        """What could not be removed: no row is to blame for it."""
        wanted, what = reconciler.tracker.wanted, f"removal of {reconciler.name}"
        left = next((error for key, error in reconciler.failed.items() if key not in wanted), None)
        if left is None:
            self._trouble.pop(what, None)
        else:
            self._trouble[what] = left

    # What is there

    async def _read_everything(self) -> None:
        await self._thread.run(self._settle)
        for stage in self._stages:
            if stage is self._nft_stage and not await self._nft.disturbed():
                continue
            await self._read(stage)
        await self._guarded("addresses", self._read_addresses)
        await self._guarded("neighbours", self._check_neighbours)

    async def _read(self, stage: Stage) -> None:
        if stage is self._route_stage:
            await self._guarded("routes", self._read_routes)
        elif stage is self._nft_stage:
            await self._guarded("nft", self._read_rules)
        else:
            await self._guarded(stage.reconciler.name, stage.reconciler.read)

    async def _read_routes(self) -> None:
        routes = await self._routes.read()
        self._first_seen = {key: since for key, since in self._first_seen.items() if key in routes}
        there = self._hold_back(routes)
        await self._thread.run(lambda: self._route_tracker.saw(there))

    async def _read_rules(self) -> None:
        there = await self._nft.read()
        await self._thread.run(lambda: self._nft_tracker.saw(there))

    async def _read_addresses(self) -> None:
        kernel = self._kernel
        if kernel is not None and self._hosts.needs_addresses:
            self._hosts.saw_addresses(await self._thread.run(kernel.addresses))

    async def _read_hinted(self, hints: Hints) -> None:
        if hints.rules and await self._nft.disturbed():
            await self._read(self._nft_stage)
        if hints.addresses:
            await self._guarded("addresses", self._read_addresses)
        if hints.switches:
            await self._read(self._node_stage)
        if hints.interfaces:
            aspects = [LinkKey(n, a) for n in hints.interfaces for a in ("up", "ipv4", "ipv6")]
            self._link_tracker.saw(await self._links.read_some(hints.interfaces), only=aspects)
            there: dict[RouteKey, Route] = {}
            for name in hints.interfaces:
                there |= await self._routes.read_interface(name)
            leading = {
                key for key, route in self._routes.known.items() if route.interface in hints.interfaces
            }
            self._route_tracker.saw(self._hold_back(there), only=leading | there.keys())
        if hints.routes:
            told = {key: route for key, route in hints.routes.items() if route is not None}
            self._routes.learn(told)
            self._route_tracker.saw(self._hold_back(told), only=hints.routes.keys())

    def _hold_back(self, routes: Mapping[RouteKey, Route]) -> Mapping[RouteKey, Route]:
        """Without the routes that may belong to an endpoint that we have not heard of yet."""
        wanted, interfaces = self._route_tracker.wanted, self._link_manager.interfaces
        now = time.monotonic()
        held: dict[RouteKey, float] = {}
        for key, route in routes.items():
            if key in wanted or route.kind != "unicast" or route.interface in interfaces:
                continue
            since = self._first_seen.get(key, now)
            if now - since < ROUTE_GRACE_SECONDS:
                held[key] = since
        new = held.keys() - self._first_seen.keys()
        self._first_seen.update(held)
        if new:
            self._later(ROUTE_GRACE_SECONDS, self._look_at_everything)
        return {key: route for key, route in routes.items() if key not in held}

    async def _check_neighbours(self) -> None:
        kernel = self._kernel
        count = len(self._link_manager.interfaces)
        limit = await self._thread.run(lambda: kernel.routes.neighbour_limit(4) if kernel else None)
        self._warnings = ()
        if limit is not None and limit < 2 * count:
            reason = (
                f"the machine keeps at most {limit} neighbours, {count} workloads may need {2 * count}: "
                "raise the sysctl net.ipv4.neigh.default.gc_thresh3"
            )
            self._warnings = (Problem("node", "gc_thresh3", reason),)

    async def _guarded(self, what: str, work: Callable[[], object]) -> None:
        """A failure here must not stop the rest; the next round or refresh tries again."""
        try:
            result = work()
            if asyncio.iscoroutine(result):
                await result
        except TortieError as error:
            self._trouble[what] = error
        else:
            self._trouble.pop(what, None)

    # Flows that a new deny cuts

    async def _cut_flows(self) -> None:
        kernel, endpoints = self._kernel, list(self._dispatch.cutting.values())
        if kernel is None or not endpoints:
            self._policy_changed = False
            return
        self.flows_cut += await self._thread.run(lambda: self._cut(kernel, endpoints))
        self._policy_changed = False

    def _cut(self, kernel: KernelSockets, endpoints: list[EndpointRow]) -> int:
        flows = kernel.flows.flows_of({address for row in endpoints for address in row.addresses})
        if not flows:
            return 0
        own = {address for carried in kernel.addresses().values() for address in carried}
        state = LiveState(self._policies, self._ipsets)
        everything = self._route_manager.settings.applies_to_established
        return kernel.flows.delete(denied_flows(flows, endpoints, own, state, everything=everything))

    # Flows of addresses that left

    def _sweep_soon(self, seconds: float) -> None:
        if self._sweep is None and self._routes.has_flows_to_forget:
            self._sweep = asyncio.get_running_loop().call_later(seconds, self._sweep_now)

    def _sweep_now(self) -> None:
        loop = asyncio.get_running_loop()
        future = self._sweeper.submit(self._routes.forget_flows)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._swept, done.exception()))

    def _swept(self, error: BaseException | None) -> None:
        self._sweep = None
        if self._kernel is None:
            return
        if isinstance(error, TortieError):
            self._trouble["conntrack"] = error
        elif error is not None:
            raise error
        else:
            self._trouble.pop("conntrack", None)
        self._sweep_soon(SWEEP_SECONDS if error is None else VANISHED_SECONDS)

    # Drift

    def _hear(self) -> None:
        """Something happened: as a rule more follows at once, and the end of it is what counts."""
        if self._kernel is not None:
            asyncio.get_running_loop().remove_reader(self._kernel.monitor.fileno())
            self._later(HEAR_SECONDS, self._read_events)

    def _read_events(self) -> None:
        kernel = self._kernel
        if kernel is None:
            return
        asyncio.get_running_loop().add_reader(kernel.monitor.fileno(), self._hear)
        try:
            events = kernel.monitor.read()
        except KernelError:
            self._look_at_everything()
            return
        self._unheard.extend(events)
        if not self._lock.locked():
            self._consider()

    def _consider(self) -> None:
        """Judge events once a round is over: in its midst our own changes look like others'."""
        events, self._unheard = self._unheard, []
        now, later = self._drift.hear(events)
        if not self._in_sync or self.on_drift is None:
            return
        if now:
            self.on_drift("events")
        elif later:
            self._later(VANISHED_SECONDS, lambda: self._tell("events"))

    def _poll_rules(self) -> None:
        kernel = self._kernel
        if kernel is None:
            return
        self._later(RULES_POLL_SECONDS, self._poll_rules)
        try:
            generation = kernel.rules_watch.generation()
        except KernelError:
            return
        if not self._lock.locked() and generation != self._nft.generation:
            self._drift.hints.rules = True
            self._tell("rules")

    def _look_at_everything(self) -> None:
        self._drift.hints.everything = True
        self._tell("refresh")

    def _tell(self, what: str) -> None:
        self._drift.forget_unwanted()
        if self.on_drift is not None and self._drift.hints:
            self.on_drift(what)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers = [
            timer for timer in self._timers if not timer.cancelled() and timer.when() > time.monotonic()
        ]
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))


class _Waiting(TortieError):
    """Nothing is written before the datastore was read whole."""

    def __str__(self) -> str:
        return "the datastore has not been read whole yet"
