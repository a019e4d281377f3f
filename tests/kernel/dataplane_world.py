"""A node with its dataplane, workloads and a host outside, each in a network namespace of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tortie.dataplane.api import Applied
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.host_endpoints import HOST_ENDPOINTS, HostEndpointRow
from tortie.desired.ipsets import (
    ALL_HOSTS,
    ALL_POOLS,
    IPSETS,
    MASQUERADE_POOLS,
    MEMBERS,
    PRESENT,
    IPSetRow,
    Member,
)
from tortie.desired.policies import (
    POLICIES,
    PROFILES,
    AppliedPolicies,
    PolicyKey,
    PolicyRow,
    ProfileRow,
    RuleRow,
)
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, Flush
from tortie.host.routes import Route
from tortie.kernel import netns, sysctl
from tortie.kernel.rtnetlink import RouteSocket
from tortie.kernel.rtnetlink_codec import VethEnd
from tortie.net.addresses import Address, Interface, Prefix

HOST_MAC = "ee:ee:ee:ee:ee:ee"
NODE_V4, OUTSIDE_V4 = Address.parse("192.0.2.1"), Address.parse("192.0.2.2")
NODE_V6, OUTSIDE_V6 = Address.parse("2001:db8::1"), Address.parse("2001:db8::2")
POOL_V4, POOL_V6 = Prefix.parse("10.65.0.0/16"), Prefix.parse("fd65::/48")
GATEWAY_V4, GATEWAY_V6 = Address.parse("169.254.1.1"), Address.parse("fe80::ecee:eeff:feee:eeee")
NODE_ADDRESS = {4: NODE_V4, 6: NODE_V6}
OUTSIDE_ADDRESS = {4: OUTSIDE_V4, 6: OUTSIDE_V6}
ALLOW_ALL = "kns.default"
UNPOLICED = AppliedPolicies(profiles=(ALLOW_ALL,))
"""No policy selects it: its namespace's profile allows everything."""
_ALLOW = (RuleRow(action="Allow"),)
RETURN = SettingsRow(endpoint_to_host_action="Return", nat_outgoing_exclusions="IPPoolsAndHostIPs")


@dataclass(frozen=True)
class Pod:
    """A workload: its namespace, the host's end of its wire, its addresses and its row."""

    name: str
    namespace: str
    interface: str
    v4: Address
    v6: Address

    @property
    def key(self) -> EndpointKey:
        return EndpointKey("default", self.name)

    def address(self, version: int) -> Address:
        return self.v4 if version == 4 else self.v6

    def row(self, **changes: Any) -> EndpointRow:
        values: dict[str, Any] = {
            "interface": self.interface,
            "addresses": (self.v4, self.v6),
            "ingress": UNPOLICED,
            "egress": UNPOLICED,
            "revision": "1",
        }
        return EndpointRow(**{**values, **changes})

    def routes(self) -> dict[Prefix, RouteRow]:
        row = RouteRow(kind="local-workload", interface=self.interface)
        return {self.v4.prefix: row, self.v6.prefix: row}


