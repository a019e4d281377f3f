"""The node's own work, from the first answer of the datastore on: set-up, then all loops that carry pods.

Waits for the datastore as long as it takes, and says so in `/readiness`; what is in the kernel goes on forwarding meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tortie.agent import process
from tortie.agent.bootstrap import NodeIdentity, ThisMachine, bootstrap, sizes_of_pods, watch_addresses
from tortie.agent.cni_gate import Gate
from tortie.agent.config import AgentConfig
from tortie.agent.default_pools import PodSizes
from tortie.agent.machine_view import MachineView
from tortie.agent.node_options import node_options
from tortie.agent.operations import Operations
from tortie.agent.pipeline import Pipeline
from tortie.agent.policy_counts import PolicyCounts
from tortie.agent.refresh import ProcessSettings, RestartNeeded, SettingsWatch
from tortie.agent.sandboxes import Sandboxes
from tortie.agent.status_files import StatusFiles
from tortie.aio.backoff import Backoff
from tortie.aio.tasks import supervise
from tortie.calc.graph import KINDS, CalcGraph
from tortie.calc.policy import POLICY_KINDS
from tortie.calc.scope import Scope
from tortie.dataplane.bird.driver import BirdDriver
from tortie.dataplane.bird.manager import BirdManager
from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.dataplane.reconciler import Stage
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.datastore.syncer import Batch, FeedState, Phase, Syncer
from tortie.desired.endpoints import EndpointKey
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Problem
from tortie.errors import KernelError, StoreError, TortieError
from tortie.host.links import SegmentSizes
from tortie.ipam.allocator import Allocator
from tortie.kernel.bird import BirdControl
from tortie.kernel.pod_link import LinuxPodLinks
from tortie.observe import log
from tortie.observe.health import Health
from tortie.observe.metrics import Metrics
from tortie.resources.node import NODE as NODE_KIND
from tortie.resources.profile import PROFILE
from tortie.resources.resource import Delete, Kind
from tortie.resources.tier import TIER
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT
from tortie.workloads.live_facts import LiveFacts
from tortie.workloads.means import Means
from tortie.workloads.profiles import Profiles
from tortie.workloads.register import StoreRegister
from tortie.workloads.workloads import NotReady, Workloads

T = TypeVar("T")

WAITING, READING, IN_SYNC = 1, 2, 3
"""Values of felix_resync_state."""

logger = log.get("node")


class Node:
    """One node. `run` is eternal; ``settings`` say what FelixConfiguration makes of the process."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        health: Health,
        metrics: Metrics,
        operations: Operations,
        gate: Gate,
        on_settings: Callable[[ProcessSettings], Awaitable[None]],
    ) -> None:
        self.settings = SettingsWatch(config.node, config.environment)
        self._config = config
        self._metrics = metrics
        self._operations = operations
        self._health = health
        self._gate = gate
        self._on_settings = on_settings
        self._datastore = health.register("Datastore", timeout_seconds=0, for_live=False)
        self._startup = health.register("FelixStartup", timeout_seconds=0)
        self._options = node_options(config.node, config.environment)
        self._machine = ThisMachine()
        self._store: Store | None = None
        self._links: LinuxPodLinks | None = None
        self._dataplane: LinuxDataplane | None = None
        self._current: ProcessSettings | None = None
        self._status_files: StatusFiles | None = None
        self._sizes = PodSizes(0, SegmentSizes())

    async def run(self) -> None:
        """Set the node up, and carry its pods. Eternal."""
        self._startup.report(ready=False, reason="waiting for the datastore")
        self._metrics.resync_state.set(WAITING)
        self._datastore.report(ready=False, reason="not reached yet")
        self._store = store = open_store(self._config.datastore, config=self._config.file)
        identity = await self._patiently(lambda: bootstrap(store, self._options, self._machine))
        self._sizes = await self._patiently(lambda: sizes_of_pods(store, identity))
        mtu, segments = self._sizes
        sizes = {"mtu": mtu, "segments_ipv4": segments.ipv4, "segments_ipv6": segments.ipv6}
        logger.info("node", node=identity.node, ipv4=identity.ipv4, ipv6=identity.ipv6, **sizes)
        pipeline = self._make_pipeline()
        allocator = Allocator(store, self._config.node)
        handler = self._make_workloads(store, allocator, pipeline)
        self._startup.report()
        await supervise(
            {
                "syncer": lambda: self._sync(store, pipeline),
                "ipam": allocator.run,
                "calculation": pipeline.run_calculation,
                "dataplane": pipeline.run_dataplane,
                "workloads": self._workloads.run,
                "policy counts": self._counts.run,
                "addresses": lambda: self._watch_addresses(store, identity),
                "first in-sync": lambda: self._after_first_apply(pipeline, handler),
            }
        )

    async def close(self) -> None:
        """Let go of datastore, sockets and threads; what is in the kernel stays."""
        if self._dataplane is not None:
            await self._dataplane.close()
        if self._links is not None:
            self._links.close()
        if self._store is not None:
            await self._store.close()

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Until the datastore does it. What is wrong with this node's own configuration is raised."""
        backoff = Backoff(first_seconds=0.1, most_seconds=5.0)
        while True:
            try:
                done = await work()
            except (StoreError, KernelError) as error:
                reason = f"the node is not set up: {error}"
                self._startup.report(ready=False, reason=reason)
                self._operations.datastore_state = str(error)
                logger.warning("cannot set the node up yet", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
            else:
                self._operations.datastore_state = "reachable"
                return done

    def _make_pipeline(self) -> Pipeline:
        paths = self._config.paths
        texts: DeltaTracker[str, str] = DeltaTracker()
        bird = BirdManager(texts)
        control = BirdControl(paths.bird_control)
        stage = Stage.of(bird, BirdDriver(paths.bird_configuration, control), texts)
        self._dataplane = LinuxDataplane(extra=(stage,))
        graph = CalcGraph(Scope(self._config.node))
        pipeline = Pipeline(graph, self._dataplane, self._health, self._metrics)
        self._dataplane.on_drift = pipeline.drifted
        plane = self._dataplane
        self._metrics.kernel_writes.set_function(lambda: plane.kernel_writes)
        self._metrics.flows_forgotten.set_function(lambda: plane.flows_flushed)
        self._metrics.flows_cut.set_function(lambda: plane.flows_cut)
        self._counts = PolicyCounts(plane.policy_counts, self._metrics.policies, self._health)
        self._operations.policy_counts = self._counts
        self._operations.dataplane_problems = self._dataplane_problems
        pipeline.on_endpoints = self._note_endpoints
        pipeline.hang_calculation_after_seconds = self._config.hang_calculation_after_seconds
        pipeline.hang_dataplane_after_seconds = self._config.hang_dataplane_after_seconds
        self._pipeline = pipeline
        self._operations.pipeline = pipeline
        self._operations.mtu = lambda: self._sizes.mtu
        self._operations.machine = MachineView(bird, control)
        return pipeline

    def _dataplane_problems(self) -> tuple[Problem, ...]:
        plane = self._dataplane
        if plane is None:
            return ()
        troubles = (Problem("dataplane", what, str(error)) for what, error in plane.troubles.items())
        return (*plane.problems, *troubles)

    def _make_workloads(self, store: Store, allocator: Allocator, pipeline: Pipeline) -> Sandboxes:
        self._links = LinuxPodLinks()
        self._profiles = Profiles(store)
        means = Means(
            node=self._config.node,
            store=store,
            allocator=allocator,
            register=StoreRegister(store, pipeline),
            profiles=self._profiles,
            live=LiveFacts(store, self._config.node),
            realised=pipeline.realised,
            links=self._links,
            mtu=lambda: self._sizes.mtu,
            segments=lambda: self._sizes.segments,
            interface_prefix=lambda: _prefix(pipeline),
        )

        def readiness() -> NotReady | None:
            verdict = self._health.readiness()
            return None if verdict.ok else NotReady("; ".join(verdict.reasons))

        self._workloads = Workloads(means, readiness=readiness, local=lambda: pipeline.realised.endpoints)
        handler = Sandboxes(
            self._config.paths.sandboxes, self._config.node, lambda: _prefix(pipeline), self._workloads
        )
        self._sandboxes = handler
        self._operations.sandboxes = handler.known
        return handler

    # The loops

    async def _sync(self, store: Store, pipeline: Pipeline) -> None:
        self._metrics.resync_state.set(READING)
        pipeline.waiting_because("reading the datastore's snapshot")

        async def sink(batch: Batch) -> None:
            for update in batch.updates:
                if isinstance(update, Delete) and update.key.kind == PROFILE:
                    self._profiles.forget(update.key.name)
            changed = self.settings.take(batch.updates)
            if changed or (batch.in_sync and self._current is None):
                await self._settings_changed(final=batch.in_sync or self._current is not None)
            await pipeline.receive(batch.updates, in_sync=batch.in_sync)
            if batch.in_sync:
                self._metrics.resync_state.set(IN_SYNC)
                self._operations.datastore_state = "in sync"

        def heard(kind: Kind, state: FeedState) -> None:
            if state.phase is Phase.LISTING:
                self._metrics.resyncs_started.inc()
            problem = syncer.problem
            self._datastore.report(ready=not problem, reason=problem)
            if problem:
                self._operations.datastore_state = problem
            else:
                self._operations.datastore_state = "in sync" if syncer.in_sync else "reading the snapshot"

        syncer = Syncer(store, KINDS, on_state=heard)
        self._metrics.cluster_hosts.set_function(lambda: syncer.count(NODE_KIND))
        self._metrics.cluster_endpoints.set_function(lambda: syncer.count(WORKLOAD_ENDPOINT))
        self._metrics.cluster_policies.set_function(lambda: sum(map(syncer.count, POLICY_KINDS)))
        self._metrics.cluster_profiles.set_function(lambda: syncer.count(PROFILE))
        self._metrics.cluster_tiers.set_function(lambda: syncer.count(TIER))
        await syncer.run(sink)

    async def _settings_changed(self, *, final: bool) -> None:
        if not final:
            return
        settings, before = self.settings.resolve(), self._current
        if settings == before:
            return
        self._current = settings
        if before is not None:
            changed = settings.needs_restart(before)
            if changed:
                raise RestartNeeded(changed)
        await self._on_settings(settings)

    async def _watch_addresses(self, store: Store, identity: NodeIdentity) -> None:
        before = identity

        async def looked(now: NodeIdentity, refusal: Exception | None) -> None:
            nonlocal before
            if refusal is not None:
                if not isinstance(refusal, TortieError):
                    raise refusal
                logger.warning("the node's address cannot be followed", reason=str(refusal))
                if not isinstance(refusal, StoreError):
                    self._startup.report(ready=False, reason=str(refusal))
                return
            if now != before:
                logger.info("the node's address changed", ipv4=now.ipv4, ipv6=now.ipv6)
                before = now
            self._startup.report()
            try:
                self._sizes = await sizes_of_pods(store, now)
            except StoreError as error:
                logger.info("cannot look at the pools for the sizes of pods' wires", error=str(error))

        await watch_addresses(store, self._options, self._machine, identity, looked)

    async def _after_first_apply(self, pipeline: Pipeline, handler: Sandboxes) -> None:
        await pipeline.first_applied.wait()
        # Before, interfaces and rules were not adopted yet, and an ADD would have waited for that all the same.
        self._gate.open(handler)
        process.freeze_collector()
        await self._operations.tidy()
        if self._current is not None and self._current.endpoint_status_path_prefix:
            self._status_files = StatusFiles(Path(self._current.endpoint_status_path_prefix))
            self._status_files.start(
                {
                    key: row
                    for key, row in pipeline.realised.endpoints.items()
                    if pipeline.realised.is_real(key)
                }
            )
        await asyncio.Event().wait()

    async def _note_endpoints(self, changed: set[EndpointKey]) -> None:
        realised = self._pipeline.realised
        for key in changed:
            if key not in realised.endpoints:
                self._sandboxes.forget(key)
        if self._status_files is None:
            return
        real = {key: realised.endpoints[key] for key in changed if realised.is_real(key)}
        try:
            self._status_files.update(real, changed - real.keys())
        except KernelError as error:
            logger.warning("endpoint status files are behind", error=str(error))


def _prefix(pipeline: Pipeline) -> str:
    settings: SettingsRow = pipeline.desired.get(SETTINGS.name, {}).get(NODE) or SettingsRow()
    return settings.interface_prefixes[0]
