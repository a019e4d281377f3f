"""Links, addresses, routes and neighbours of one network namespace, through one socket.

For many changes at once make requests with `rtnetlink_codec` and hand them to `RouteSocket.batch`: 200 travel per send.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Self

from tortie.errors import KernelError
from tortie.host.links import UNKNOWN_SEGMENTS, Link, LinkAddress, Neighbour, SegmentSizes
from tortie.host.routes import Route
from tortie.kernel import netlink as nl
from tortie.kernel import rtnetlink_codec as codec
from tortie.kernel.netns import Namespace, open_netlink
from tortie.kernel.rtnetlink_codec import VethEnd
from tortie.net.addresses import Interface

_NO_ROUTES = (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
"""The table holds nothing yet, or the kernel runs without that IP version."""
_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL)


class RouteSocket:
    """An rtnetlink socket of a namespace (None: the calling thread's). Every call blocks, far below a millisecond
    but for dumps. Not for two threads at once. Raises `KernelError`, `NamespaceGone`."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        self.netlink = open_netlink(namespace, nl.ROUTE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.netlink.close()

    @property
    def port(self) -> int:
        """Events name it as the cause of what was changed through this socket."""
        return self.netlink.port

    def batch(self, requests: Sequence[nl.Request]) -> Mapping[int, KernelError]:
        """Do many things in order; returns what failed, by position."""
        return self.netlink.batch(requests)

    # Links

    def links(self) -> list[Link]:
        found = self.netlink.dump(codec.dump_links())
        return [codec.decode_link(message.body) for message in found if message.kind == codec.NEW_LINK]

    def names(self) -> dict[int, str]:
        """Every interface's name by its index."""
        found = self.netlink.dump(codec.dump_links())
        return dict(codec.decode_name(message.body) for message in found if message.kind == codec.NEW_LINK)

    def links_with_switches(self) -> list[tuple[Link, dict[str, int]]]:
        """Every interface with those of its switches that netlink tells (`rtnetlink_codec.IPV4_SWITCHES`)."""
        found = self.netlink.dump(codec.dump_links())
        return [codec.decode_link_with_switches(m.body) for m in found if m.kind == codec.NEW_LINK]

    def link_with_switches(self, name: str) -> tuple[Link, dict[str, int]] | None:
        answer = self.netlink.ask(codec.get_link(name))
        return codec.decode_link_with_switches(answer.body) if answer else None

    def link(self, name: str) -> Link | None:
        """The interface of that name, or None."""
        answer = self.netlink.ask(codec.get_link(name))
        return codec.decode_link(answer.body) if answer else None

    def index(self, name: str) -> int | None:
        """That of the interface, or None: faster than all of it."""
        answer = self.netlink.ask(codec.get_link(name))
        return codec.decode_name(answer.body)[0] if answer else None

    def link_by_index(self, index: int) -> Link | None:
        answer = self.netlink.ask(codec.get_link_by_index(index))
        return codec.decode_link(answer.body) if answer else None

    def need_link(self, name: str) -> Link:
        """The interface of that name. Raises `KernelError` (ENODEV) when there is none."""
        found = self.link(name)
        if found is None:
            raise KernelError(errno.ENODEV, "find the interface", name)
        return found

    def set_link(
        self,
        index: int,
        *,
        subject: str = "",
        up: bool | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        name: str | None = None,
        master: int | None = None,
        namespace: int | None = None,
        segments: SegmentSizes = UNKNOWN_SEGMENTS,
        switches: Mapping[str, int] | None = None,
    ) -> None:
        """Change an interface; None leaves a thing as it is. ``switches`` of IPv4: ``ipv4/proxy_arp``."""
        self.netlink.request(
            codec.set_link(
                index,
                subject=subject or f"#{index}",
                up=up,
                mtu=mtu,
                mac=mac,
                name=name,
                master=master,
                namespace=namespace,
                segments=segments,
                switches=switches,
            )
        )

    def create_veth(self, near: VethEnd, far: VethEnd) -> None:
        """A veth pair, each end with its name, MAC and MTU in its namespace. Raises `KernelError` (EEXIST)."""
        self.netlink.request(codec.new_veth(near, far))

    def create_link(self, name: str, kind: str, *, up: bool = False, mtu: int = 0, mac: str = "") -> None:
        self.netlink.request(codec.new_link(name, kind, up=up, mtu=mtu, mac=mac))

    def delete_link(self, name: str) -> bool:
        """Remove an interface by name, with its peer if it is a veth. Returns False when there was none."""
        found = self.link(name)
        return found is not None and self._remove(codec.delete_link(found.index, subject=name))

    # Addresses

    def addresses(self, index: int = 0, *, version: int = 0) -> list[LinkAddress]:
        """Addresses of one interface, or of all; of one IP version, or of both."""
        found = self.netlink.dump(codec.dump_addresses(version, index))
        return [codec.decode_address(message.body) for message in found if message.kind == codec.NEW_ADDRESS]

    def add_address(self, index: int, address: Interface, *, scope: int = 0, no_dad: bool = False) -> None:
        """Give an interface an address; one that it has already is success."""
        self.netlink.request(codec.new_address(index, address, scope=scope, no_dad=no_dad))

    def delete_address(self, index: int, address: Interface) -> bool:
        return self._remove(codec.delete_address(index, address))

    # Routes

    def routes(
        self,
        version: int,
        *,
        table: int = 0,
        protocol: int = 0,
        ifindex: int = 0,
        names: Mapping[int, str] | None = None,
    ) -> list[Route]:
        """Routes of one IP version, filtered by the kernel; ``names`` (by index) fills in the interfaces' names."""
        request = codec.dump_routes(version, table=table, protocol=protocol, ifindex=ifindex)
        known = names or {}
        try:
            found = self.netlink.dump(request)
        except KernelError as error:
            if error.errno in _NO_ROUTES:
                return []
            raise
        decoded = (
            codec.decode_route(message.body, known) for message in found if message.kind == codec.NEW_ROUTE
        )
        return [route for route in decoded if route is not None]

    def replace_route(self, route: Route) -> None:
        """Set a route in place of one with the same prefix and metric."""
        self.netlink.request(codec.new_route(route))

    def add_route(self, route: Route) -> None:
        """Set a route where there is none of that prefix and metric. Raises `KernelError` (EEXIST)."""
        self.netlink.request(codec.new_route(route, replace=False))

    def delete_route(self, route: Route) -> bool:
        """Remove just this route. Returns False when there was none."""
        return self._remove(codec.delete_route(route))

    # Neighbours

    def neighbours(self, version: int = 0, index: int = 0) -> list[Neighbour]:
        found = self.netlink.dump(codec.dump_neighbours(version, index))
        decoded = (
            codec.decode_neighbour(message.body) for message in found if message.kind == codec.NEW_NEIGHBOUR
        )
        return [neighbour for neighbour in decoded if neighbour is not None]

    def replace_neighbour(self, neighbour: Neighbour) -> None:
        self.netlink.request(codec.new_neighbour(neighbour))

    def delete_neighbour(self, neighbour: Neighbour) -> bool:
        return self._remove(codec.delete_neighbour(neighbour))

    def neighbour_limit(self, version: int) -> int | None:
        """``gc_thresh3``, which holds for all namespaces of the machine together; None where it is not told."""
        for message in self.netlink.dump(codec.dump_neighbour_tables(version)):
            limit = codec.decode_neighbour_limit(message.body)
            if limit is not None:
                return limit
        return None

    def _remove(self, request: nl.Request) -> bool:
        try:
            self.netlink.request(request)
        except KernelError as error:
            if error.errno in _GONE:
                return False
            raise
        return True
