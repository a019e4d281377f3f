"""Random clusters of two nodes that HostEndpoints guard, and packets between their pods, the nodes and the outside."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random

from tests.fuzz import rules
from tests.fuzz.clusters import Place
from tests.fuzz.engine import TortieEngine, Twist
from tests.fuzz.packets import RARE, Marksman
from tests.fuzz.policies import policy_set
from tests.fuzz.words import LABELS, ORDERS, POLICY_NAMES, chance, selector, some_labels
from tests.oracle.builders import document
from tests.oracle.documents import Document
from tests.oracle.hosts import IPIP, NEIGHBOURS, VXLAN_PORT, Failsafe, HostOracle
from tests.oracle.packets import Packet
from tests.oracle.policies import Direction, Traffic
from tests.oracle.rules import Rule
from tortie.diagnostics.cluster import build
from tortie.resources.resource import Put
from tortie.verdict.journey import Traveller

NODES = {"node": ("198.18.2.17", "2001:db8:5::11"), "far": ("198.18.2.20", "2001:db8:5::14")}
"""Within nets that rules name, and one of them among the backends of services."""
PLACES = tuple(Place(number) for number in range(1, 6))
FAR = ("pod4", "pod5")
FLAVOURS: Sequence[tuple[Document, int]] = (
    ({}, 40),
    ({"applyOnForward": True}, 30),
    ({"applyOnForward": True, "preDNAT": True, "types": ["Ingress"]}, 15),
    ({"applyOnForward": True, "doNotTrack": True}, 15),
)


def host_set(rng: Random) -> list[Document]:
    """A cluster, with policies of pods and of hosts, in any order."""
    documents = [_moved(each) for each in policy_set(rng, PLACES) if each["kind"] != "HostEndpoint"]
    tiers = [each["metadata"]["name"] for each in documents if each["kind"] == "Tier"]
    for name, (v4, v6) in NODES.items():
        bgp = {"ipv4Address": f"{v4}/24", "ipv6Address": f"{v6}/64"}
        documents += [document("Node", name, {"bgp": bgp}), *_guards(rng, name)]
    taken = {each["metadata"]["name"] for each in documents if each["kind"] == "GlobalNetworkPolicy"}
    for number in range(rng.choice((0, 2, 3, 4, 6))):
        made = _policy(rng, rng.choice(POLICY_NAMES) + str(number), tiers)
        if made["metadata"]["name"] not in taken:
            documents.append(made)
    if chance(rng, 0.5):
        documents.append(_settings(rng))
    rng.shuffle(documents)
    return documents


def _moved(each: Document) -> Document:
    """Some pods are on the other node."""
    spec = each.get("spec", {})
    if each["kind"] == "WorkloadEndpoint" and (spec.get("pod") or spec.get("containerID")) in FAR:
        spec["node"] = "far"
        each["metadata"]["name"] = "far" + each["metadata"]["name"].removeprefix("node")
    return each


def _guards(rng: Random, node: str) -> list[Document]:
    """None, one by the interface's name, by its addresses or for all interfaces, or one of each sort."""
    sorts = rng.choice((["named"], ["expected"], ["*"], ["named", "*"], ["expected", "*"], []))
    made: list[Document] = []
    for sort in sorts:
        spec: Document = {"node": node}
        if sort != "expected":
            spec["interfaceName"] = "eth0" if sort == "named" else "*"
        if sort == "expected" or chance(rng, 0.5):
            spec["expectedIPs"] = list(NODES[node])
        if chance(rng, 0.6):
            spec["profiles"] = rng.choice(
                (["custom"], ["kns.green"], ["kns.green", "custom"], ["ksa.red.admin"])
            )
        if chance(rng, 0.5):
            spec["ports"] = [{"name": "web", "protocol": "TCP", "port": 80}]
        labels = some_labels(rng, LABELS) | {"host": sort.strip("*") or "all"}
        made.append(document("HostEndpoint", f"{node}-{labels['host']}", spec, labels=labels))
    return made


def _policy(rng: Random, name: str, tiers: Sequence[str]) -> Document:
    flavour = rng.choices([each for each, _ in FLAVOURS], [weight for _, weight in FLAVOURS])[0]
    spec: Document = {"tier": rng.choice(("default", rng.choice(tiers))), **flavour}
    if (order := rng.choice(ORDERS)) is not None:
        spec["order"] = order
    spec["selector"] = rng.choice(
        ("has(host)", "has(host)", "host == 'all'", "host != 'all'", "all()", f"has(host) && {selector(rng, LABELS)}")
    )  # fmt: skip
    for direction in ("ingress", "egress"):
        if chance(rng, 0.8) and not (direction == "egress" and spec.get("preDNAT")):
            spec[direction] = [rules.rule(rng, direction, namespace="") for _ in range(rng.choice((1, 2, 3)))]
    if "types" not in spec and chance(rng, 0.4):
        spec["types"] = rng.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    return document("GlobalNetworkPolicy", name, spec)


