"""A workload cannot fill the neighbour table that it shares with the whole machine; ARP and neighbour discovery work."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from tests.kernel.dataplane_world import (
    GATEWAY_V4,
    GATEWAY_V6,
    HOST_MAC,
    NODE_V4,
    NODE_V6,
    RETURN,
    Pod,
    World,
    applied,
    eventually,
    heard,
)
from tests.kernel.policy_world import ICMPV6, Packet
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.kernel import netns as kernel_netns
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Address, Interface, Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
MANY = 400
FEW = 80
"""More than an interface may have within some minutes of a slow machine, and far less than `MANY`."""
HOST = bytes.fromhex(HOST_MAC.replace(":", ""))
TOO_MANY, SPOOFED, BEYOND = (
    "too many link-local addresses",
    "spoofed ARP sender",
    "link-local: never forwarded",
)
REQUEST, REPLY = 1, 2
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ECHO = 133, 134, 135, 128
OWN = bytes.fromhex("020000000001")


async def ready(world: World, *pods: Pod) -> None:
    await eventually(
        lambda: all(world.kernel.need_link(pod.interface).running and world.is_running(pod) for pod in pods),
        seconds=20,
        wait=asyncio.sleep,
    )


def wire(pod: Pod) -> socket.socket:
    """The pod's end of its wire, as one with NET_RAW has it."""

    def made() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.bind(("eth0", 0))
        opened.settimeout(0.1)
        return opened

    return kernel_netns.run(pod.namespace, made)


def arp(operation: int, sender: Address, target: Address) -> bytes:
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
    return b"\xff" * 6 + OWN + b"\x08\x06" + head + OWN + sender.packed + bytes(6) + target.packed


def icmp6(kind: int, source: Address, destination: Address, target: Address | None = None) -> bytes:
    """A message; ``target`` is whom it asks for, with its sender's MAC."""
    packet = Packet(ICMPV6, (kind, 0), 6)
    body = packet.payload(source, destination, target.packed + b"\1\1" + OWN if target else b"")
    body = body[:4] + bytes(4) + body[8:]
    pseudo = source.packed + destination.packed + struct.pack(">II", len(body), ICMPV6)
    covered = pseudo + body[:2] + bytes(2) + body[4:]
    total = sum(struct.unpack(f">{len(covered) // 2}H", covered))
    total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + body[4:]
    head = struct.pack(">IHBB", 6 << 28, len(body), ICMPV6, 255) + source.packed + destination.packed
    return HOST + OWN + b"\x86\xdd" + head + body


def link_local(number: int) -> Address:
    return Address(6, Address.parse("fe80::1:0:0").value + number)


def neighbours(world: World, pod: Pod) -> int:
    """How many the node has noted on the pod's interface."""
    return len(world.kernel.neighbours(index=world.kernel.need_link(pod.interface).index))


async def flood(world: World, pod: Pod, frames: Sequence[bytes], comment: str, dropped: int) -> None:
    """Send them, and wait until so many of them were dropped."""
    before = world.dropped(comment)
    with wire(pod) as sender:
        for place, frame in enumerate(frames):
            sender.send(frame)
            if place % 100 == 99:  # the receiver's queue holds no more than a thousand
                await asyncio.sleep(0.02)
    await eventually(lambda: world.dropped(comment) - before >= dropped, seconds=30, wait=asyncio.sleep)


async def newcomer_is_reached(world: World, plane: LinuxDataplane, number: int, version: int) -> None:
    pod = world.pod(number)
    await applied(plane, world.flush(pod))
    node = NODE_V4 if version == 4 else NODE_V6
    assert heard(world.node, node, pod.namespace, pod.address(version), seconds=20) is not None
    assert heard(pod.namespace, pod.address(version), world.node, node, seconds=20) is not None


