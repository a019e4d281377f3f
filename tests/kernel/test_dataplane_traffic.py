"""What packets meet: workloads reach what they may, and nothing gets past the anti-spoof rules and the dispatch."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from typing import Any, Literal

import pytest

from tests.kernel.dataplane_world import (
    NODE_ADDRESS,
    NODE_V4,
    NODE_V6,
    OUTSIDE_ADDRESS,
    OUTSIDE_V4,
    OUTSIDE_V6,
    RETURN,
    World,
    applied,
    default_ipsets,
    eventually,
    heard,
)
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.kernel import netns as kernel_netns
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Address, Interface, Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
NOTHING = 0.3
"""Seconds after which a packet that was dropped is held to be lost; the rule's counter says that it was dropped."""


@pytest.mark.parametrize("version", [4, 6])
async def test_pods_nodes_and_the_outside_reach_each_other(
    world: World, plane: LinuxDataplane, version: int
) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(plane, world.flush(a, b, settings=RETURN))
    a_own, b_own = a.address(version), b.address(version)
    node, outside = NODE_ADDRESS[version], OUTSIDE_ADDRESS[version]
    for source, from_address, destination, to_address in (
        (a.namespace, a_own, b.namespace, b_own),
        (b.namespace, b_own, a.namespace, a_own),
        (a.namespace, a_own, world.node, node),
        (world.node, node, a.namespace, a_own),
        (a.namespace, a_own, world.outside, outside),
        (world.outside, outside, a.namespace, a_own),
    ):
        for tcp in (False, True):
            peer = heard(source, from_address, destination, to_address, tcp=tcp)
            assert peer is not None, f"nothing came from {from_address} to {to_address}"
            assert peer[0] == str(from_address)


async def test_the_first_packet_waits_for_no_proxy_delay(world: World, plane: LinuxDataplane) -> None:
    """With the delay, 0.8 s, none would be there in time; on a busy machine one of some is."""
    pairs = [(world.pod(number), world.pod(number + 1)) for number in (1, 3, 5)]
    pods = [pod for pair in pairs for pod in pair]
    await applied(plane, world.flush(*pods, settings=RETURN))
    # The kernel may take a second to open a new veth's queue, which is not what we look at here.
    await eventually(
        lambda: all(world.kernel.need_link(pod.interface).running and world.is_running(pod) for pod in pods),
        wait=asyncio.sleep,
    )
    for version in (4, 6):
        assert any(
            heard(a.namespace, a.address(version), b.namespace, b.address(version), seconds=0.5, once=True)
            for a, b in pairs
        )


@pytest.mark.parametrize("version", [4, 6])
async def test_a_spoofed_source_is_dropped_and_the_own_is_allowed(
    world: World, plane: LinuxDataplane, version: int
) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(plane, world.flush(a, b, settings=RETURN))
    own, target = (a.v4, b.v4) if version == 4 else (a.v6, b.v6)
    foreign = Address(own.version, own.value + 77)
    assert heard(a.namespace, own, b.namespace, target) is not None
    assert world.dropped("spoofed source") == 0
    with RouteSocket(a.namespace) as inside:
        index = inside.need_link("eth0").index
        inside.add_address(index, Interface(foreign, 32 if version == 4 else 128), no_dad=True)
    assert heard(a.namespace, foreign, b.namespace, target, seconds=NOTHING) is None
    assert world.dropped("spoofed source") > 0
    before = world.dropped("spoofed source")
    node = NODE_V4 if version == 4 else NODE_V6
    assert heard(a.namespace, foreign, world.node, node, seconds=NOTHING) is None
    assert world.dropped("spoofed source") > before


async def test_a_neighbours_address_cannot_be_taken(world: World, plane: LinuxDataplane) -> None:
    a, b, c = world.pod(1), world.pod(2), world.pod(3)
    await applied(plane, world.flush(a, b, c, settings=RETURN))
    with RouteSocket(a.namespace) as inside:
        inside.add_address(inside.need_link("eth0").index, Interface(c.v4, 32))
    assert heard(a.namespace, c.v4, b.namespace, b.v4, seconds=NOTHING) is None
    assert heard(c.namespace, c.v4, b.namespace, b.v4) is not None