def _settings(rng: Random) -> Document:
    spec: Document = {}
    if chance(rng, 0.5):
        spec["defaultEndpointToHostAction"] = rng.choice(("Drop", "Return", "ACCEPT"))
    for field in ("failsafeInboundHostPorts", "failsafeOutboundHostPorts"):
        if chance(rng, 0.5):
            spec[field] = [_failsafe(rng) for _ in range(rng.choice((0, 1, 2, 3)))]
    return document("FelixConfiguration", "default", spec)


def _failsafe(rng: Random) -> Document:
    made: Document = {"protocol": rng.choice(("tcp", "udp", "TCP")), "port": rng.choice((22, 53, 80, 443))}
    if chance(rng, 0.3):
        made["net"] = rng.choice(("198.18.2.0/24", "2001:db8:5::/64", "203.0.113.0/24"))
    return made


class HostMarksman(Marksman):
    """Aims at the rules that HostEndpoints are guarded by, and at fail-safe ports."""

    oracle: HostOracle

    def __init__(self, rng: Random, oracle: HostOracle) -> None:
        super().__init__(rng, oracle)
        for version in (4, 6):
            nodes = [held[version == 6] for held in oracle.nodes.values()]
            self.workloads[version] += nodes  # as ends of their own
            self.others[version] = [each for each in self.others[version] if each not in nodes]
        self.of_pods = (self.targets, self.weights)
        self.targets = list(self._host_targets(oracle))
        sums = (1 + sum(RARE.get(field, 0) for field in rule.fields) for _, _, rule in self.targets)
        self.of_hosts = (self.targets, list(itertools.accumulate(sums)))

    def _host_targets(self, oracle: HostOracle) -> Iterator[tuple[str, Direction, Rule]]:
        directions: tuple[Direction, ...] = ("ingress", "egress")
        sorts: tuple[Traffic, ...] = ("tracked", "forward", "untracked", "pre-dnat")
        for version in (4, 6):
            for address in self.workloads[version]:
                end = oracle.end(address)
                guards = oracle.guards.get(end.node, {}).values()
                for guard, direction, traffic in itertools.product(guards, directions, sorts):
                    if guard is None or traffic == ("forward" if end.workload is None else "tracked"):
                        continue
                    for _, policies in oracle.applied(guard, direction, traffic):
                        for policy in policies:
                            for rule in policy.rules[direction]:
                                yield address, direction, rule

    def packet(self) -> Packet:
        """One that some node has a say in, as a rule."""
        if chance(self.rng, 0.12):
            return self._beyond_policy()
        at_hosts = chance(self.rng, 0.8) and self.of_hosts[0]
        self.targets, self.weights = self.of_hosts if at_hosts else self.of_pods
        return super().packet()

    def _beyond_policy(self) -> Packet:
        """To or from a node, or between pods: a fail-safe port or its answer, a tunnel, or neighbours' talk."""
        version = self.rng.choice((4, 6))
        ends = [*self.workloads[version], *self.others[version]]
        source, destination = self.rng.choice(self.workloads[version]), self.rng.choice(ends)
        if chance(self.rng, 0.5):
            source, destination = destination, source
        what = self.rng.choice(("failsafe", "failsafe", "answer", "tunnel", "tunnel", "neighbours"))
        if what == "tunnel" and chance(self.rng, 0.6):
            source, destination = self.rng.sample([held[version == 6] for held in NODES.values()], 2)
        match what:
            case "failsafe":
                port = self._failsafe()
                return Packet(source, destination, port.protocol, 40_000, port.port)
            case "answer":
                port = self._failsafe()
                return Packet(source, destination, port.protocol, port.port, 40_000)
            case "neighbours" if version == 6 and not self._is_forwarded(source, destination):
                return Packet(source, destination, 58, 0, 0, self.rng.choice(NEIGHBOURS), 0)
            case _ if version == 4 and chance(self.rng, 0.5):
                return Packet(source, destination, IPIP)
            case _:
                return Packet(source, destination, 17, 40_000, VXLAN_PORT)

    def _failsafe(self) -> Failsafe:
        return self.rng.choice([*self.oracle.inbound, *self.oracle.outbound, Failsafe(6, 80)])

    def _is_forwarded(self, source: str, destination: str) -> bool:
        """No router forwards what neighbours say to each other."""
        ends = self.oracle.end(source), self.oracle.end(destination)
        return any(end.workload is not None for end in ends) and ends[0].node != ends[1].node


class HostEngine(TortieEngine):
    """With who is where, as ``tortie policy explain`` reads it."""

    def __init__(self, documents: Sequence[Document], twist: Twist | None = None) -> None:
        super().__init__(documents, twist)
        where = build([Put(each) for each in self.resources]).where
        self.traveller = Traveller(self.state, where)
