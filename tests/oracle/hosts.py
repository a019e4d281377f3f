"""The verdict where nodes take part: HostEndpoints, fail-safe ports, and what a node does with its own pods.

Each node has an interface, `UPLINK`, which carries all of its addresses and leads to every other node and outside. Another one,
`SECOND`, carries none, and leads to some networks. A packet that comes in by one meets untracked policy, then preDNAT policy,
then that of the node's own traffic or of what is forwarded; one that goes out meets untracked policy and that of the node's own
traffic, or that of what is forwarded. An Allow of an earlier place is good for the later ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.oracle.cluster import Thing
from tests.oracle.documents import Document, listed, within
from tests.oracle.judge import Decision, Oracle, Verdict, Way
from tests.oracle.packets import Net, Packet, net, protocol
from tests.oracle.policies import Direction, Traffic
from tests.oracle.rules import Seen

UPLINK, SECOND = "eth0", "eth1"
VXLAN_PORT, IPIP = 4789, 4
NEIGHBOURS = (130, 131, 132, 133, 135, 136)
"""ICMPv6 that is always allowed: multicast listeners, neighbour discovery."""


class Failsafe(NamedTuple):
    """A port that no policy of a HostEndpoint closes; ``net`` None: whoever is at the other end."""

    protocol: int
    port: int
    net: Net | None = None


_SHARED = [Failsafe(6, port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667)]
INBOUND = [Failsafe(6, 22), *_SHARED, Failsafe(17, 68)]
OUTBOUND = [*_SHARED, Failsafe(17, 53), Failsafe(17, 67)]


class End(NamedTuple):
    """Who has an address: a workload, a node, or (with neither) somebody outside."""

    node: str = ""
    workload: Thing | None = None

    @property
    def is_outside(self) -> bool:
        return not self.node


class HostOracle(Oracle):
    """Judges packets between pods, nodes and the outside. ``beyond_second``: the networks that `SECOND` leads to."""

    def __init__(self, documents: Iterable[Document], beyond_second: Sequence[str] = ()) -> None:
        documents = list(documents)
        super().__init__(documents)
        self.nodes: dict[str, list[str]] = {}
        self.inbound, self.outbound, self.to_host = INBOUND, OUTBOUND, "drop"
        for document in documents:
            if document["kind"] == "Node":
                bgp = within(document["spec"], "bgp")
                written = (bgp.get("ipv4Address"), bgp.get("ipv6Address"))
                self.nodes[document["metadata"]["name"]] = [
                    each.partition("/")[0] for each in written if each
                ]
            elif document["kind"] == "FelixConfiguration":
                self._configure(document["spec"])
        self._beyond_second = [net(each) for each in beyond_second]
        interfaces = (UPLINK, SECOND) if beyond_second else (UPLINK,)
        self.guards = {node: {each: self._guard(node, each) for each in interfaces} for node in self.nodes}

    def _configure(self, spec: Document) -> None:
        if "failsafeInboundHostPorts" in spec:
            self.inbound = _failsafes(listed(spec, "failsafeInboundHostPorts"))
        if "failsafeOutboundHostPorts" in spec:
            self.outbound = _failsafes(listed(spec, "failsafeOutboundHostPorts"))
        self.to_host = spec.get("defaultEndpointToHostAction", "Drop").lower()

    def _guard(self, node: str, interface: str) -> Thing | None:
        """Its HostEndpoint: one that names the interface, by its name or by an address that it carries, comes before the one
        for all interfaces."""
        here = [thing for thing in self.things if thing.kind == "HostEndpoint" and thing.node == node]
        for guard in here:
            carried = interface == UPLINK and any(guard.holds(address) for address in self.nodes[node])
            if guard.interface == interface or (not guard.interface and carried):
                return guard
        return next((guard for guard in here if guard.interface == "*"), None)

    def end(self, address: str) -> End:
        workload = self.workload(address)
        if workload is not None:
            return End(workload.node, workload)
        return End(next((node for node, held in self.nodes.items() if address in held), ""))

    def judge(self, packet: Packet) -> Verdict:
        seen = self.seen(packet)
        source, destination = self.end(packet.source), self.end(packet.destination)
        if source == destination and not source.is_outside:
            return Verdict(None, None)  # it leaves no interface
        return Verdict(
            egress=self._egress(source, destination, seen), ingress=self._ingress(source, destination, seen)
        )

    def _egress(self, source: End, destination: End, seen: Seen) -> Decision | None:
        stays = source.node == destination.node
        if source.workload is None:
            return None if source.is_outside or stays else self.at_host(source.node, "egress", seen)
        if stays and destination.workload is None and _is_neighbours(seen.packet):
            return _by_host(source.workload, True)
        if _is_tunnel(seen.packet):
            return _by_host(source.workload, False)
        own = self.decide(source.workload, "egress", seen)
        if not own.allowed or stays:
            return own
        return _both(self.at_host(source.node, "egress", seen, forwarded=True), own)

    def _ingress(self, source: End, destination: End, seen: Seen) -> Decision | None:
        if destination.is_outside:
            return None
        near = source.node == destination.node
        workload = destination.workload
        if workload is None:
            if not near:
                return self.at_host(destination.node, "ingress", seen)
            # From a pod of its own: its own policy has been asked, then this action decides.
            nobody = Thing("Node", "", destination.node, {}, [])
            return _by_host(nobody, _is_neighbours(seen.packet) or self.to_host != "drop")
        if near and source.workload is None:
            return _by_host(workload, True)  # a node always reaches its own pods
        if not near:
            there = self.at_host(destination.node, "ingress", seen, forwarded=True)
            return _both(there, self.decide(workload, "ingress", seen))
        return self.decide(workload, "ingress", seen)

    def at_host(
        self, node: str, direction: Direction, seen: Seen, *, forwarded: bool = False
    ) -> Decision | None:
        """None where no HostEndpoint guards the interface that leads to the other end."""
        other = seen.packet.source if direction == "ingress" else seen.packet.destination
        second = any(each.holds(other) for each in self._beyond_second)
        guard = self.guards[node][SECOND if second else UPLINK]
        if guard is None:
            return None
        way = Way(place="before policy")
        if _is_neighbours(seen.packet):
            return way.ends(guard, True, "host")
        before: list[Traffic] = ["untracked"] if direction == "ingress" or not forwarded else []
        if direction == "ingress":
            before.append("pre-dnat")
        for traffic in before:
            way.place = traffic
            if self._is_failsafe(direction, seen.packet, answers=traffic == "untracked"):
                continue
            decision = self.by_tiers(guard, direction, seen, way, traffic)
            if decision is not None:
                return decision
        if forwarded:
            way.place = "forward"
            return self.by_tiers(guard, direction, seen, way, "forward") or way.ends(guard, True, "host")
        way.place = "own"
        if self._is_tunnel_of_nodes(direction, seen.packet):
            return way.ends(guard, True, "host")
        if self._is_failsafe(direction, seen.packet):
            return way.ends(guard, True, "failsafe")
        return (
            self.by_tiers(guard, direction, seen, way)
            or self.by_profiles(guard, direction, seen, way)
            or way.ends(guard, False, "no-profile")
        )

    def _is_failsafe(self, direction: Direction, packet: Packet, *, answers: bool = False) -> bool:
        """By the destination port. Where no connections are known also by the source port: what answers the other direction."""
        there, back = self.inbound, self.outbound
        other = packet.source
        if direction == "egress":
            there, back, other = back, there, packet.destination
        return _among(there, packet.protocol, packet.destination_port, other) or (
            answers and _among(back, packet.protocol, packet.source_port, other)
        )

    def _is_tunnel_of_nodes(self, direction: Direction, packet: Packet) -> bool:
        other = packet.source if direction == "ingress" else packet.destination
        return _is_tunnel(packet) and any(other in held for held in self.nodes.values())


def _failsafes(ports: Sequence[Document]) -> list[Failsafe]:
    return [
        Failsafe(
            protocol(each.get("protocol", "TCP")), each["port"], net(each["net"]) if each.get("net") else None
        )
        for each in ports
    ]


def _among(ports: Sequence[Failsafe], number: int, port: int, other: str) -> bool:
    return any(
        each.protocol == number and each.port == port and (each.net is None or each.net.holds(other))
        for each in ports
    )


def _by_host(endpoint: Thing, allowed: bool) -> Decision:
    """What a node does whatever policy says."""
    return Way(place="node").ends(endpoint, allowed, "host")


def _both(there: Decision | None, own: Decision) -> Decision:
    """What is forwarded has to be allowed by the HostEndpoint and by the workload's own policy, of which this is said then."""
    if there is None:
        return own
    if not there.allowed:
        return there
    own.passed += [*there.passed, f"{there.place} {'Allow' if there.policy else 'not asked'}"]
    return own


def _is_neighbours(packet: Packet) -> bool:
    return packet.protocol == 58 and packet.icmp_type in NEIGHBOURS


def _is_tunnel(packet: Packet) -> bool:
    """VXLAN, or IPIP: a pod that made some would get round its policy."""
    return (packet.protocol == 17 and packet.destination_port == VXLAN_PORT) or (
        packet.protocol == IPIP and packet.version == 4
    )
