"""All that stands between two ends: pods' policies, HostEndpoints on the way, and what a node does with its own pods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tortie.desired.endpoints import EndpointKey
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.ipsets import ALL_HOSTS, ALL_POOLS, MASQUERADE_POOLS
from tortie.desired.policies import Direction
from tortie.desired.settings import SettingsRow
from tortie.net.addresses import Address
from tortie.verdict.beforehand import is_neighbours_talk, tunnel_of_a_pod
from tortie.verdict.engine import Asked, Outcome, Place, asking, evaluate
from tortie.verdict.hosts import decide_at_host, host_endpoint_of
from tortie.verdict.near_miss import near_miss
from tortie.verdict.packet import Packet
from tortie.verdict.state import State
from tortie.verdict.steps import UNPOLICED, Decision, Step, Verdict

Asking = Callable[[Packet, State], Asked]

_NEIGHBOURS = (
    "IPv6 does not work without neighbour discovery and multicast listeners: no policy speaks of these"
)


@dataclass(frozen=True, eq=False)
class Whereabouts:
    """What the rows of everywhere do not say: on which node an endpoint is, and which addresses nodes have.

    ``settings`` are those of single nodes, where they differ from those of all.
    """

    pods: Mapping[EndpointKey, str] = field(default_factory=dict[EndpointKey, str])
    host_endpoints: Mapping[str, str] = field(default_factory=dict[str, str])
    nodes: Mapping[str, tuple[Address, ...]] = field(default_factory=dict[str, tuple[Address, ...]])
    settings: Mapping[str, SettingsRow] = field(default_factory=dict[str, SettingsRow])


@dataclass(frozen=True)
class End:
    """One end of the way: a pod on its node, a node, or something outside of the cluster (then ``node`` is empty)."""

    kind: Literal["pod", "node", "outside"]
    node: str = ""
    pod: EndpointKey | None = None

    def __str__(self) -> str:
        return str(self.pod) if self.pod else f"node {self.node}" if self.node else "outside"


@dataclass(frozen=True, kw_only=True)
class Journey:
    """``notes`` are what an answer depends on that no row says."""

    source: End
    destination: End
    egress: Decision
    ingress: Decision
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return "deny" if "deny" in (self.egress.verdict, self.ingress.verdict) else "allow"


class Traveller:
    """Decides for packets between any two addresses. ``established``: packets of connections that were allowed before.
    ``brief``: verdicts alone, without steps and nearest rules.
    """

    def __init__(
        self,
        state: State,
        whereabouts: Whereabouts,
        *,
        established: bool = False,
        brief: bool = False,
        ask: Asking = asking,
    ) -> None:
        self._state = state
        self._where = whereabouts
        self._established = established
        self._brief = brief
        self._ask = ask
        self._node_of = {
            address: node for node, addresses in whereabouts.nodes.items() for address in addresses
        }
        self._guards: dict[str, list[tuple[str, HostEndpointRow]]] = {}
        for name, node in whereabouts.host_endpoints.items():
            if name in state.host_endpoints:
                self._guards.setdefault(node, []).append((name, state.host_endpoints[name]))
        self._notes: list[str] = []

    def end(self, address: Address) -> End:
        """Who has the address."""
        pod = self._state.holders.get(address)
        if pod is not None:
            return End("pod", self._where.pods.get(pod, ""), pod)
        node = self._node_of.get(address)
        return End("node", node) if node is not None else End("outside")

    def journey(self, packet: Packet) -> Journey:
        self._notes = []
        source, destination = self.end(packet.source), self.end(packet.destination)
        if source == destination and source.kind != "outside":
            egress = ingress = replace(UNPOLICED, reason="it talks to itself, which leaves no interface")
        else:
            egress = self.egress(source, destination, packet)
            ingress = self.ingress(source, destination, packet)
        return Journey(
            source=source,
            destination=destination,
            egress=egress,
            ingress=ingress,
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def guards(self, node: str) -> list[tuple[str, HostEndpointRow]]:
        """The HostEndpoints of a node."""
        return self._guards.get(node, [])

    def has_a_say(self, node: str) -> bool:
        """Whether the node itself bears on its pods' traffic: by HostEndpoints, or settings of its own."""
        return node in self._guards or node in self._where.settings

    def egress(self, source: End, destination: End, packet: Packet) -> Decision:
        """What the source's side says, when the ends are not the same."""
        if source.kind == "outside":
            return UNPOLICED
        leaves = destination.node != source.node or destination.kind == "outside"
        if source.pod is not None:
            if destination.kind == "node" and not leaves and is_neighbours_talk(packet):
                return self._by_host(str(source.pod), "allow", _NEIGHBOURS)
            tunnel = tunnel_of_a_pod(packet, self._settings(source.node))
            if tunnel and not self._established:
                return self._by_host(str(source.pod), "deny", tunnel)
            own = self._at_pod(source.pod, "egress", packet)
            if own.verdict == "deny" or not leaves:
                return own
            return _after(own, self._at_host(source.node, "egress", packet, forwarded=True))
        if not leaves:
            return UNPOLICED
        return self._at_host(source.node, "egress", packet, forwarded=False)

    def ingress(self, source: End, destination: End, packet: Packet) -> Decision:
        """What the destination's side says."""
        if destination.kind == "outside":
            return UNPOLICED
        near = source.kind != "outside" and source.node == destination.node
        if destination.pod is not None:
            if near and source.kind == "node":
                return self._by_host(str(destination.pod), "allow", "a node always reaches its own pods")
            if near:
                return self._at_pod(destination.pod, "ingress", packet)
            there = self._at_host(destination.node, "ingress", packet, forwarded=True)
            if there.verdict == "deny":
                return there
            return _before(there, self._at_pod(destination.pod, "ingress", packet))
        if near and is_neighbours_talk(packet):
            return self._by_host(str(destination), "allow", _NEIGHBOURS)
        if near:
            return self._to_own_host(destination.node)
        return self._at_host(
            destination.node, "ingress", self._as_seen_from_afar(source, packet), forwarded=False
        )

    def _at_pod(self, pod: EndpointKey, direction: Direction, packet: Packet) -> Decision:
        row = self._state.endpoints[pod]
        if self._established:
            return Decision(verdict="allow", endpoint=str(pod), decided_by="established")
        steps: list[Step] | None = None if self._brief else []
        applied = row.ingress if direction == "ingress" else row.egress
        place = Place(endpoint=str(pod))
        outcome = evaluate(
            self._state, applied, direction, self._ask(packet, self._state), place=place, steps=steps
        )
        if outcome.verdict is None:
            outcome = Outcome("deny", "no-profile")
        return self._decision(str(pod), outcome, steps, packet)

    def _at_host(self, node: str, direction: Direction, packet: Packet, *, forwarded: bool) -> Decision:
        chosen = host_endpoint_of(self.guards(node), packet, direction, forwarded=forwarded)
        if chosen is None:
            return UNPOLICED
        name, _, certain = chosen
        if not certain:
            self._notes.append(
                f"node {node} has several HostEndpoints; which one counts depends on the interface, taken was {name}"
            )
        endpoint = f"HostEndpoint {name}"
        if self._established:
            return Decision(verdict="allow", endpoint=endpoint, decided_by="established")
        steps: list[Step] | None = None if self._brief else []
        outcome = decide_at_host(
            self._state,
            self._settings(node),
            name,
            direction,
            packet,
            self._ask(packet, self._state),
            forwarded=forwarded,
            steps=steps,
        )
        return self._decision(endpoint, outcome, steps, packet)

    def _decision(
        self, endpoint: str, outcome: Outcome, steps: list[Step] | None, packet: Packet
    ) -> Decision:
        denied = outcome.verdict == "deny" and steps is not None
        return Decision(
            verdict=outcome.verdict,
            endpoint=endpoint,
            decided_by=outcome.decided_by,
            steps=tuple(steps or ()),
            near_miss=near_miss(steps or (), packet, self._state) if denied else None,
        )

    def _to_own_host(self, node: str) -> Decision:
        if self._established:
            return Decision(verdict="allow", endpoint=f"node {node}", decided_by="established")
        action = self._settings(node).endpoint_to_host_action
        left = "; with Return the node's other rules have the last word" if action == "Return" else ""
        reason = f"a pod's traffic to its own node: defaultEndpointToHostAction is {action}{left}"
        return self._by_host(f"node {node}", "deny" if action == "Drop" else "allow", reason)

    def _by_host(self, endpoint: str, verdict: Verdict, reason: str) -> Decision:
        return Decision(verdict=verdict, endpoint=endpoint, decided_by="host", reason=reason)

    def _settings(self, node: str) -> SettingsRow:
        return self._where.settings.get(node) or self._state.settings

    def _as_seen_from_afar(self, source: End, packet: Packet) -> Packet:
        """With the node's address as its source, where the pod's is masqueraded."""
        if source.pod is None or not self._state.set_of(MASQUERADE_POOLS).holds(packet.source):
            return packet
        if self._state.set_of(ALL_POOLS).holds(packet.destination):
            return packet
        settings = self._settings(source.node)
        if settings.nat_outgoing_exclusions == "IPPoolsAndHostIPs" and self._state.set_of(ALL_HOSTS).holds(
            packet.destination
        ):
            return packet
        version = packet.source.version
        for address in self._where.nodes.get(source.node, ()):
            if address.version == version:
                self._notes.append(f"the pod's address is masqueraded as {address}, its node's")
                return packet._replace(source=address)
        return packet


def _after(pod: Decision, host: Decision) -> Decision:
    """The pod's decision, and then that of the node's HostEndpoint for what leaves."""
    if host.verdict == "deny":
        return replace(host, steps=(*pod.steps, *host.steps))
    return replace(pod, steps=(*pod.steps, *host.steps))


def _before(host: Decision, pod: Decision) -> Decision:
    return replace(pod, steps=(*host.steps, *pod.steps))