class World:
    """``node`` has an uplink to ``outside`` and a default route over it."""

    def __init__(self, make_namespace: Callable[[], str]) -> None:
        self._make = make_namespace
        self.node, self.outside = make_namespace(), make_namespace()
        self.kernel = RouteSocket(self.node)
        self.generation = 0
        self.pods: dict[str, Pod] = {}
        for namespace in (self.node, self.outside):
            netns.run(namespace, _no_duplicate_detection)
        with RouteSocket(self.outside) as far:
            descriptor = netns.open_namespace(self.outside)
            try:
                self.kernel.create_veth(
                    VethEnd(name="eth0", up=True), VethEnd(name="eth0", namespace=descriptor)
                )
            finally:
                os.close(descriptor)
            for routes, own, v4, v6 in (
                (self.kernel, NODE_V4, Interface(NODE_V4, 24), Interface(NODE_V6, 64)),
                (far, OUTSIDE_V4, Interface(OUTSIDE_V4, 24), Interface(OUTSIDE_V6, 64)),
            ):
                assert own.version == 4
                link = routes.need_link("eth0")
                routes.set_link(link.index, up=True)
                routes.add_address(link.index, v4)
                routes.add_address(link.index, v6, no_dad=True)
            eth0 = self.kernel.need_link("eth0").index
            for prefix, gateway in (("0.0.0.0/0", OUTSIDE_V4), ("::/0", OUTSIDE_V6)):
                self.kernel.replace_route(Route(prefix=Prefix.parse(prefix), gateway=gateway, ifindex=eth0))
            eth0 = far.need_link("eth0").index
            for pool, gateway in ((POOL_V4, NODE_V4), (POOL_V6, NODE_V6)):
                far.replace_route(Route(prefix=pool, gateway=gateway, ifindex=eth0))

    def close(self) -> None:
        self.kernel.close()

    def pod(self, number: int, interface: str = "", *, namespace: str = "") -> Pod:
        """A wired workload, of which the dataplane has not heard yet."""
        pod = Pod(
            f"pod{number}",
            namespace or self._make(),
            interface or f"cali{number}",
            Address(4, POOL_V4.value + number),
            Address(6, POOL_V6.value + number),
        )
        self.wire(pod)
        self.pods[pod.name] = pod
        return pod

    def wire(self, pod: Pod) -> None:
        """Both ends of a pod's veth, and inside what the CNI plugin makes."""
        descriptor = netns.open_namespace(pod.namespace)
        try:
            near = VethEnd(name=pod.interface, mac=HOST_MAC, up=True)
            self.kernel.create_veth(near, VethEnd(name="eth0", namespace=descriptor))
        finally:
            os.close(descriptor)
        with RouteSocket(pod.namespace) as inside:
            index = inside.need_link("eth0").index
            inside.set_link(index, up=True)
            inside.add_address(index, Interface(pod.v4, 32))
            inside.add_address(index, Interface(pod.v6, 128), no_dad=True)
            inside.replace_route(Route(prefix=GATEWAY_V4.prefix, scope="link", ifindex=index))
            inside.replace_route(Route(prefix=Prefix.parse("0.0.0.0/0"), gateway=GATEWAY_V4, ifindex=index))
            inside.replace_route(Route(prefix=Prefix.parse("::/0"), gateway=GATEWAY_V6, ifindex=index))

    def is_running(self, pod: Pod) -> bool:
        """Whether the pod's end of its wire is ready to send."""
        with RouteSocket(pod.namespace) as inside:
            return inside.need_link("eth0").running

    def flush(
        self,
        *pods: Pod,
        settings: SettingsRow | None = None,
        endpoints: Mapping[EndpointKey, EndpointRow] | None = None,
        routes: Mapping[Prefix, RouteRow] | None = None,
        ipsets: Mapping[str, frozenset[Prefix]] | None = None,
        sets: Sequence[Delta[Any, Any]] = (),
        policies: Mapping[PolicyKey, PolicyRow] | None = None,
        profiles: Mapping[str, ProfileRow] | None = None,
        hosts: Mapping[str, HostEndpointRow] | None = None,
        gone_hosts: Sequence[str] = (),
        gone_policies: Sequence[PolicyKey] = (),
        gone: Sequence[Pod] = (),
        gone_routes: Sequence[Prefix] = (),
        in_sync: bool = True,
    ) -> Flush:
        """A flush that puts these pods with their routes, and whatever else is said."""
        self.generation += 1
        deltas: list[Delta[Any, Any]] = []
        if settings is not None:
            deltas.append(Delta(SETTINGS, {NODE: settings}))
        if ipsets:
            deltas += ipset_deltas(ipsets)
        deltas += sets
        allow = {ALLOW_ALL: ProfileRow(ingress=_ALLOW, egress=_ALLOW)}
        deltas.append(Delta(PROFILES, allow | dict(profiles or {})))
        deltas.append(Delta(POLICIES, policies or {}, frozenset(gone_policies)))
        if hosts is not None:
            deltas.append(Delta(HOST_ENDPOINTS, hosts, frozenset(gone_hosts)))
        rows = {pod.key: pod.row() for pod in pods} | dict(endpoints or {})
        deltas.append(Delta(ENDPOINTS, rows, frozenset(pod.key for pod in gone)))
        wanted = {prefix: row for pod in pods for prefix, row in pod.routes().items()} | dict(routes or {})
        lost = frozenset(prefix for pod in gone for prefix in pod.routes()) | frozenset(gone_routes)
        deltas.append(Delta(ROUTES, wanted, lost - wanted.keys()))
        return Flush(self.generation, tuple(deltas), in_sync=in_sync)

    def ruleset(self) -> str:
        """As nft shows it, but for what the rules have learnt."""
        return without_learnt(self.run("nft", "list", "ruleset"))

    def run(self, *command: str, where: str = "") -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", where or self.node, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def dropped(self, comment: str) -> int:
        """Packets that rules with this comment have dropped."""
        lines = [line for line in self.ruleset().splitlines() if f'drop comment "{comment}"' in line]
        return sum(int(line.split("counter packets ")[1].split()[0]) for line in lines)


