"""Documents in, packets out: a node whose dataplane is fed by the calculation, as an agent feeds it.

What an operator writes is read, validated and folded into the graph of the node; the flush goes to the real kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.kernel.dataplane_world import NODE_V4, NODE_V6, Pod, World, applied, eventually, started
from tests.kernel.policy_world import ICMP, ICMPV6, SCTP, TCP, UDP, Packet, Place, PolicyWorld
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.table import Problem
from tortie.resources import registry
from tortie.resources.documents import Document
from tortie.resources.reading import read_document
from tortie.resources.resource import Delete, Put, ResourceKey, Update

Written = dict[str, Any]
"""A document as its author writes it."""
NODE = "node1"
V3 = "projectcalico.org/v3"
NUMBERS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


def v3(kind: str, name: str, namespace: str = "", /, **spec: Any) -> Written:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": V3, "kind": kind, "metadata": metadata, "spec": spec}


def network_policy(name: str, /, namespace: str = "default", **spec: Any) -> Written:
    return v3("NetworkPolicy", name, namespace, **spec)


def global_policy(name: str, /, **spec: Any) -> Written:
    return v3("GlobalNetworkPolicy", name, **spec)


def rule(action: str, port: int | str | None = None, protocol: str = "UDP", **more: Any) -> Written:
    """For one destination port, or for everything."""
    if port is None:
        return {"action": action, **more}
    return {"action": action, "protocol": protocol, "destination": {"ports": [port]}, **more}


def to(port: int, version: int = 4, protocol: str = "UDP", source: int = 40000) -> Packet:
    return Packet(NUMBERS[protocol], (source, port), version)


def echo(version: int = 4) -> Packet:
    return Packet(ICMP, (8, 0), 4) if version == 4 else Packet(ICMPV6, (128, 0), 6)


class PolicyCluster(PolicyWorld):
    """``client`` (role: client), ``server`` (role: server) and ``other`` (role: other) are pods of the namespace ``default``."""

    def __init__(self, world: World, plane: LinuxDataplane) -> None:
        super().__init__(world, plane)
        self.other = world.pod(3)
        self.problems: tuple[Problem, ...] = ()
        self._graph = CalcGraph(Scope(NODE))

    async def start(self) -> None:
        pods = {"client": self.client, "server": self.server, "other": self.other}
        await self.apply(
            v3("Node", NODE, bgp={"ipv4Address": f"{NODE_V4}/24", "ipv6Address": f"{NODE_V6}/64"}),
            v3("FelixConfiguration", "default", defaultEndpointToHostAction="Return"),
            profile("kns.default", {"pcns.team": "a"}),
            *(endpoint(pod, {"role": role}) for role, pod in pods.items()),
        )
        await self.running(*pods.values())
        for version in (4, 6):
            for source, destination in ((self.client, self.server), (self.other, self.server)):
                assert await self.passes(to(9, version), source, destination)
            assert await self.passes(to(9, version), self.outside, self.server)

    async def running(self, *pods: Pod) -> None:
        """The kernel may take a second to open a new veth's queue."""
        await eventually(
            lambda: all(
                self.world.kernel.need_link(pod.interface).running and self.world.is_running(pod)
                for pod in pods
            ),
            seconds=20,
            wait=asyncio.sleep,
        )

    async def apply(self, *documents: Written) -> None:
        read = (
            read_document(Document(each, "test.yaml"), "default", allow_unknown=False) for each in documents
        )
        updates: list[Update] = [Put(each) for each in read]
        await self._fold(updates)

    async def delete(self, kind: str, *names: str, namespace: str = "") -> None:
        """``kind`` is a word of the command line."""
        await self._fold([Delete(ResourceKey(registry.find(kind).kind, name, namespace)) for name in names])

    async def expect(
        self,
        expected: Mapping[int, bool],
        source: Pod | Place | None = None,
        destination: Pod | Place | None = None,
        *,
        protocol: str = "UDP",
        versions: Sequence[int] = (4, 6),
    ) -> None:
        """Which destination ports are open, from the client to the server unless others are named."""
        for version in versions:
            for port, allowed in expected.items():
                seen = await self.passes(to(port, version, protocol), source, destination)
                assert seen == allowed, (
                    f"{protocol} {port} over IPv{version}: {'passes' if seen else 'is dropped'}"
                )

    async def _fold(self, updates: Sequence[Update]) -> None:
        self._graph.fold(updates)
        flush = self._graph.flush(in_sync=True)
        self.problems = flush.problems
        await applied(self.plane, flush)


@asynccontextmanager
async def policy_cluster(make_namespace: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    world = World(make_namespace)
    plane = await started(world)
    made = PolicyCluster(world, plane)
    try:
        await made.start()
        yield made
    finally:
        await plane.close()
        made.close()


def profile(name: str, labels: Mapping[str, str] | None = None, **rules: Any) -> Written:
    """One that allows everything, unless its rules are given."""
    allow = [{"action": "Allow"}]
    return v3(
        "Profile", name, **{"ingress": allow, "egress": allow, "labelsToApply": dict(labels or {}), **rules}
    )


def endpoint(
    pod: Pod,
    labels: Mapping[str, str],
    *,
    namespace: str = "default",
    account: str = "",
    profiles: Sequence[str] | None = None,
    ports: Sequence[tuple[str, str, int]] = (),
) -> Written:
    """The pod's WorkloadEndpoint, as its ADD would have written it. ``ports`` are (name, protocol, number)."""
    own = {"projectcalico.org/namespace": namespace, "projectcalico.org/orchestrator": "k8s"}
    if account:
        own["projectcalico.org/serviceaccount"] = account
    inherited = [f"kns.{namespace}", *([f"ksa.{namespace}.{account}"] if account else [])]
    found = v3(
        "WorkloadEndpoint",
        f"{NODE}-k8s-{pod.name}-eth0",
        namespace,
        orchestrator="k8s",
        node=NODE,
        pod=pod.name,
        endpoint="eth0",
        containerID=f"c-{pod.name}",
        interfaceName=pod.interface,
        ipNetworks=[str(pod.v4.prefix), str(pod.v6.prefix)],
        profiles=list(inherited if profiles is None else profiles),
        ports=[{"name": name, "protocol": protocol, "port": number} for name, protocol, number in ports],
    )
    found["metadata"]["labels"] = {**labels, **own}
    return found
