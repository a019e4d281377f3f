"""The wire of a pod: a veth pair from the node's namespace into the pod's, and everything inside the pod that belongs to it.

Hot path of ADD and DEL: a few batches of netlink and a few writes to /proc/sys, no program, no library. The host's end
is left to the dataplane but for its name, MAC and sizes. Source: Calico's ``cni-plugin/pkg/dataplane/linux``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import fcntl
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tortie.errors import KernelError, NamespaceGone
from tortie.host.links import UNKNOWN_SEGMENTS, Link, LinkAddress, Neighbour, SegmentSizes
from tortie.host.routes import PROTOCOL_BOOT, Route
from tortie.kernel import netlink as nl
from tortie.kernel import netns, sysctl
from tortie.kernel import rtnetlink_codec as codec
from tortie.kernel.netns import Namespace
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Address, Interface, Prefix

T = TypeVar("T")

HOST_MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY_V4 = Address.parse("169.254.1.1")
GATEWAY_V6 = Address.parse("fe80::ecee:eeff:feee:eeee")
"""What IPv6 makes of `HOST_MAC`: the host's end answers to it without being told."""
DEFAULT_V4 = Prefix(4, 0, 0)
DEFAULT_V6 = Prefix(6, 0, 0)

_LINK_EVENTS = 1
_SIOCGIFINDEX = 0x8933
_REMOVERS = 16
_REMOVE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class PodLink:
    """A wire as it shall be. Sizes of 0 leave the kernel's; ``forwarding`` is whether the pod may route (ip_forward)."""

    host_name: str
    pod_name: str
    mac: str
    addresses: tuple[Address, ...] = ()
    mtu: int = 0
    segments: SegmentSizes = UNKNOWN_SEGMENTS
    forwarding: bool = False

    def versions(self) -> frozenset[int]:
        return frozenset(address.version for address in self.addresses)

    def routes(self) -> tuple[Route, ...]:
        """The pod's own routes: everything by the gateway that the host's end answers for."""
        found: list[Route] = []
        if 4 in self.versions():
            found.append(Route(prefix=GATEWAY_V4.prefix, scope="link", protocol=PROTOCOL_BOOT))
            found.append(Route(prefix=DEFAULT_V4, gateway=GATEWAY_V4, protocol=PROTOCOL_BOOT))
        if 6 in self.versions():
            found.append(Route(prefix=DEFAULT_V6, gateway=GATEWAY_V6, protocol=PROTOCOL_BOOT))
        return tuple(found)

    def switches(self) -> Mapping[str, str]:
        """What stands under /proc/sys in the pod's namespace, in the order in which it is to be written."""
        wanted: dict[str, str] = {}
        if 4 in self.versions():
            wanted["net/ipv4/ip_forward"] = "1" if self.forwarding else "0"
        if 6 in self.versions():
            for place in ("all", "default", "lo", self.pod_name):
                wanted[f"net/ipv6/conf/{place}/disable_ipv6"] = "0"
            wanted[f"net/ipv6/conf/{self.pod_name}/accept_dad"] = "0"
            wanted["net/ipv6/conf/all/forwarding"] = "1" if self.forwarding else "0"
        return wanted


