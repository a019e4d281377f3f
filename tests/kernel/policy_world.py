"""A world for policy: crafted packets between pods, the node and the outside, judged by arrival and by the kernel's counters."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.kernel.dataplane_world import (
    NODE_ADDRESS,
    OUTSIDE_ADDRESS,
    RETURN,
    Pod,
    World,
    applied,
    eventually,
)
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.desired.policies import AppliedPolicies, PolicyKey, PolicyRow, RuleRow, TierRow
from tortie.desired.table import Delta
from tortie.kernel import netns
from tortie.kernel.conntrack import ConntrackSocket
from tortie.net.addresses import Address, Prefix

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
SECONDS = 5.0


@dataclass(frozen=True)
class Packet:
    """What is sent. ``ports`` are source and destination, of ICMP the type and the code."""

    protocol: int = UDP
    ports: tuple[int, int] = (40000, 80)
    version: int = 4

    def payload(self, source: Address, destination: Address, token: bytes) -> bytes:
        first, second = self.ports
        if self.protocol in (ICMP, ICMPV6):
            head, place = struct.pack(">BBHHH", first, second, 0, os.getpid() & 0xFFFF, 1), 2
        elif self.protocol == TCP:
            head, place = struct.pack(">HHIIBBHHH", first, second, 1, 0, 0x50, 2, 1024, 0, 0), 16
        elif self.protocol == UDP:
            head, place = struct.pack(">HHHH", first, second, 8 + len(token), 0), 6
        elif self.protocol == SCTP:
            chunk = struct.pack(">BBHIIHHI", 1, 0, 24 + len(token), 7, 1500, 1, 1, 1)
            parameter = struct.pack(">HH", 0xC000, 4 + len(token)) + token
            plain = struct.pack(">HHII", first, second, 0, 0) + chunk + parameter
            return plain[:8] + struct.pack("<I", _crc32c(plain)) + plain[12:]
        else:
            return token
        pseudo = (
            source.packed + destination.packed + struct.pack(">II", len(head) + len(token), self.protocol)
        )
        covered = (b"" if self.protocol == ICMP else pseudo) + head + token
        return head[:place] + struct.pack(">H", checksum(covered) or 0xFFFF) + head[place + 2 :] + token


def checksum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) & 1)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Place:
    """Where packets come from or go to."""

    namespace: str
    v4: Address
    v6: Address

    def address(self, version: int) -> Address:
        return self.v4 if version == 4 else self.v6


def place(of: Pod) -> Place:
    return Place(of.namespace, of.v4, of.v6)


class PolicyWorld:
    """``client`` and ``server`` are pods on the node; policies and sets are put by `enforce`."""

    def __init__(self, world: World, plane: LinuxDataplane) -> None:
        self.world, self.plane = world, plane
        self.client, self.server = world.pod(1), world.pod(2)
        self.node = Place(world.node, NODE_ADDRESS[4], NODE_ADDRESS[6])
        self.outside = Place(world.outside, OUTSIDE_ADDRESS[4], OUTSIDE_ADDRESS[6])
        self.flows = ConntrackSocket(world.node)
        self.applied_ingress: AppliedPolicies | None = None

    async def start(self) -> None:
        await applied(self.plane, self.world.flush(self.client, self.server, settings=RETURN))
        await eventually(
            lambda: all(
                self.world.kernel.need_link(pod.interface).running and self.world.is_running(pod)
                for pod in (self.client, self.server)
            ),
            seconds=20,
            wait=asyncio.sleep,
        )
        for version in (4, 6):  # neighbours are known from here on
            assert await self.passes(Packet(version=version))

    def close(self) -> None:
        self.flows.close()
        self.world.close()

    async def enforce(
        self,
        ingress: AppliedPolicies | None = None,
        egress: AppliedPolicies | None = None,
        policies: Mapping[PolicyKey, PolicyRow] | None = None,
        **more: Any,
    ) -> None:
        """``ingress`` on the server, ``egress`` on the client; None: what a pod has without policy."""
        self.applied_ingress = ingress
        server = self.server.row() if ingress is None else self.server.row(ingress=ingress)
        client = self.client.row() if egress is None else self.client.row(egress=egress)
        rows = {self.server.key: server, self.client.key: client}
        await applied(self.plane, self.world.flush(endpoints=rows, policies=policies, **more))

    async def one(self, *rules: RuleRow, default: str = "Deny", **more: Any) -> None:
        """One ingress policy on the server with these rules."""
        key = PolicyKey("NetworkPolicy", "default", "one")
        row = PolicyRow(tier="default", ingress=rules)
        tier = TierRow(
            name="default", default_action="Deny" if default == "Deny" else "Pass", policies=(key,)
        )
        await self.enforce(AppliedPolicies(tiers=(tier,)), policies={key: row}, **more)

    async def passes(
        self,
        packet: Packet,
        source: Pod | Place | None = None,
        destination: Pod | Place | None = None,
        *,
        new_flow: bool = True,
        at: Pod | None = None,
    ) -> bool:
        """Whether the packet arrives, as the first of its flow; ``at`` is whom the destination is translated to.

        False only when a counter of ours says that it was dropped."""
        start = _as_place(source or self.client)
        goal = _as_place(destination or self.server)
        token = os.urandom(16)
        before = await self.dropped()
        with netns.run(_as_place(at or goal).namespace, lambda: _listen(packet)) as listener:
            if new_flow:
                self.flows.flush({goal.v4, goal.v6})
            source_address, address = start.address(packet.version), goal.address(packet.version)
            data = packet.payload(source_address, address, token)
            netns.run(start.namespace, lambda: _send(packet, source_address, address, data))
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                if _heard(listener, token):
                    return True
                if await self.dropped() > before:
                    return _heard(listener, token)
                await asyncio.sleep(0.01)
        raise AssertionError(f"{packet} neither arrived nor was dropped by a rule that counts")

    async def refused(self, version: int) -> bool:
        """Whether the server's side answers a datagram of the client with an error at once."""
        target = str(self.server.address(version))

        def ask() -> bool:
            with socket.socket(
                socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
            ) as sender:
                sender.settimeout(SECONDS)
                sender.connect((target, 99))
                sender.send(b"x")
                try:
                    sender.recv(10)
                except ConnectionRefusedError:
                    return True
                except TimeoutError:
                    return False
            return False

        return await asyncio.to_thread(netns.run, self.client.namespace, ask)

    async def dropped(self) -> int:
        """Packets that our rules have dropped, of those that count."""
        denied = sum(
            row.packets for row in await self.plane.policy_counts() if row.action == "Deny" and not row.staged
        )
        return denied + sum(
            int(line.split("counter packets ")[1].split()[0])
            for line in self.world.ruleset().splitlines()
            if "counter packets" in line and " drop" in line
        )

    async def counted(self, rule: int, name: str = "one") -> int:
        """How often a rule has matched."""
        rows = [row for row in await self.plane.policy_counts() if (row.name, row.rule) == (name, rule)]
        assert len(rows) == 1, rows
        return rows[0].packets