async def test_further_sources_are_allowed_where_the_settings_let_them(
    world: World, plane: LinuxDataplane
) -> None:
    a, b = world.pod(1), world.pod(2)
    more = Prefix.parse("203.0.113.0/29")
    v6 = Prefix.parse("2001:db8:5::/64")
    row = a.row(allowed_sources=(more, Prefix.parse("203.0.113.8/29"), v6))
    await applied(plane, world.flush(b, settings=RETURN, endpoints={a.key: row}, routes=a.routes()))
    with RouteSocket(a.namespace) as inside:
        index = inside.need_link("eth0").index
        for text in ("203.0.113.9/32", "203.0.113.16/32"):
            inside.add_address(index, Interface.parse(text))
        inside.add_address(index, Interface.parse("2001:db8:5::9/128"), no_dad=True)
    allowed, beyond = Address.parse("203.0.113.9"), Address.parse("203.0.113.16")
    assert heard(a.namespace, allowed, b.namespace, b.v4, seconds=NOTHING) is None
    await applied(plane, world.flush(settings=dataclasses.replace(RETURN, source_spoofing="Any")))
    assert heard(a.namespace, allowed, b.namespace, b.v4) is not None
    assert heard(a.namespace, Address.parse("2001:db8:5::9"), b.namespace, b.v6) is not None
    assert heard(a.namespace, beyond, b.namespace, b.v4, seconds=NOTHING) is None


@pytest.mark.parametrize("version", [4, 6])
async def test_an_unknown_workload_interface_is_dropped_also_while_no_agent_runs(
    world: World, plane: LinuxDataplane, version: int
) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    await plane.close()
    stranger = world.pod(2)
    # All that a workload needs but an endpoint: its route and its interface's switches.
    index = world.kernel.need_link(stranger.interface).index
    world.run("sysctl", "-qw", f"net.ipv4.conf.{stranger.interface}.proxy_arp=1")
    world.run("sysctl", "-qw", f"net.ipv4.conf.{stranger.interface}.forwarding=1")
    for address in (stranger.v4, stranger.v6):
        world.run("ip", "route", "add", str(address), "dev", stranger.interface)
    assert index
    own, target, node = (stranger.v4, a.v4, NODE_V4) if version == 4 else (stranger.v6, a.v6, NODE_V6)
    comment = "unknown workload interface"
    before = world.dropped(comment)
    assert heard(stranger.namespace, own, a.namespace, target, seconds=NOTHING) is None
    assert heard(stranger.namespace, own, world.node, node, seconds=NOTHING) is None
    assert world.dropped(comment) > before
    unreached = "no workload with an address of this IP version"
    before = world.dropped(unreached)
    assert heard(a.namespace, target, stranger.namespace, own, seconds=NOTHING) is None
    assert world.dropped(unreached) > before
    assert heard(world.node, node, a.namespace, target) is not None, "the known workload still works"


@pytest.mark.parametrize("action", ["Drop", "Accept", "Return"])
@pytest.mark.parametrize("version", [4, 6])
async def test_endpoint_to_host_action(
    world: World, plane: LinuxDataplane, action: Literal["Drop", "Accept", "Return"], version: int
) -> None:
    a = world.pod(1)
    settings = dataclasses.replace(RETURN, endpoint_to_host_action=action)
    await applied(plane, world.flush(a, settings=settings))
    own, node = (a.v4, NODE_V4) if version == 4 else (a.v6, NODE_V6)
    blocked = action == "Drop"
    assert (heard(a.namespace, own, world.node, node, seconds=NOTHING if blocked else 2) is None) == blocked
    # The node always reaches its own workloads, and hears their answers.
    assert heard(world.node, node, a.namespace, own, tcp=True) is not None