async def test_forged_arp_senders_make_no_neighbours(world: World, plane: LinuxDataplane) -> None:
    hostile, other = world.pod(1), world.pod(2)
    await applied(plane, world.flush(hostile, other, settings=RETURN))
    await ready(world, hostile, other)
    frames: list[bytes] = []
    for number in range(MANY):
        sender = Address(4, Address.parse("11.0.0.1").value + number)
        frames += [
            arp(REQUEST, sender, GATEWAY_V4),
            arp(REQUEST, sender, NODE_V4),
            arp(REQUEST, sender, sender),
            arp(REPLY, sender, GATEWAY_V4),
            arp(REQUEST, other.v4, sender),
        ]
    await flood(world, hostile, frames, SPOOFED, len(frames) // 2)
    found = world.kernel.neighbours(4, world.kernel.need_link(hostile.interface).index)
    assert {entry.address for entry in found} <= {hostile.v4}
    await newcomer_is_reached(world, plane, 3, 4)
    assert heard(hostile.namespace, hostile.v4, other.namespace, other.v4) is not None


async def test_forged_link_local_sources_make_few_neighbours(world: World, plane: LinuxDataplane) -> None:
    hostile, other = world.pod(1), world.pod(2)
    await applied(plane, world.flush(hostile, other, settings=RETURN))
    await ready(world, hostile, other)
    routers, nodes = Address.parse("ff02::2"), Address.parse("ff02::1")
    frames: list[bytes] = []
    for number in range(0, 4 * MANY, 4):
        one, two, three, four = (link_local(number + more) for more in range(4))
        frames += [
            icmp6(SOLICITATION, one, GATEWAY_V6, GATEWAY_V6),
            icmp6(ROUTER_SOLICITATION, two, routers),
            icmp6(ROUTER_ADVERTISEMENT, three, nodes),
            icmp6(ECHO, four, GATEWAY_V6),
        ]
    await flood(world, hostile, frames, TOO_MANY, len(frames) // 2)
    assert 0 < neighbours(world, hostile) < FEW
    await newcomer_is_reached(world, plane, 3, 6)
    assert heard(hostile.namespace, hostile.v6, other.namespace, other.v6) is not None
    # Who has flooded has used up what is its own; the others have not.
    assert pings_the_gateway(world, other, link_local(1))


async def test_what_names_a_link_local_address_is_not_forwarded(world: World, plane: LinuxDataplane) -> None:
    """Back over the wire that it came from, to a neighbour that the node would look for."""
    hostile = world.pod(1)
    await applied(plane, world.flush(hostile, settings=RETURN))
    await ready(world, hostile)
    frames = [icmp6(ECHO, hostile.v6, link_local(number)) for number in range(MANY)]
    await flood(world, hostile, frames, BEYOND, MANY // 2)
    assert neighbours(world, hostile) < FEW


def pings_the_gateway(world: World, pod: Pod, source: Address) -> bool:
    """From a link-local address that the pod takes for it."""
    with RouteSocket(pod.namespace) as inside:
        inside.add_address(inside.need_link("eth0").index, Interface(source, 64), no_dad=True)
    command = ("ping", "-6", "-c", "1", "-w", "20", "-I", f"{source}%eth0", f"{GATEWAY_V6}%eth0")
    return "1 received" in world.run(*command, where=pod.namespace)


async def test_a_pod_may_have_any_link_local_address(world: World, plane: LinuxDataplane) -> None:
    """Not only the one that follows from its MAC, and not only one."""
    pod = world.pod(1)
    await applied(plane, world.flush(pod, settings=RETURN))
    await ready(world, pod)
    world.run("ip", "-6", "address", "flush", "scope", "link", "dev", "eth0", where=pod.namespace)
    for number in range(3):
        assert pings_the_gateway(world, pod, link_local(number))
        world.run("ip", "-6", "neigh", "flush", "all", where=pod.namespace)
    assert world.dropped(TOO_MANY) == 0


async def answered(opened: socket.socket, question: bytes, asked: Address, rounds: int = 50) -> bool:
    """Whether anybody says, by ARP, to be whom we ask for."""
    for _ in range(rounds):
        opened.send(question)
        for _ in range(20):
            try:
                frame = opened.recv(2000)
            except TimeoutError:
                break
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == asked.packed:
                return True
    return False


async def test_whether_an_address_is_free_may_be_asked_by_nobody(world: World, plane: LinuxDataplane) -> None:
    """As RFC 5227 does, of which many DHCP clients and `arping -D` are examples."""
    pod, stranger = world.pod(1), world.pod(2)
    await applied(plane, world.flush(pod, settings=RETURN))
    await ready(world, pod, stranger)
    nobody = Address.parse("0.0.0.0")
    with wire(pod) as opened:
        assert await answered(opened, arp(REQUEST, nobody, NODE_V4), NODE_V4)
    # Of one that no agent has announced not even that is heard, nor what it says of its own.
    with wire(stranger) as opened:
        before = world.dropped("unknown workload interface")
        for sender in (nobody, stranger.v4):
            assert not await answered(opened, arp(REQUEST, sender, NODE_V4), NODE_V4, rounds=2)
    assert world.dropped("unknown workload interface") > before
    found = world.kernel.neighbours(4, world.kernel.need_link(stranger.interface).index)
    assert not found


async def test_further_sources_may_be_said_by_arp(world: World, plane: LinuxDataplane) -> None:
    pod = world.pod(1)
    row = pod.row(allowed_sources=(Prefix.parse("203.0.113.0/28"),))
    values: dict[str, Any] = {"endpoints": {pod.key: row}, "routes": pod.routes()}
    await applied(plane, world.flush(settings=RETURN, **values))
    await ready(world, pod)
    inside, beyond = Address.parse("203.0.113.5"), Address.parse("203.0.113.16")
    with wire(pod) as opened:
        assert not await answered(opened, arp(REQUEST, inside, NODE_V4), NODE_V4, rounds=2)
        await applied(plane, world.flush(settings=dataclasses.replace(RETURN, source_spoofing="Any")))
        assert await answered(opened, arp(REQUEST, inside, NODE_V4), NODE_V4)
        assert not await answered(opened, arp(REQUEST, beyond, NODE_V4), NODE_V4, rounds=2)


async def test_what_the_rules_have_learnt_is_no_drift(world: World, plane: LinuxDataplane) -> None:
    pod = world.pod(1)
    await applied(plane, world.flush(pod, settings=RETURN))
    await ready(world, pod)
    assert pings_the_gateway(world, pod, link_local(1))
    world.run("nft", "add", "table", "ip", "strangers")  # so that all is read again
    writes = plane.kernel_writes
    assert not (await plane.resync()).failed
    assert plane.kernel_writes == writes
    assert pod.interface in world.run("nft", "list", "set", "ip6", "tortie", "link-local-sources")
