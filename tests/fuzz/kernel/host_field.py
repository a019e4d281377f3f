"""A node that HostEndpoints guard, with the addresses that rules name, and a second uplink; packets from it and to it, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from tests.fuzz.compare import Realm
from tests.fuzz.engine import Twist
from tests.fuzz.hosts import FAR, NODES, PLACES, HostEngine, HostMarksman, host_set
from tests.fuzz.kernel.field import DEAF, OUTSIDE, Field
from tests.fuzz.words import LABELS, OTHER_PROTOCOLS, chance, some_labels
from tests.kernel.dataplane_world import World
from tests.oracle.builders import document
from tests.oracle.documents import Document
from tests.oracle.hosts import IPIP, SECOND, HostOracle
from tests.oracle.judge import Oracle
from tests.oracle.packets import WITH_PORTS, Packet, protocol

NODE, BEYOND = "node", "beyond"
BEYOND_SECOND = ("203.0.113.0/24", "2001:db8:f::/64")
_SECOND_ENDS = (("192.0.3.1", "192.0.3.2", 24), ("2001:db8:ee::1", "2001:db8:ee::2", 64))
_UNANSWERED = ("net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1")
"""The node's own answer to an echo has the number of what it answers."""


def two_uplinks(rng: Random) -> list[Document]:
    """As `host_set`, and sometimes somebody guards the second uplink by its name."""
    documents = host_set(rng)
    if chance(rng, 0.7):
        labels = some_labels(rng, LABELS) | {"host": "second"}
        spec = {"node": NODE, "interfaceName": SECOND, "profiles": rng.choice(([], ["kns.green"]))}
        documents.append(document("HostEndpoint", "node-second", spec, labels=labels))
    return documents


class SecondMarksman(HostMarksman):
    """Half of what is outside is beyond the second uplink."""

    def __init__(self, rng: Random, oracle: HostOracle) -> None:
        super().__init__(rng, oracle)
        for version, address in ((4, "203.0.113.200"), (6, "2001:db8:f::7")):
            self.others[version] += [address] * len(self.others[version])


TWO_UPLINKS = Realm(two_uplinks, partial(HostOracle, beyond_second=BEYOND_SECOND), SecondMarksman, HostEngine)


class HostField(Field):
    """What goes on at the other node, nobody sees here: it is outside."""

    places = tuple(each for each in PLACES if f"pod{each.number}" not in FAR)

    def __init__(self, world: World, make_namespace: Callable[[], str], twist: Twist | None = None) -> None:
        super().__init__(world, twist)
        self._beyond = make_namespace()

    async def start(self) -> None:
        run = self.world.run
        for version, address in zip((4, 6), NODES[NODE], strict=True):
            run("ip", f"-{version}", "address", "add", address, "dev", "eth0", *_UNTENTATIVE[version])
            self._names[address] = NODE
        run("ip", "link", "add", SECOND, "type", "veth", "peer", "name", "eth0", "netns", self._beyond)
        for version, (near, far, length), net in zip((4, 6), _SECOND_ENDS, BEYOND_SECOND, strict=True):
            for where, name, address in ((self.world.node, SECOND, near), (self._beyond, "eth0", far)):
                made = ("address", "add", f"{address}/{length}", "dev", name, *_UNTENTATIVE[version])
                run("ip", f"-{version}", *made, where=where)
                run("ip", "link", "set", name, "up", where=where)
            run("ip", f"-{version}", "route", "add", net, "via", far)
        run("nft", DEAF, where=self._beyond)
        run("sysctl", "-qw", *_UNANSWERED)
        await super().start()
        self.wires.add(BEYOND, self._beyond)
        own = {1, 58, IPIP, *WITH_PORTS, *map(protocol, OTHER_PROTOCOLS)}
        self.wires.inside(NODE, self.world.node, own)

    def name(self, address: str) -> str:
        beyond = address.startswith(("203.0.113.", "2001:db8:f:"))
        return self._names.get(address, BEYOND if beyond else OUTSIDE)

    def concerns(self, oracle: HostOracle, packet: Packet) -> bool:
        """Whether it comes by this node."""
        ends = oracle.end(packet.source), oracle.end(packet.destination)
        return ends[0] != ends[1] and NODE in (ends[0].node, ends[1].node)

    def expected(self, oracle: Oracle, packet: Packet) -> bool:
        assert isinstance(oracle, HostOracle)
        verdict = oracle.judge(packet)
        sides = (
            (oracle.end(packet.source), verdict.egress),
            (oracle.end(packet.destination), verdict.ingress),
        )
        return all(decision is None or decision.allowed for end, decision in sides if end.node == NODE)

    def _next_mac(self, name: str) -> str:
        return str(self.world.kernel.need_link(SECOND).mac) if name == BEYOND else super()._next_mac(name)


_UNTENTATIVE: dict[int, Sequence[str]] = {4: (), 6: ("nodad",)}
