"""Every field of a rule against real packets: what matches is denied, and what just does not match passes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.kernel.dataplane_world import RETURN, applied
from tests.kernel.policy_world import ICMP, ICMPV6, SCTP, TCP, UDP, Packet, PolicyWorld, ipset, port_set
from tortie.desired.policies import ANYWHERE, EntityMatch, ICMPMatch, PortRange, RuleRow
from tortie.net.addresses import Address, Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
ALLOW = RuleRow(action="Allow")


def deny(**fields: Any) -> RuleRow:
    return RuleRow(action="Deny", **fields)


def entity(**fields: Any) -> EntityMatch:
    return dataclasses.replace(ANYWHERE, **fields)


def udp(port: int, version: int = 4, source: int = 40000) -> Packet:
    return Packet(UDP, (source, port), version)


async def judge(
    policy: PolicyWorld, rule: RuleRow, hit: list[Packet], missed: list[Packet], **more: Any
) -> None:
    """With the rule alone what it hits is denied, and everything it does not hit is allowed by the next."""
    await policy.one(rule, ALLOW, **more)
    for packet in hit:
        assert not await policy.passes(packet), f"{rule} should hit {packet}"
    for packet in missed:
        assert await policy.passes(packet), f"{rule} should not hit {packet}"


@pytest.mark.parametrize("version", [4, 6])
async def test_protocols_and_their_negation(policy: PolicyWorld, version: int) -> None:
    packets = [Packet(protocol, (41000, 81), version) for protocol in (TCP, UDP, SCTP, 200)]
    for number, packet in enumerate(packets):
        others = packets[:number] + packets[number + 1 :]
        await judge(policy, deny(protocol=packet.protocol), [packet], others)
        await judge(policy, deny(not_protocol=packet.protocol), others, [packet])


async def test_the_ip_version(policy: PolicyWorld) -> None:
    await judge(policy, deny(ip_version=4), [udp(80, 4)], [udp(80, 6)])
    await judge(policy, deny(ip_version=6), [udp(80, 6)], [udp(80, 4)])


@pytest.mark.parametrize(("version", "protocol", "echo"), [(4, ICMP, 8), (6, ICMPV6, 128)])
async def test_icmp_types_and_codes(policy: PolicyWorld, version: int, protocol: int, echo: int) -> None:
    def icmp(kind: int, code: int) -> Packet:
        return Packet(protocol, (kind, code), version)

    other = 13 if version == 4 else 139
    rule = deny(protocol=protocol, icmp=ICMPMatch(echo))
    await judge(policy, rule, [icmp(echo, 0), icmp(echo, 9)], [icmp(other, 0), udp(80, version)])
    rule = deny(protocol=protocol, icmp=ICMPMatch(echo, 9))
    await judge(policy, rule, [icmp(echo, 9)], [icmp(echo, 0), icmp(other, 9), udp(80, version)])
    rule = deny(protocol=protocol, not_icmp=ICMPMatch(echo))
    await judge(policy, rule, [icmp(other, 0)], [icmp(echo, 0), icmp(echo, 9), udp(80, version)])
    rule = deny(protocol=protocol, not_icmp=ICMPMatch(echo, 9))
    await judge(policy, rule, [icmp(echo, 0), icmp(other, 9)], [icmp(echo, 9), udp(80, version)])


@pytest.mark.parametrize("version", [4, 6])
async def test_nets(policy: PolicyWorld, version: int) -> None:
    own = policy.client.address(version).prefix
    bits = own.length
    beside = Prefix(own.version, own.value ^ 64, bits)
    other_version = Prefix.parse("::/0" if version == 4 else "0.0.0.0/0")
    packet = udp(80, version)
    for nets, hits in (
        ((own,), True),
        ((beside,), False),
        ((own.supernet(bits - 4),), True),
        ((beside.supernet(bits - 4),), False),
        ((beside, own), True),
        ((beside, Prefix(own.version, own.value ^ 2, bits)), False),
        ((beside.supernet(bits - 3), own.supernet(bits - 3)), True),
        ((Prefix(own.version, 0, 0),), True),
        ((other_version,), False),
        ((own, own.supernet(bits - 2), own.supernet(bits - 8)), True),
        ((), False),
    ):
        rule = deny(source=entity(nets=nets))
        await judge(policy, rule, [packet] if hits else [], [] if hits else [packet])
    everything = (Prefix(own.version, 0, 1), Prefix(own.version, 1 << bits - 1, 1))
    for nets, hits in (
        ((own,), False),
        ((beside,), True),
        ((beside, own), False),
        ((beside, Prefix(own.version, own.value ^ 2, bits)), True),
        (everything, False),
        ((other_version,), True),
    ):
        rule = deny(source=entity(not_nets=nets))
        await judge(policy, rule, [packet] if hits else [], [] if hits else [packet])
    to = deny(destination=entity(nets=(policy.server.address(version).prefix,), not_nets=(own,)))
    await judge(policy, to, [packet], [])
    await judge(policy, deny(destination=entity(nets=(own,))), [], [packet])
    both = deny(source=entity(nets=(own.supernet(bits - 4),), not_nets=(own,)))
    await judge(policy, both, [], [packet])


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
@pytest.mark.parametrize("version", [4, 6])
async def test_ports(policy: PolicyWorld, version: int, protocol: int) -> None:
    def to(port: int) -> Packet:
        return Packet(protocol, (42000, port), version)

    def from_(port: int) -> Packet:
        return Packet(protocol, (port, 82), version)

    one, several = (PortRange(80, 80),), tuple(PortRange(port, port) for port in range(100, 132, 2))
    ranged, top = (PortRange(5000, 5010),), (PortRange(0, 10), PortRange(60000, 65535))
    for ports, within, beyond in (
        (one, [80], [79, 81]),
        (several, [100, 130], [99, 101, 131]),
        (ranged, [5000, 5010], [4999, 5011]),
        (top, [10, 60000, 65535], [11, 59999]),
        ((PortRange(80, 90), PortRange(85, 95), PortRange(96, 96)), [80, 95, 96], [79, 97]),
    ):
        for side, packet in (("destination", to), ("source", from_)):
            rule = deny(protocol=protocol, **{side: entity(ports=ports)})
            await judge(policy, rule, [packet(p) for p in within], [packet(p) for p in beyond])
            rule = deny(protocol=protocol, **{side: entity(not_ports=ports)})
            await judge(policy, rule, [packet(p) for p in beyond], [packet(p) for p in within])


async def test_the_same_port_of_another_protocol_is_another(policy: PolicyWorld) -> None:
    rule = deny(protocol=TCP, destination=entity(ports=(PortRange(80, 80),)))
    await judge(policy, rule, [Packet(TCP)], [Packet(UDP), Packet(SCTP)])


@pytest.mark.parametrize("version", [4, 6])
async def test_named_ports_are_alternatives_to_numbers(policy: PolicyWorld, version: int) -> None:
    server, client = policy.server.address(version), policy.client.address(version)
    sets = [*port_set("web", (server, UDP, 8080), (server, TCP, 81), (client, UDP, 555))]
    rule = deny(protocol=UDP, destination=entity(ports=(PortRange(80, 80),), named_ports=("web",)))
    hit, missed = [udp(80, version), udp(8080, version)], [udp(81, version), udp(555, version)]
    await judge(policy, rule, hit, [*missed, Packet(TCP, (1, 81), version)], sets=sets)
    rule = deny(protocol=UDP, destination=entity(not_ports=(PortRange(80, 80),), not_named_ports=("web",)))
    await judge(policy, rule, missed, hit)
    rule = deny(protocol=UDP, source=entity(named_ports=("web",)))
    await judge(policy, rule, [udp(90, version, source=555)], [udp(90, version, source=556)])
    rule = deny(protocol=UDP, source=entity(not_named_ports=("web",)))
    await judge(policy, rule, [udp(90, version, source=556)], [udp(90, version, source=555)])


@pytest.mark.parametrize("version", [4, 6])
async def test_sets_and_negated_sets(policy: PolicyWorld, version: int) -> None:
    own = policy.client.address(version)
    packet = udp(80, version)
    sets = [*ipset("s:with", own), *ipset("s:without", Address(own.version, own.value ^ 64))]
    await policy.enforce(sets=sets[:2])
    await policy.enforce(sets=sets[2:])
    for fields, hits in (
        ({"sets": ("s:with",)}, True),
        ({"sets": ("s:without",)}, False),
        ({"sets": ("s:with", "s:without")}, False),
        ({"not_sets": ("s:with",)}, False),
        ({"not_sets": ("s:without",)}, True),
        ({"sets": ("s:with",), "not_sets": ("s:without",)}, True),
        ({"sets": ("s:with",), "nets": (own.prefix,)}, True),
        ({"sets": ("s:with",), "not_nets": (own.prefix,)}, False),
    ):
        rule = deny(source=entity(**fields))
        await judge(policy, rule, [packet] if hits else [], [] if hits else [packet])
    await judge(policy, deny(destination=entity(sets=("s:with",))), [], [packet])


@pytest.mark.parametrize("version", [4, 6])
async def test_a_set_changes_between_addresses_and_nets(policy: PolicyWorld, version: int) -> None:
    own = policy.client.address(version)
    wide = str(own.prefix.supernet(own.prefix.length - 6))
    packet = udp(80, version)
    far = str(Address(own.version, own.value ^ 1 << 12).prefix)
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    rule = deny(source=entity(sets=("s:x",)))
    await judge(policy, rule, [], [packet], sets=ipset("s:x", far))
    for sets, hits in (
        (ipset("s:x", wide), True),
        (ipset("s:x", own), True),
        (ipset("s:x", gone=[wide]), True),
        (ipset("s:x", gone=[str(own.prefix)]), False),
        (ipset("s:x", everything), True),
        (ipset("s:x", wide), True),
        (ipset("s:x", gone=[everything]), True),
        (ipset("s:x", gone=[wide, far]), False),
    ):
        await policy.enforce(ingress=policy.applied_ingress, sets=sets)
        assert await policy.passes(packet) != hits, sets


async def test_what_a_workload_sends_in_a_tunnel_of_its_own_is_dropped(policy: PolicyWorld) -> None:
    await policy.enforce()
    assert not await policy.passes(udp(4789))
    assert not await policy.passes(udp(4789, 6))
    assert not await policy.passes(Packet(4, (0, 0)))
    settings = dataclasses.replace(RETURN, vxlan_from_workloads=True, ipip_from_workloads=True)
    await applied(policy.plane, policy.world.flush(settings=settings))
    assert await policy.passes(udp(4789))
    assert await policy.passes(Packet(4, (0, 0)))
