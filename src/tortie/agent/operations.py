"""What may be asked over the admin socket. Each operation answers with plain values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args

from tortie import __version__
from tortie.agent import probes, sandboxes, status, traces
from tortie.agent.admin_server import Operation
from tortie.agent.machine_view import MachineView
from tortie.agent.pipeline import Pipeline
from tortie.agent.policy_counts import PolicyCounts
from tortie.agent.sandboxes import KnownSandbox
from tortie.dataplane.linux.rules.groups import no_profile, tier_end
from tortie.dataplane.linux.rules.policies import Part, Place
from tortie.desired.endpoints import EndpointKey
from tortie.desired.policies import DIRECTIONS, POLICIES, PROFILES
from tortie.desired.table import DesiredKey, Problem
from tortie.errors import TortieError, UsageError
from tortie.observe.clock import SYSTEM
from tortie.observe.health import Health

_PLACES: tuple[Place, ...] = get_args(Place)
MOST_SHOWN = 200
"""Problems and failures that one answer lists; it tells how many there are."""


class Operations:
    """Answers with what is known so far: ``pipeline`` is None while the agent waits for its datastore."""

    def __init__(self, *, node: str, datastore: str, health: Health) -> None:
        self.pipeline: Pipeline | None = None
        self.datastore_state = "not asked yet"
        self.mtu: Callable[[], int] = lambda: 0
        self.dataplane_problems: Callable[[], tuple[Problem, ...]] = lambda: ()
        self.sandboxes: Mapping[EndpointKey, KnownSandbox] = {}
        self.machine: MachineView | None = None
        self.policy_counts: PolicyCounts | None = None
        self._node = node
        self._datastore = datastore
        self._health = health
        self._captures = probes.Captures()
        self._traces = traces.Traces(self._policy_chains)
        self._started = SYSTEM.wall()

    def table(self) -> Mapping[str, Operation]:
        """By name, for the server."""
        return {
            "status": self.status,
            "tables": self.tables,
            "dump": self.dump,
            "endpoints": self.endpoints,
            "routes": self.routes,
            "interfaces": self.interfaces,
            "mtu": self.show_mtu,
            "counters": self.counters,
            "node-status": self.node_status,
            "probe": self.probe,
            "capture-start": self.capture_start,
            "capture-stop": self.capture_stop,
            "trace-start": self.trace_start,
            "trace-stop": self.trace_stop,
            "send": self.send,
        }

    async def status(self) -> dict[str, Any]:
        """Who this agent is, whether it is well, and what of the desired state is not real."""
        ready, live = self._health.readiness(), self._health.liveness()
        pipeline = self.pipeline
        problems = (*(pipeline.problems if pipeline is not None else ()), *self.dataplane_problems())
        failed: Mapping[DesiredKey, TortieError] = pipeline.failed if pipeline is not None else {}
        return {
            "node": self._node,
            "version": __version__,
            "pid": os.getpid(),
            "addresses": status.bgp_addresses(pipeline.desired) if pipeline is not None else [],
            "started": self._started,
            "ready": ready.ok,
            "live": live.ok,
            "reason": "; ".join(ready.reasons),
            "loops": self._health.table(),
            "datastore": {"url": self._datastore, "state": self.datastore_state},
            "in_sync": pipeline is not None and pipeline.first_applied.is_set(),
            "generation": pipeline.generation if pipeline is not None else 0,
            "inbox": len(pipeline.intake) if pipeline is not None else 0,
            "problem_count": len(problems),
            "problems": [problem._asdict() for problem in problems[:MOST_SHOWN]],
            "failed_count": len(failed),
            "failed": [
                {"table": key.table, "key": str(key.key), "error": str(error)}
                for key, error in list(failed.items())[:MOST_SHOWN]
            ],
        }

    async def tables(self) -> list[dict[str, Any]]:
        """The tables of the desired state, and how many rows each has."""
        return status.tables(self._pipeline().desired)

    async def dump(self, name: str) -> list[dict[str, Any]]:
        """All rows of one table of the desired state, and of each whether it is real."""
        pipeline = self._pipeline()
        rows = status.dump(pipeline.desired, name)
        failed = {str(key.key): str(error) for key, error in pipeline.failed.items() if key.table == name}
        return [{**row, "error": failed.get(row["key"], "")} for row in rows]

    async def endpoints(self) -> list[dict[str, Any]]:
        """The workloads of this node."""
        pipeline = self._pipeline()
        rows = sandboxes.rows(pipeline.realised.endpoints, self.sandboxes)
        for row in rows:
            key = EndpointKey(row["namespace"], row["endpoint"])
            row["real"] = pipeline.realised.is_real(key)
            row["error"] = str(pipeline.realised.error_of(key) or "")
        return rows

    async def routes(self) -> list[dict[str, Any]]:
        """The routes that the kernel has now."""
        return await self._machine().routes()

    async def interfaces(self) -> list[dict[str, Any]]:
        """The node's interfaces, whether they are up, and their addresses."""
        return await self._machine().interfaces()

    async def show_mtu(self) -> dict[str, int]:
        """What a pod's interface gets where its configuration says nothing."""
        return {"mtu": self.mtu()}

    async def counters(self) -> list[dict[str, Any]]:
        """What each rule of each policy, each end of a tier, and the profiles have decided on. Raises `KernelError`."""
        if self.policy_counts is None:
            raise AgentNotReady(self._node)
        return await self.policy_counts.rows()

    async def node_status(self) -> dict[str, Any]:
        """BIRD and its sessions."""
        return await self._machine().sessions()

    async def probe(
        self,
        targets: list[str],
        netns: str = "",
        pod: str = "",
        count: int = 1,
        interval_ms: int = 20,
        timeout_ms: int = 1000,
        source: str = "",
        size: int = 0,
    ) -> list[dict[str, Any]]:
        """Send echoes from the node, from a namespace by path, or from a pod as ``namespace/pod``.

        ``size``: IP packets of so many bytes that may not be fragmented.
        """
        return await probes.probe(
            self._namespace_of(pod) if pod else netns,
            targets,
            count=count,
            interval_ms=interval_ms,
            timeout_ms=timeout_ms,
            source=source,
            size=size,
        )

    async def capture_start(
        self, netns: str = "", pod: str = "", seconds: float = 10.0, destinations: Sequence[str] = ()
    ) -> int:
        """Note the echo requests that arrive there; the number is for `capture_stop`. Listening when it answers."""
        where = self._namespace_of(pod) if pod else netns
        return await self._captures.start(where, seconds, destinations)

    async def capture_stop(self, capture: int) -> list[dict[str, Any]]:
        """End a capture: what arrived."""
        return self._captures.stop(capture)

    async def trace_start(
        self,
        sources: list[str],
        destination: str,
        protocol: int,
        port: int | None = None,
        seconds: float = 10.0,
    ) -> None:
        """Follow such packets through this node's nftables."""
        await self._traces.start(sources, destination, protocol, port, seconds)

    async def trace_stop(self) -> list[dict[str, Any]]:
        """Every rule that the packets met, with the policy's name where it is one's."""
        return await self._traces.stop()

    async def send(
        self,
        source: str,
        destination: str,
        protocol: int,
        port: int | None = None,
        icmp_type: int = 0,
        pod: str = "",
        size: int | None = None,
    ) -> dict[str, Any]:
        """Send one packet, from a pod as ``namespace/pod`` or from the node, and tell what came back.

        ``size``: with so many bytes of payload, and not to be fragmented.
        """
        return await traces.send(
            self._namespace_of(pod) if pod else "", source, destination, protocol, port, icmp_type, size
        )

    async def tidy(self) -> None:
        """Remove what an agent before us may have left of a trace."""
        with suppress(TortieError):
            await self._traces.tidy()

    def close(self) -> None:
        self._captures.close()

    def _policy_chains(self) -> dict[str, str]:
        """Chains of policies and profiles, with their names for people."""
        desired = self._pipeline().desired
        found = {
            Part(
                subject, direction, place
            ).chain: f"{'Profile ' if isinstance(subject, str) else ''}{subject}"
            for table in (POLICIES, PROFILES)
            for subject in desired.get(table.name, {})
            for direction in DIRECTIONS
            for place in _PLACES
        }
        tiers = {row.tier for row in desired.get(POLICIES.name, {}).values()}
        for direction in DIRECTIONS:
            found[no_profile(direction)] = "the end: no profile allows it"
            found.update({tier_end(direction, tier): f"the end of tier {tier}" for tier in tiers})
        return found

    def _pipeline(self) -> Pipeline:
        if self.pipeline is None:
            raise AgentNotReady(self._node)
        return self.pipeline

    def _machine(self) -> MachineView:
        if self.machine is None:
            raise AgentNotReady(self._node)
        return self.machine

    def _namespace_of(self, pod: str) -> str:
        for known in self.sandboxes.values():
            if pod in (f"{known.namespace}/{known.pod}", known.container_id):
                return known.netns
        raise UsageError(f"the agent of {self._node} knows no pod {pod} with a network namespace")


class AgentNotReady(TortieError):
    """The agent waits for its datastore and knows nothing of that yet."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        return f"the agent of {self.node} is starting and cannot tell yet: 'tortie agent status' says what it waits for"
