"""Nodes with a real BIRD each, around a bridge: the smallest thing that BGP runs on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tortie.dataplane.bird.driver import BirdDriver
from tortie.dataplane.bird.manager import CONFIGURATION
from tortie.dataplane.bird.renderer import render
from tortie.desired.bgp import BGPNodeRow, BGPPeerRow, ExportPool, session_name
from tortie.kernel.bird import BirdControl
from tortie.net.addresses import Address, Prefix

POOL4, POOL6 = Prefix.parse("10.77.0.0/16"), Prefix.parse("fd77::/48")


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


async def eventually(what: str, condition: Callable[[], Awaitable[bool]], within_seconds: float) -> float:
    """Seconds until the condition held. Fails when it does not in time."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > within_seconds:
            raise AssertionError(f"not within {within_seconds} s: {what}")
        await asyncio.sleep(0.005)
    return time.monotonic() - began


class BirdNode:
    """One node: a namespace with ``eth0`` on the fabric, and pods on veths."""

    def __init__(self, number: int, netns: str, folder: Path) -> None:
        self.number = number
        self.netns = netns
        self.folder = folder
        self.ipv4 = Address.parse(f"172.30.0.1{number}")
        self.ipv6 = Address.parse(f"fd30::1{number}")
        self.control = BirdControl(folder / "bird.ctl")
        self.driver = BirdDriver(folder / "bird.conf", self.control)
        self.process: subprocess.Popen[bytes] | None = None
        self.pods: list[str] = []

    def row(self, *, pools: tuple[ExportPool, ...] | None = None) -> BGPNodeRow:
        return BGPNodeRow(
            node=f"node{self.number}",
            router_id=str(self.ipv4),
            as_number=64512,
            ipv4=self.ipv4,
            ipv6=self.ipv6,
            pools=pools or (ExportPool(prefix=POOL4), ExportPool(prefix=POOL6)),
        )

    def mesh(self, numbers: list[int], password: str | None = None) -> dict[str, BGPPeerRow]:
        peers: dict[str, BGPPeerRow] = {}
        for number in numbers:
            if number == self.number:
                continue
            for own, text in ((self.ipv4, f"172.30.0.1{number}"), (self.ipv6, f"fd30::1{number}")):
                peer = Address.parse(text)
                peers[session_name("mesh", peer)] = BGPPeerRow(
                    kind="mesh",
                    address=peer,
                    as_number=64512,
                    node=f"node{number}",
                    source_address=own,
                    passive=str(peer) > str(own),
                    password=password,
                )
        return peers

    async def configure(self, peers: dict[str, BGPPeerRow]) -> None:
        outcome = await self.driver.apply({CONFIGURATION: render(self.row(), peers).text}, frozenset())
        assert not outcome.failed, outcome.failed

    def write(self, peers: dict[str, BGPPeerRow]) -> None:
        """What another made by hand; the driver writes its own in its place."""
        (self.folder / "bird.conf").write_text(render(self.row(), peers).text)

    def restart_agent(self) -> None:
        """The next `configure` is a new agent's first."""
        self.driver = BirdDriver(self.folder / "bird.conf", self.control)

    def start(self) -> None:
        with (self.folder / "bird.log").open("ab") as log:
            files = ["-c", str(self.folder / "bird.conf"), "-s", str(self.folder / "bird.ctl")]
            command = ["ip", "netns", "exec", self.netns, "bird", "-f", "-R", *files]
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def block(self, prefix: str) -> None:
        ip("-n", self.netns, "route", "add", "blackhole", prefix, "proto", "80")

    def pod(self, netns: str, address: str, *, advertised: bool = False) -> None:
        """A pod as the agent plumbs it. ``ip netns exec`` reads sysctls in the namespace."""
        interface = f"cali{self.number}{len(self.pods)}"
        self.pods.append(netns)
        version, bits = ("-6", 128) if ":" in address else ("-4", 32)
        ip("-n", self.netns, "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", netns)
        ip("-n", self.netns, "link", "set", interface, "address", "ee:ee:ee:ee:ee:ee", "up")
        ip(
            "-n",
            netns,
            "addr",
            "add",
            f"{address}/{bits}",
            "dev",
            "eth0",
            *(["nodad"] if bits == 128 else []),
        )
        ip("-n", netns, "link", "set", "eth0", "up")
        if bits == 32:
            self.sysctl(f"net/ipv4/conf/{interface}/proxy_arp", "1")
            self.sysctl(f"net/ipv4/neigh/{interface}/proxy_delay", "0")
            gateway = "169.254.1.1"
            ip("-n", netns, "route", "add", gateway, "dev", "eth0", "scope", "link")
        else:
            gateway = "fe80::1"
            ip("-n", self.netns, "addr", "add", "fe80::1/64", "dev", interface, "nodad")
        ip("-n", netns, version, "route", "add", "default", "via", gateway, "dev", "eth0")
        protocol = "80" if advertised else "3"
        route = [f"{address}/{bits}", "dev", interface, "metric", "1024", "proto", protocol]
        ip("-n", self.netns, version, "route", "add", *route)

    def sysctl(self, path: str, value: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", self.netns, "sh", "-c", f"echo {value} > /proc/sys/{path}"], check=True
        )

    def fib(self, version: int = 4) -> dict[str, str]:
        """Routes that BIRD wrote, by prefix."""
        lines = ip("-n", self.netns, f"-{version}", "route", "show", "proto", "bird").splitlines()
        return {line.split()[0]: line for line in lines if line and not line.startswith("\t")}

    async def has(self, *prefixes: str) -> bool:
        return set(prefixes) <= {**self.fib(4), **self.fib(6)}.keys()

    async def established(self, count: int) -> bool:
        try:
            sessions = await self.control.sessions()
        except Exception:  # not up yet: the caller's bound decides
            return False
        return sum(session.up for session in sessions) == count