@dataclass(frozen=True, kw_only=True)
class SeenLink:
    """A wire as it is: both ends (None: there is none), and what the pod's end carries."""

    host: Link | None
    pod: Link | None
    addresses: tuple[LinkAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    switches: Mapping[str, str]
    host_routes: tuple[Route, ...] = ()
    """The node's routes that lead into the wire."""


class PodLinks(Protocol):
    """Wires of pods in the kernel. ``namespace`` is a descriptor of the pod's. Raises `KernelError`, `NamespaceGone`."""

    def exists(self, host_name: str) -> bool:
        """Whether there is such an interface on the node. Never waits."""
        ...

    async def create(
        self, wanted: PodLink, namespace: int, then: Callable[[], PodLink | None]
    ) -> PodLink | None:
        """Make the pair, in place of one whose host end has that name. Needs only names, MAC and sizes of ``wanted``.

        ``then`` is asked, in another thread, as soon as it is there: what it gives is configured in the same go, and returned.
        """
        ...

    async def configure(self, wanted: PodLink, namespace: int) -> None:
        """Set up the pod's end: MAC, switches, addresses, routes."""
        ...

    async def remove(self, host_name: str) -> bool:
        """Remove a pair by its host end. False when there was none."""
        ...

    async def remove_inside(self, wanted: PodLink, namespace: int) -> bool:
        """Remove the pair by its end in the pod. False when there is none there, when it is another's (its peer is not
        ``wanted.host_name``), or when the namespace is gone."""
        ...

    async def inspect(self, wanted: PodLink, namespace: int) -> SeenLink:
        """How it is now, with what stands on the node for it."""
        ...

    async def host_ends(self) -> frozenset[str]:
        """The names of all host ends on the node, told by their kind and MAC, whatever they are called now."""
        ...


class LinuxPodLinks:
    """The kernel's. Blocking calls run in threads of this room; the node's namespace is that of whoever makes this."""

    def __init__(self) -> None:
        self._host = RouteSocket()
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._host_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pod-link")
        self._removers = ThreadPoolExecutor(max_workers=_REMOVERS, thread_name_prefix="pod-link-remove")

    def exists(self, host_name: str) -> bool:
        return self._host_index(host_name) != 0

    async def create(
        self, wanted: PodLink, namespace: int, then: Callable[[], PodLink | None]
    ) -> PodLink | None:
        def make() -> PodLink | None:
            self._create(wanted, namespace)
            link = then()
            if link is not None:
                self._configure(link, namespace)
            return link

        try:
            return await self._on_host(make)
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            if not await self.remove(wanted.host_name):
                raise KernelError(
                    errno.EEXIST, "make the interface", f"{wanted.pod_name} in the pod's network namespace"
                ) from error
            return await self._on_host(make)

    async def configure(self, wanted: PodLink, namespace: int) -> None:
        await self._on_host(lambda: self._configure(wanted, namespace))

    async def remove(self, host_name: str) -> bool:
        return await self._remove(None, host_name)

    async def remove_inside(self, wanted: PodLink, namespace: int) -> bool:
        try:
            return await self._remove(namespace, wanted.pod_name, wanted.host_name)
        except NamespaceGone:
            return False

    async def inspect(self, wanted: PodLink, namespace: int) -> SeenLink:
        host, routes = await self._on_host(lambda: self._inspect_host(wanted.host_name))
        seen = await self._on_host(lambda: netns.visit(namespace, lambda: _inspect(wanted)))
        return dataclasses.replace(seen, host=host, host_routes=routes)

    async def host_ends(self) -> frozenset[str]:
        links = await self._on_host(self._host.links)
        return frozenset(link.name for link in links if link.kind == "veth" and link.mac == HOST_MAC)

    def close(self) -> None:
        """Let go of threads and sockets; removals that are under way end first."""
        self._host_thread.shutdown()
        self._removers.shutdown()
        self._host.close()
        self._ioctl.close()

    def _host_index(self, name: str) -> int:
        """An interface of the node's namespace by name; 0 when there is none. Asks without a thread: it never waits."""
        try:
            answer = fcntl.ioctl(self._ioctl, _SIOCGIFINDEX, struct.pack("16s16x", name.encode()))
        except OSError:
            return 0
        return int.from_bytes(answer[16:20], sys.byteorder)

    async def _on_host(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._host_thread.submit(function))

    def _inspect_host(self, name: str) -> tuple[Link | None, tuple[Route, ...]]:
        link = self._host.link(name)
        if link is None:
            return None, ()
        names = {link.index: name}
        return link, tuple(
            route for v in (4, 6) for route in self._host.routes(v, ifindex=link.index, names=names)
        )

    def _create(self, wanted: PodLink, namespace: int) -> None:
        mtu, segments = wanted.mtu, wanted.segments
        near = codec.VethEnd(name=wanted.host_name, mac=HOST_MAC, mtu=mtu, segments=segments, up=True)
        far = codec.VethEnd(
            name=wanted.pod_name, mac=wanted.mac, mtu=mtu, segments=segments, namespace=namespace
        )
        self._host.create_veth(near, far)

    def _configure(self, wanted: PodLink, namespace: int) -> None:
        if 6 in wanted.versions():
            # Before the pod's end goes up, or the gateway's address is tentative for a second.
            sysctl.write(f"net/ipv6/conf/{wanted.host_name}/accept_dad", "0")
        netns.visit(namespace, lambda: _configure(wanted))
        self._introduce(wanted)

    def _introduce(self, wanted: PodLink) -> None:
        """The node knows the pod's MAC from the first packet on: a new veth on a busy machine may lose the first request for
        it, and the kernel asks again only after a second. The entry ages as any other, so a pod may change its MAC; but the
        kernel never refuses it, or throws it out, because the machine's table of neighbours is full."""
        index = self._host_index(wanted.host_name)
        requests = [
            codec.new_neighbour(Neighbour(index=index, address=address, mac=wanted.mac, learned=True))
            for address in wanted.addresses
        ]
        for refused in self._host.batch(requests).values():
            # The wire is no more: whoever took it away makes the ADD fail, or undoes it.
            if refused.errno != errno.ENODEV:
                raise refused

    def _begin_removal(self, namespace: Namespace | None, name: str, peer: str) -> _Removal | None:
        index = self._host_index(peer or name)
        if not index:
            return None
        if namespace is None:
            return _Removal(index, name)
        return netns.visit(namespace, lambda: _Removal.inside(name, index))

    async def _remove(self, namespace: Namespace | None, name: str, peer: str = "") -> bool:
        """The kernel takes an interface from view within a millisecond, then holds its caller for some 15 ms more:
        its event is enough for us, and a thread stays behind for the rest."""
        removal = await self._on_host(lambda: self._begin_removal(namespace, name, peer))
        if removal is None:
            return False
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[bool] = loop.create_future()
        ended = asyncio.wrap_future(self._removers.submit(removal.finish))
        loop.add_reader(removal.events.fileno(), removal.look, gone)
        try:
            done, _ = await asyncio.wait(
                {ended, gone}, timeout=_REMOVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            loop.remove_reader(removal.events.fileno())
            removal.events.close()
            ended.add_done_callback(_note_outcome)
        if gone in done:
            return True
        if ended in done:
            return ended.result()
        raise KernelError(errno.ETIMEDOUT, "delete the interface", name)


class _Removal:
    """One interface on its way out: a socket that hears of it, and one whose call lasts until the kernel is done."""

    def __init__(self, index: int, name: str) -> None:
        self.events = nl.NetlinkSocket(nl.ROUTE, groups=_LINK_EVENTS)
        self._commands = nl.NetlinkSocket(nl.ROUTE)
        self._index = index
        self._name = name

    @staticmethod
    def inside(name: str, peer: int) -> _Removal | None:
        """In the calling thread's namespace. None when there is no such interface, or its peer is another one."""
        with RouteSocket() as here:
            link = here.link(name)
        return _Removal(link.index, name) if link is not None and link.peer == peer else None

    def finish(self) -> bool:
        """Blocks until the kernel is done. False when someone else was faster."""
        try:
            self._commands.request(codec.delete_link(self._index, subject=self._name))
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        finally:
            self._commands.close()
        return True

    def look(self, gone: asyncio.Future[bool]) -> None:
        """Read what came; settle ``gone`` when it says that the interface is."""
        try:
            heard = self.events.receive()
        except OSError:  # some were lost: the end of `finish` will tell
            return
        for message in heard:
            ours = message.kind == codec.DEL_LINK and codec.decode_link(message.body).index == self._index
            if ours and not gone.done():
                gone.set_result(True)


def _note_outcome(ended: asyncio.Future[bool]) -> None:
    """A failure after the interface was gone from view concerns nobody."""
    if not ended.cancelled():
        ended.exception()


def _configure(wanted: PodLink) -> None:
    """In the pod's namespace: switches, then link, addresses and routes in one batch."""
    try:
        index = socket.if_nametoindex(wanted.pod_name)
    except OSError as error:
        raise KernelError(errno.ENODEV, "find the interface", f"{wanted.pod_name} in the pod") from error
    for name, value in wanted.switches().items():
        sysctl.ensure(name, value)
    requests = [codec.set_link(index, subject=wanted.pod_name, mac=wanted.mac, up=True)]
    for address in wanted.addresses:
        carried = Interface(address, address.prefix.length)
        requests.append(codec.new_address(index, carried, subject=wanted.pod_name, no_dad=True))
    requests += [
        codec.new_route(dataclasses.replace(route, ifindex=index, interface=wanted.pod_name))
        for route in wanted.routes()
    ]
    # Known beforehand: the kernel's proxy ARP is silent while the node has no route that covers the gateway, as when its
    # uplink is down and the default route went with it. Pods of one node talk on, and no first packet waits. And the kernel
    # has room for these also while the machine's table of neighbours is full.
    for version, gateway in ((4, GATEWAY_V4), (6, GATEWAY_V6)):
        if version in wanted.versions():
            known = Neighbour(index=index, address=gateway, mac=HOST_MAC, permanent=True)
            requests.append(codec.new_neighbour(known))
    with RouteSocket() as here:
        failed = here.batch(requests)
    for refused in failed.values():
        raise refused


def _inspect(wanted: PodLink) -> SeenLink:
    switches: dict[str, str] = {}
    for name in wanted.switches():
        try:
            switches[name] = sysctl.read(name)
        except KernelError as error:
            switches[name] = f"({error})"
    with RouteSocket() as here:
        pod = here.link(wanted.pod_name)
        if pod is None:
            return SeenLink(host=None, pod=None, switches=switches)
        names = {pod.index: pod.name}
        routes = [
            route for version in (4, 6) for route in here.routes(version, ifindex=pod.index, names=names)
        ]
        return SeenLink(
            host=None,
            pod=pod,
            addresses=tuple(here.addresses(pod.index)),
            routes=tuple(routes),
            switches=switches,
        )