async def test_the_nodes_loopback_is_not_a_workloads(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    loopback = Address.parse("127.0.0.2")
    world.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", where=a.namespace)
    world.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local", where=a.namespace)
    world.run("ip", "route", "add", "127.0.0.2/32", "via", "169.254.1.1", "dev", "eth0", where=a.namespace)
    assert heard(a.namespace, a.v4, world.node, loopback, seconds=NOTHING) is None
    assert world.dropped("the node's loopback") > 0
    assert heard(a.namespace, a.v4, world.node, NODE_V4) is not None


async def test_a_stray_tcp_packet_is_answered_with_a_reset(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    assert heard(world.outside, OUTSIDE_V4, a.namespace, a.v4) is not None

    def raw() -> socket.socket:
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        sender.bind((str(OUTSIDE_V4), 0))
        sender.settimeout(3)
        return sender

    with kernel_netns.run(world.outside, raw) as sender:
        segment = struct.pack("!HHIIBBHHH", 40000, 4242, 1000, 2000, 5 << 4, 0x10, 1024, 0, 0)
        pseudo = OUTSIDE_V4.packed + a.v4.packed + struct.pack("!BBH", 0, 6, len(segment))
        total = sum(struct.unpack(f"!{(len(pseudo) + len(segment)) // 2}H", pseudo + segment))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        sender.sendto(segment[:16] + struct.pack("!H", checksum) + segment[18:], (str(a.v4), 0))
        while True:
            answer = sender.recv(200)
            ports = struct.unpack_from("!HH", answer, (answer[0] & 15) * 4)
            if ports == (4242, 40000):
                break
        flags = answer[(answer[0] & 15) * 4 + 13]
    assert flags & 0x04, f"no RST in {flags:#x}"


@pytest.mark.parametrize("version", [4, 6])
async def test_what_leaves_the_pools_bears_the_nodes_address(
    world: World, plane: LinuxDataplane, version: int
) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN, ipsets=default_ipsets()))
    own, node, outside = (a.v4, NODE_V4, OUTSIDE_V4) if version == 4 else (a.v6, NODE_V6, OUTSIDE_V6)
    for tcp in (False, True):
        peer = heard(a.namespace, own, world.outside, outside, tcp=tcp)
        assert peer is not None
        assert peer[0] == str(node)


async def test_nodes_and_pools_are_excluded_from_nat(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN, ipsets=default_ipsets()))

    async def seen(**changes: Any) -> str:
        settings = dataclasses.replace(RETURN, **changes)
        await applied(plane, world.flush(settings=settings))
        peer = heard(a.namespace, a.v4, world.outside, OUTSIDE_V4)
        assert peer is not None
        return peer[0]

    hosts = default_ipsets()["all-hosts"]
    members = hosts | {OUTSIDE_V4.prefix}
    assert await seen() == str(NODE_V4)
    await applied(plane, world.flush(ipsets={"all-hosts": members}))
    assert await seen() == str(a.v4), "another node sees the pod's own address"
    assert await seen(nat_outgoing_exclusions="IPPoolsOnly") == str(NODE_V4)
    pools = default_ipsets()["all-ipam-pools"]
    members = pools | {OUTSIDE_V4.prefix}
    await applied(plane, world.flush(ipsets={"all-ipam-pools": members}))
    assert await seen(nat_outgoing_exclusions="IPPoolsOnly") == str(a.v4), "a pool is never outside"


async def test_nat_port_range_and_address(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    world.kernel.add_address(world.kernel.need_link("eth0").index, Interface.parse("192.0.2.9/24"))
    settings = dataclasses.replace(RETURN, nat_port_range=(60000, 60009))
    await applied(plane, world.flush(a, settings=settings, ipsets=default_ipsets()))
    for tcp in (False, True):
        for _ in range(5):
            peer = heard(a.namespace, a.v4, world.outside, OUTSIDE_V4, tcp=tcp)
            assert peer is not None
            assert peer[0] == str(NODE_V4)
            assert 60000 <= peer[1] <= 60009
    settings = dataclasses.replace(settings, nat_outgoing_address="192.0.2.9")
    await applied(plane, world.flush(settings=settings))
    peer = heard(a.namespace, a.v4, world.outside, OUTSIDE_V4)
    assert peer is not None
    assert peer[0] == "192.0.2.9"
    assert 60000 <= peer[1] <= 60009