class Fabric:
    """A bridge in a namespace of its own, and the nodes around it."""

    def __init__(self, netns: Callable[[], str], folder: Path) -> None:
        self._netns = netns
        self._folder = folder
        self.switch = netns()
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "stp_state", "0")
        ip("-n", self.switch, "link", "set", "br0", "up")
        ip("-n", self.switch, "addr", "add", "172.30.0.1/24", "dev", "br0")
        ip("-n", self.switch, "addr", "add", "fd30::1/64", "dev", "br0", "nodad")
        self.nodes: list[BirdNode] = []

    def add(self) -> BirdNode:
        number = len(self.nodes) + 1
        folder = self._folder / f"n{number}"
        folder.mkdir()
        node = BirdNode(number, self._netns(), folder)
        name = node.netns
        ip(
            "-n",
            name,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            f"sw{number}",
            "netns",
            self.switch,
        )
        ip("-n", self.switch, "link", "set", f"sw{number}", "master", "br0", "up")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "addr", "add", f"{node.ipv4}/24", "dev", "eth0")
        ip("-n", name, "addr", "add", f"{node.ipv6}/64", "dev", "eth0", "nodad")
        ip("-n", name, "route", "add", "default", "via", "172.30.0.1")
        for setting in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            node.sysctl(setting, "1")
        self.nodes.append(node)
        return node

    def pod_netns(self) -> str:
        return self._netns()

    def close(self) -> None:
        for node in self.nodes:
            node.kill()


def pinger(netns: str, address: str, seconds: float) -> subprocess.Popen[str]:
    """100 pings a second. Its error output ends with the loss."""
    return subprocess.Popen(
        ["ip", "netns", "exec", netns, "fping", "-q", "-p10", "-t2000", f"-c{int(seconds * 100)}", address],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )


def lost(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Pings sent and lost, once it has ended."""
    _, said = process.communicate(timeout=60)
    sent, received = (int(part) for part in said.split("= ")[1].split("/")[:2])
    return sent, sent - received
