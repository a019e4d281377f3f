"""ICMP errors: conntrack calls them related to the flow that they quote. Whose flow that is decides whether a pod may send one.

Who knows, or guesses, the addresses and ports of others' flows could else tell them that their peer is gone, or that every
packet of theirs is too big: past its own policy and past theirs.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from tests.kernel.dataplane_world import Pod
from tests.kernel.policy_cluster import PolicyCluster, network_policy, policy_cluster, to
from tests.kernel.policy_world import ICMP, ICMPV6, UDP, Packet, Place, checksum, place
from tortie.net.addresses import Address

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
V4_AND_V6 = (4, 6)
FLOW = to(80)
NOWHERE = Address(4, 0)
EVERYTHING = ["Ingress", "Egress"]
UNREACHABLE = {4: (3, 3), 6: (1, 4)}
TOO_BIG = {4: (3, 4), 6: (2, 0)}


@pytest.fixture
async def cluster(netns: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    async with policy_cluster(netns) as made:
        yield made


@dataclass(frozen=True)
class Quoting(Packet):
    """An ICMP error that quotes a datagram of ``sender`` to ``receiver``."""

    sender: Address = NOWHERE
    receiver: Address = NOWHERE
    quoted: Packet = FLOW

    def payload(self, source: Address, destination: Address, token: bytes) -> bytes:
        inner = self.quoted.payload(self.sender, self.receiver, token)
        if self.version == 4:
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(inner), 7, 0, 64, UDP, 0)
        else:
            head = struct.pack(">IHBB", 0x60000000, len(inner), UDP, 64)
        mtu = 1280 if self.ports == TOO_BIG[self.version] else 0
        body = struct.pack(">I", mtu) + head + self.sender.packed + self.receiver.packed + inner
        if self.version == 6:  # the kernel does the checksum
            return struct.pack(">BBH", *self.ports, 0) + body
        return struct.pack(">BBH", *self.ports, checksum(struct.pack(">BBH", *self.ports, 0) + body)) + body


def error(
    sender: Pod | Place, receiver: Pod | Place, version: int, kind: dict[int, tuple[int, int]] = UNREACHABLE
) -> Quoting:
    """To ``sender``, of its datagram to ``receiver``."""
    return Quoting(
        ICMP if version == 4 else ICMPV6,
        kind[version],
        version,
        sender.address(version),
        receiver.address(version),
        dataclasses.replace(FLOW, version=version),
    )


async def forged(cluster: PolicyCluster, packet: Quoting, source: Pod | Place, victim: Pod | Place) -> bool:
    """Whether it arrives; the flows that it may quote stay."""
    return await cluster.passes(packet, source, victim, new_flow=False)


async def close(cluster: PolicyCluster, *roles: str) -> None:
    """Nothing may come to these pods or leave them any more."""
    for role in roles:
        await cluster.apply(network_policy(f"closed-{role}", selector=f"role == '{role}'", types=EVERYTHING))


@pytest.mark.parametrize("kind", [UNREACHABLE, TOO_BIG], ids=["unreachable", "too-big"])
async def test_a_pod_sends_no_errors_of_flows_between_others(
    cluster: PolicyCluster, kind: dict[int, tuple[int, int]]
) -> None:
    """To neither end, whatever policies there are; to its node neither."""
    forger, one, two, node = cluster.client, cluster.other, cluster.server, cluster.node
    for version in V4_AND_V6:
        assert await cluster.passes(to(80, version), one, two)
        assert await cluster.passes(to(80, version), node, cluster.outside)
    for closed in (False, True):
        if closed:
            await close(cluster, "client", "other", "server")
        for version in V4_AND_V6:
            answer = Packet(UDP, (80, 40000), version)
            for victim, packet in (
                (one, error(one, two, version, kind)),
                (two, dataclasses.replace(error(two, one, version, kind), quoted=answer)),
                (node, error(node, cluster.outside, version, kind)),
            ):
                assert not await forged(cluster, packet, forger, victim), (closed, version, victim)


async def test_an_error_of_no_flow_at_all_goes_nowhere(cluster: PolicyCluster) -> None:
    for version in V4_AND_V6:
        for victim in (cluster.other, cluster.node):
            cluster.flows.flush({victim.address(version)})
            packet = error(victim, cluster.server, version)
            assert not await forged(cluster, packet, cluster.client, victim)


async def test_an_error_in_the_name_of_another_is_a_spoofed_packet(cluster: PolicyCluster) -> None:
    """Of a flow that exists, in the name of its other end, and of a router that it may have met."""
    for version in V4_AND_V6:
        assert await cluster.passes(to(80, version), cluster.other, cluster.server)
        for name in (cluster.server, cluster.node):
            before = cluster.world.dropped("spoofed source")
            disguised = dataclasses.replace(place(cluster.client), v4=name.address(4), v6=name.address(6))
            packet = error(cluster.other, cluster.server, version)
            assert not await forged(cluster, packet, disguised, cluster.other)
            assert cluster.world.dropped("spoofed source") == before + 1


async def test_errors_of_its_own_flows_pass_and_those_of_routers(cluster: PolicyCluster) -> None:
    """Also where policy would by now let no new packet through: a sender has to hear that its packets are too big."""
    for version in V4_AND_V6:
        for source, destination in (
            (cluster.client, cluster.server), (cluster.client, cluster.outside), (cluster.outside, cluster.server),
            (cluster.client, cluster.node), (cluster.node, cluster.server),
        ):  # fmt: skip
            assert await cluster.passes(to(80, version), source, destination, new_flow=False)
    await close(cluster, "client", "server")
    for version in V4_AND_V6:
        for kind in (UNREACHABLE, TOO_BIG):
            reply = Packet(UDP, (80, 40000), version)
            # From the receiver of what is quoted; from the sender of the flow about an answer; to and from the node.
            own = error(cluster.client, cluster.server, version, kind)
            assert await forged(cluster, own, cluster.server, cluster.client)
            back = dataclasses.replace(error(cluster.server, cluster.client, version, kind), quoted=reply)
            assert await forged(cluster, back, cluster.client, cluster.server)
            to_node = dataclasses.replace(error(cluster.node, cluster.client, version, kind), quoted=reply)
            assert await forged(cluster, to_node, cluster.client, cluster.node)
            assert await forged(
                cluster, error(cluster.node, cluster.server, version, kind), cluster.server, cluster.node
            )
            assert await forged(
                cluster, error(cluster.client, cluster.server, version, kind), cluster.node, cluster.client
            )
            router = dataclasses.replace(
                cluster.outside, v4=Address.parse("203.0.113.9"), v6=Address.parse("2001:db8:9::9")
            )
            assert await forged(
                cluster, error(cluster.client, cluster.outside, version, kind), router, cluster.client
            )


async def test_errors_of_translated_flows_find_their_way_back(cluster: PolicyCluster) -> None:
    """To a service, whose backend answers; the client knows the service alone, the backend the client alone."""
    service = Place("", Address.parse("10.96.0.10"), Address.parse("fd96::a"))
    for version, family in ((4, "ip"), (6, "ip6")):
        backend = str(cluster.server.v4) if version == 4 else f"[{cluster.server.v6}]"
        cluster.world.run(
            "nft",
            f"table {family} services {{ chain pre {{ type nat hook prerouting priority -100; policy accept;\n"
            f"{family} daddr {service.address(version)} udp dport 80 dnat to {backend}:80\n}}\n}}",
        )
        request = to(80, version)
        assert await cluster.passes(request, cluster.client, service, at=cluster.server, new_flow=False)
    await close(cluster, "client", "server")
    for version in V4_AND_V6:
        by_backend = error(cluster.client, cluster.server, version)
        assert await forged(cluster, by_backend, cluster.server, cluster.client)
        answer = Packet(UDP, (80, 40000), version)
        by_client = dataclasses.replace(error(service, cluster.client, version), quoted=answer)
        assert await cluster.passes(by_client, cluster.client, service, at=cluster.server, new_flow=False)
        by_other = dataclasses.replace(by_client, ports=TOO_BIG[version])
        assert not await cluster.passes(by_other, cluster.other, service, at=cluster.server, new_flow=False)
