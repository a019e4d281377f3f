"""Random packets at the edges of the rules: most are aimed at one rule, to match it or to miss it by one field."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from random import Random

from tests.fuzz.words import ICMP_TYPES, NETS, OTHER_PROTOCOLS, OUTSIDE, chance
from tests.oracle.documents import Document, listed, within
from tests.oracle.judge import Oracle
from tests.oracle.packets import PROTOCOLS, WITH_PORTS, Packet, net, protocol
from tests.oracle.policies import Direction
from tests.oracle.rules import Rule

TRIES = 10
RARE = {
    "icmp.type": 3, "icmp.code": 12, "notICMP.type": 40, "notICMP.code": 40, "notProtocol": 2, "ipVersion": 1,
    "source.services": 10, "destination.services": 24,
    "source.ports:number": 6, "source.ports:range": 6, "source.ports:name": 12,
    "source.notPorts:number": 16, "source.notPorts:range": 8, "source.notPorts:name": 70,
    "destination.ports:name": 3, "destination.notPorts:number": 4, "destination.notPorts:range": 4,
    "destination.notPorts:name": 10, "source.serviceAccounts.selector": 3, "destination.serviceAccounts.selector": 8,
    "source.serviceAccounts.names": 2, "destination.serviceAccounts.names": 2, "source.notSelector": 2,
    "source.notNets": 1, "destination.notNets": 2, "destination.namespace": 2, "source.ports": 2,
    "k8s.ipBlock": 8, "k8s.ipBlock.except": 5, "k8s.ports:name": 16, "k8s.ports:number": 4, "k8s.ports:range": 3,
}  # fmt: skip
"""How much more often than others a rule with such a field is aimed at: these are seldom drawn, or seldom met."""
SELDOM_MISSED = ("notICMP.code", "source.notPorts:name", "source.notPorts:number", "source.notPorts:range")
COMMON_PORTS = (22, 53, 80, 443, 8080, 7777)


class Marksman:
    """Draws packets for one set of documents. ``beyond``: also addresses that are no workload's."""

    def __init__(self, rng: Random, oracle: Oracle) -> None:
        self.rng = rng
        self.oracle = oracle
        self.workloads = {version: list(self._workloads(version)) for version in (4, 6)}
        known = {version: set(self.workloads[version]) for version in (4, 6)}
        self.others = {
            version: sorted({*OUTSIDE[version], *_edges(NETS[version])} - known[version])
            for version in (4, 6)
        }
        self.targets = list(self._targets())
        self.weights = list(
            itertools.accumulate(
                1 + sum(RARE.get(field, 0) for field in rule.fields) for _, _, rule in self.targets
            )
        )
        self.by_name: dict[str, list[int]] = {}
        for thing in oracle.things:
            for name, _, port in thing.ports:
                self.by_name.setdefault(name, []).append(port)
        self.named = sorted({port for ports in self.by_name.values() for port in ports})

    def _workloads(self, version: int) -> Iterator[str]:
        for thing in self.oracle.things:
            if thing.is_workload:
                for each in thing.nets:
                    if each.version == version:
                        yield str(ipaddress.ip_address(each.first))

    def _targets(self) -> Iterator[tuple[str, Direction, Rule]]:
        """Every rule that holds for some workload: the workload's addresses, and the direction."""
        directions: tuple[Direction, ...] = ("ingress", "egress")
        for version in (4, 6):
            for address in self.workloads[version]:
                endpoint = self.oracle.workload(address)
                assert endpoint is not None
                for direction in directions:
                    for _, policies in self.oracle.applied(endpoint, direction):
                        for policy in policies:
                            for rule in policy.rules[direction]:
                                yield address, direction, rule

    def packet(self) -> Packet:
        """One, from or to a workload."""
        if not self.targets or chance(self.rng, 0.15):
            return self._any()
        packet = self._at_a_rule()
        for _ in range(2):
            if chance(self.rng, 0.4) or self._is_decided_by_a_rule(packet):
                break
            packet = self._at_a_rule()
        return packet

    def _is_decided_by_a_rule(self, packet: Packet) -> bool:
        verdict = self.oracle.judge(packet)
        sides = (verdict.egress, verdict.ingress)
        return any(side is not None and side.decided_by == "rule" for side in sides)

    def _at_a_rule(self) -> Packet:
        """One that a rule matches, or misses by one criterion; as near to that as some tries come."""
        address, direction, rule = self.rng.choices(self.targets, cum_weights=self.weights)[0]
        seldom_missed = any(field in rule.fields for field in SELDOM_MISSED)
        wanted = self.rng.choice((0, 1) if seldom_missed else (0, 0, 0, 1, 1))
        best: tuple[int, Packet] | None = None
        for _ in range(TRIES):
            packet = self._aimed(address, direction, rule)
            off = abs(len(rule.misses(self.oracle.seen(packet))) - wanted)
            if best is None or off < best[0]:
                best = off, packet
            if not off:
                break
        assert best is not None
        return best[1]

    def _any(self) -> Packet:
        version = self.rng.choice((4, 6))
        return self._aimed(
            self.rng.choice(self.workloads[version]), self.rng.choice(("ingress", "egress")), None
        )

    def _aimed(self, address: str, direction: str, rule: Rule | None) -> Packet:
        written = rule.written if rule else {}
        if listed_service := self._of_service(written, direction, address):
            return listed_service
        number = self._protocol(written, 6 if ":" in address else 4)
        peer = self._peer(written, direction, address)
        source, destination = (peer, address) if direction == "ingress" else (address, peer)
        if number in (1, 58):
            return Packet(source, destination, number, 0, 0, *self._icmp(written, number))
        if number not in WITH_PORTS:
            return Packet(source, destination, number)
        fro, to = self._port(self._ports(written, "source")), self._port(self._ports(written, "destination"))
        if not fro or (
            not within(written, "source").keys() & {"ports", "notPorts"} and chance(self.rng, 0.9)
        ):
            fro = self.rng.randrange(20_000, 60_000)
        return Packet(source, destination, number, fro, to)

    def _icmp(self, written: Document, number: int) -> tuple[int, int]:
        """Type and code."""
        unwanted = within(written, "notICMP")
        if unwanted and protocol(written["protocol"]) == number and chance(self.rng, 0.4):
            return unwanted["type"], unwanted.get("code", 0)
        return self.rng.choice(ICMP_TYPES["ICMP" if number == 1 else "ICMPv6"]), self.rng.choice((0, 0, 1))

    def _ports(self, written: Document, side: str) -> Sequence[int | str]:
        """The ports that the rule names on this side, or those that it excludes."""
        entity = within(written, side)
        excluded: list[int | str] = listed(entity, "notPorts")
        if excluded and chance(self.rng, 0.5):
            return excluded
        numbered = [port for port in listed(written, "ports") if "port" in port and side == "destination"]
        return [
            *listed(entity, "ports"),
            *excluded,
            *(
                f"{each['port']}:{each['endPort']}" if "endPort" in each else each["port"]
                for each in numbered
            ),
        ]

    def _of_service(self, written: Document, direction: str, address: str) -> Packet | None:
        """To one of the service's ports, or just beside it."""
        service = within(within(written, "destination"), "services")
        if direction != "egress" or not service or chance(self.rng, 0.2):
            return None
        found = [
            port
            for (namespace, name), known in self.oracle.services.items()
            if name == service["name"] and namespace == service.get("namespace", namespace)
            for port in known.ports
            if (":" in port[0]) == (":" in address) and port[0] != address
        ]
        if not found:
            return None
        peer, number, port = self.rng.choice(sorted(found))
        beside = self.rng.choice((0, 0, 0, 1))
        return Packet(address, peer, number, self.rng.randrange(20_000, 60_000), port + beside)

    def _protocol(self, written: Document, version: int) -> int:
        said = written.get("protocol") or written.get("notProtocol")
        ports = listed(written, "ports")
        if ports:
            said = self.rng.choice(ports).get("protocol", "TCP")
        usual = (6, 6, 17, 132, 1 if version == 4 else 58, protocol(self.rng.choice(OTHER_PROTOCOLS)))
        number = protocol(said) if said is not None and chance(self.rng, 0.85) else self.rng.choice(usual)
        foreign = PROTOCOLS["icmpv6"] if version == 4 else PROTOCOLS["icmp"]
        return 6 if number == foreign else number

    def _peer(self, written: Document, direction: str, own: str) -> str:
        """An address that the far side's nets make interesting, another pod's, or one outside. What a pod sends to itself
        never leaves it."""
        version = 6 if ":" in own else 4
        entity = within(written, "source" if direction == "ingress" else "destination")
        nets = listed(entity, "nets") + listed(entity, "notNets") + self._services(entity)
        for peer in listed(written, "from") + listed(written, "to"):
            if "ipBlock" in peer:
                nets = [*nets, peer["ipBlock"]["cidr"], *listed(peer["ipBlock"], "except")]
        near = [each for each in _edges(nets) if (6 if ":" in each else 4) == version and each != own]
        if near and chance(self.rng, 0.5):
            return self.rng.choice(near)
        outside = 0.15 if entity.get("selector") or entity.get("services") else 0.4
        if chance(self.rng, outside):
            return self.rng.choice(self.others[version])
        return self.rng.choice([each for each in self.workloads[version] if each != own])

    def _services(self, entity: Document) -> list[str]:
        """The addresses of the service that is named."""
        service = within(entity, "services")
        return [
            address
            for (namespace, name), known in self.oracle.services.items()
            if name == service.get("name") and namespace == service.get("namespace", namespace)
            for address in sorted(known.addresses)
        ]

    def _port(self, written: Sequence[int | str]) -> int:
        """At a range's ends, just beside them, or a port with a name."""
        if not written or chance(self.rng, 0.1):
            return self.rng.choice((*COMMON_PORTS, *self.named))
        port = self.rng.choice(written)
        text = str(port)
        if not text.replace(":", "").isdigit():
            return self.rng.choice(self.by_name.get(text, [80]))
        first, _, last = text.partition(":")
        low, high = int(first), int(last or first)
        return self.rng.choice(
            [each for each in (low - 1, low, low, high, high, high + 1) if 0 < each < 65536]
        )


def _edges(nets: Iterable[str]) -> list[str]:
    """First and last address of each, and those just outside of it."""
    return [edge for each in nets for edge in _edges_of(each)]


@cache
def _edges_of(text: str) -> Sequence[str]:
    each = net(text)
    make = ipaddress.IPv4Address if each.version == 4 else ipaddress.IPv6Address
    limit = (1 << (32 if each.version == 4 else 128)) - 1
    values = (each.first - 1, each.first, each.last, each.last + 1)
    addresses = [make(value) for value in values if 0 <= value <= limit]
    return [str(address) for address in addresses if is_usual(address)]


def is_usual(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether packets go to and come from such addresses."""
    return not (
        address.is_loopback
        or address.is_multicast
        or address.is_unspecified
        or address.is_link_local
        or (address.version == 4 and (int(address) >> 24 in (0, 127) or int(address) >> 28 >= 14))
        or (address.version == 6 and int(address) >> 124 in (0, 15) and not str(address).startswith("fd"))
    )