def _as_place(where: Pod | Place) -> Place:
    return place(where) if isinstance(where, Pod) else where


def _listen(packet: Packet) -> socket.socket:
    """A raw socket hears what the input hook let through; a packet socket would hear what is dropped there as well."""
    family = socket.AF_INET if packet.version == 4 else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_RAW, packet.protocol)
    listener.setblocking(False)
    return listener


def _heard(listener: socket.socket, token: bytes) -> bool:
    while True:
        try:
            data = listener.recv(4096)
        except BlockingIOError:
            return False
        if token in data:
            return True


def _send(packet: Packet, source: Address, destination: Address, data: bytes) -> None:
    family = socket.AF_INET if packet.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_RAW, packet.protocol) as sender:
        # A forger binds to what is not his: IP_TRANSPARENT, IPV6_TRANSPARENT.
        level, option = (socket.IPPROTO_IP, 19) if packet.version == 4 else (socket.IPPROTO_IPV6, 75)
        sender.setsockopt(level, option, 1)
        if packet.version == 6 and packet.protocol != ICMPV6:
            sender.setsockopt(socket.IPPROTO_IPV6, 7, -1)  # IPV6_CHECKSUM: ours stands already
        sender.bind((str(source), 0))
        with suppress(PermissionError):  # what the output hook drops; a counter says so as well
            sender.sendto(data, (str(destination), 0))


def ipset(name: str, *members: Address | str, gone: Sequence[str] = ()) -> list[Delta[Any, Any]]:
    """A set of prefixes."""
    put = {Member(name, _prefix(member)): PRESENT for member in members}
    lost = frozenset(Member(name, _prefix(member)) for member in gone)
    return [Delta(IPSETS, {name: IPSetRow()}), Delta(MEMBERS, put, lost)]


def gone_set(name: str, *members: Address | str) -> list[Delta[Any, Any]]:
    """The set and its members are wanted no more."""
    lost = frozenset(Member(name, _prefix(member)) for member in members)
    return [Delta(IPSETS, {}, frozenset((name,))), Delta(MEMBERS, {}, lost)]


def _prefix(member: Address | str) -> Prefix:
    return member.prefix if isinstance(member, Address) else Prefix.parse(member)


def port_set(name: str, *members: tuple[Address, int, int]) -> list[Delta[Any, Any]]:
    """A set of ports: address, protocol, port."""
    put = {Member(name, address.prefix, protocol, port): PRESENT for address, protocol, port in members}
    return [Delta(IPSETS, {name: IPSetRow(holds="ports")}), Delta(MEMBERS, put)]