def without_learnt(ruleset: str) -> str:
    """Elements that expire come with the pods' packets, at any time."""
    return re.sub(r"(\t\ttimeout \w+\n)\t\telements = {[^}]*}\n", r"\1", ruleset)


def _no_duplicate_detection() -> None:
    """A link-local address is usable at once: a test has no second to wait."""
    for place in ("all", "default"):
        sysctl.write(f"net/ipv6/conf/{place}/accept_dad", "0")


def ipset_deltas(ipsets: Mapping[str, frozenset[Prefix]]) -> list[Delta[Any, Any]]:
    """These sets with these members."""
    members = {Member(name, prefix): PRESENT for name, prefixes in ipsets.items() for prefix in prefixes}
    return [Delta(IPSETS, dict.fromkeys(ipsets, IPSetRow())), Delta(MEMBERS, members)]


def default_ipsets() -> dict[str, frozenset[Prefix]]:
    """One pool a family, with outgoing NAT, and this node as the only one."""
    return {
        ALL_POOLS: frozenset((POOL_V4, POOL_V6)),
        MASQUERADE_POOLS: frozenset((POOL_V4, POOL_V6)),
        ALL_HOSTS: frozenset((NODE_V4.prefix, NODE_V6.prefix)),
    }


async def started(world: World, **arguments: Any) -> LinuxDataplane:
    plane = LinuxDataplane(namespace=world.node, **arguments)
    await plane.start()
    return plane


async def applied(plane: LinuxDataplane, flush: Flush) -> Applied:
    """Apply, and insist that all of it is real, and that what is not wanted is gone."""
    result = await plane.apply(flush)
    assert not result.failed, {str(key): str(error) for key, error in result.failed.items()}
    assert not plane.troubles, {what: str(error) for what, error in plane.troubles.items()}
    return result


def heard(
    source: str,
    source_address: Address,
    destination: str,
    destination_address: Address,
    *,
    seconds: float = 5.0,
    tcp: bool = False,
    once: bool = False,
) -> tuple[str, int] | None:
    """Send a datagram (``tcp``: a connection) from one namespace to another; who it comes from, or None when nothing comes.

    It is sent again every 0.1 s, since a new veth loses what it is given before its queue is open, but for ``once``.
    """
    family = socket.AF_INET if source_address.version == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM

    def listen() -> socket.socket:
        listener = socket.socket(family, kind)
        listener.bind((str(destination_address), 0))
        listener.settimeout(seconds if tcp or once else 0.1)
        if tcp:
            listener.listen()
        return listener

    def send() -> socket.socket:
        sender = socket.socket(family, kind)
        sender.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: a spoofer binds to what is not his
        if family == socket.AF_INET6:
            sender.setsockopt(socket.IPPROTO_IPV6, 78, 1)
        sender.bind((str(source_address), 0))
        sender.setblocking(not tcp)
        sender.connect_ex((str(destination_address), listener.getsockname()[1]))
        return sender

    listener = netns.run(destination, listen)
    sender = netns.run(source, send)
    deadline = time.monotonic() + seconds
    with listener, sender:
        while True:
            if not tcp:
                with suppress(OSError):  # an ICMP error of the datagram before
                    sender.send(b"hello")
            try:
                if tcp:
                    accepted, peer = listener.accept()
                    accepted.close()
                else:
                    _, peer = listener.recvfrom(100)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    return None
                continue
            return str(peer[0]), int(peer[1])


async def eventually(
    condition: Callable[[], object], *, seconds: float = 5.0, wait: Callable[[float], Awaitable[None]]
) -> None:
    """Until the condition holds, or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s: {condition}"
        await wait(0.02)
