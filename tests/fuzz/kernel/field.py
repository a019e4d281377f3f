"""A node with its pods and something outside; policy calculated by the graph, enforced by the dataplane; packets through it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tests.fuzz.clusters import PLACES, Place
from tests.fuzz.engine import Twist
from tests.fuzz.kernel.frames import frame
from tests.fuzz.kernel.wires import Wires
from tests.kernel.dataplane_world import HOST_MAC, World, started
from tests.oracle.documents import Document
from tests.oracle.judge import Oracle
from tests.oracle.packets import Packet
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.resources import codec, registry
from tortie.resources.resource import Delete, Put, ResourceKey

OUTSIDE = "outside"
QUIET_SECONDS = 0.05
DEAF = """
table inet fuzz {
    chain input {
        type filter hook input priority -300; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
    }
}
"""
"""In pods and outside: whatever arrives is heard, and nobody answers, so that no connection is ever established."""


@dataclass(frozen=True)
class Shot:
    """A packet that was sent, whether it should arrive, and where it did."""

    packet: Packet
    expected: bool
    arrived: frozenset[str]
    goal: str

    @property
    def is_right(self) -> bool:
        return self.arrived == (frozenset((self.goal,)) if self.expected else frozenset())


class Field:
    """``apply`` a set of documents, then ``shoot`` packets."""

    places: Sequence[Place] = PLACES

    def __init__(self, world: World, twist: Twist | None = None) -> None:
        self.world = world
        self._twist = twist
        self._graph = CalcGraph(Scope("node"))
        self._known: set[ResourceKey] = set()
        self._stack = ExitStack()
        self._names: dict[str, str] = {}
        self._number = 0
        self.arrival_seconds = 10.0
        """So long, on a busy machine, is waited for what should arrive."""

    async def start(self) -> None:
        namespaces = {OUTSIDE: self.world.outside}
        for place in self.places:
            pod = self.world.pod(place.number, place.interface)
            namespaces[pod.interface] = pod.namespace
            self._names.update(dict.fromkeys(place.addresses, pod.interface))
        for namespace in namespaces.values():
            self.world.run("nft", DEAF, where=namespace)
        self.wires = self._stack.enter_context(Wires(namespaces))
        self.plane: LinuxDataplane = await started(self.world)

    async def close(self) -> None:
        self._stack.close()
        await self.plane.close()

    async def apply(self, documents: Iterable[Document]) -> None:
        """What is not among these is deleted; the dataplane gets the difference."""
        resources = [codec.decode(_info(each), each) for each in documents]
        keys = {resource.key for resource in resources}
        self._graph.fold([Delete(key) for key in self._known - keys])
        self._graph.fold([Put(resource) for resource in resources])
        self._known = keys
        flush = self._graph.flush(in_sync=True)
        assert not flush.problems, [str(problem) for problem in flush.problems]
        if self._twist is not None:
            flush = replace(flush, deltas=tuple(self._twist(flush.deltas)))
        applied = await self.plane.apply(flush)
        assert not applied.failed, {str(key): str(error) for key, error in applied.failed.items()}

    def shoot(self, packets: Sequence[Packet], oracle: Oracle) -> list[Shot]:
        """Send them, in waves that conntrack takes for strangers to one another."""
        shots: list[Shot] = []
        for wave in _waves(packets):
            self.world.run("conntrack", "-F")
            numbered: dict[int, Packet] = {}
            for packet in wave:
                self._number += 1
                numbered[self._number] = packet
                self._send(packet, self._number)
            right = {number: self.expected(oracle, packet) for number, packet in numbered.items()}
            wanted = {number for number, allowed in right.items() if allowed}
            self.wires.until(wanted, seconds=self.arrival_seconds)
            self.wires.listen(QUIET_SECONDS)
            shots += [
                Shot(
                    packet,
                    right[number],
                    frozenset(self.wires.arrived.get(number, ())),
                    self.name(packet.destination),
                )
                for number, packet in numbered.items()
            ]
        return shots

    def expected(self, oracle: Oracle, packet: Packet) -> bool:
        """Whether it should arrive."""
        return oracle.judge(packet).allowed

    def name(self, address: str) -> str:
        """Where it is."""
        return self._names.get(address, OUTSIDE)

    def _send(self, packet: Packet, number: int) -> None:
        name = self.name(packet.source)
        self.wires.send(
            name, frame(packet, number, to_mac=self._next_mac(name), from_mac=self.wires.mac(name))
        )

    def _next_mac(self, name: str) -> str:
        """Of the node's end."""
        return HOST_MAC if name != OUTSIDE else str(self.world.kernel.need_link("eth0").mac)


def _info(document: Document) -> registry.KindInfo:
    info = registry.by_document(document["apiVersion"], document["kind"])
    assert info is not None, document["kind"]
    return info


def _waves(packets: Sequence[Packet]) -> Iterator[list[Packet]]:
    """In their order, cut wherever one looks like the answer to one before, or like that again."""
    wave: list[Packet] = []
    met: set[tuple[object, ...]] = set()
    for packet in packets:
        ways = (
            (packet.source, packet.destination, packet.protocol, packet.source_port, packet.destination_port),
            (packet.destination, packet.source, packet.protocol, packet.destination_port, packet.source_port),
        )
        if any(way in met for way in ways):
            yield wave
            wave, met = [], set()
        wave.append(packet)
        met.update(ways)
    if wave:
        yield wave
