"""What changes in links, addresses, routes and switches of a network namespace, as it happens."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from tortie.errors import KernelError
from tortie.host.links import Link, LinkAddress
from tortie.host.routes import PROTOCOL_BIRD, PROTOCOL_KERNEL, Route
from tortie.kernel import netlink as nl
from tortie.kernel import rtnetlink_codec as codec
from tortie.kernel.netns import Namespace, open_netlink

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
_IPV4_SWITCHES, _IPV6_SWITCHES = 1 << 23, 1 << 24
_PROTOCOL_BYTE = 5
"""Where a route's message says who made it."""


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """An interface came or changed, or is ``gone``."""

    link: Link
    gone: bool = False


@dataclass(frozen=True, slots=True)
class AddressEvent:
    address: LinkAddress
    gone: bool = False


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """A route came or went; ``port`` is the netlink socket that asked for it (0: the kernel itself)."""

    route: Route
    gone: bool
    port: int


@dataclass(frozen=True, slots=True)
class SwitchEvent:
    """A switch was set, maybe to what it was: of the whole node, ``net/ipv4/ip_forward``; or of the interface with this
    ``index``, ``ipv4/proxy_arp``. See `rtnetlink_codec` for those that the kernel tells of."""

    name: str
    value: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class EventsLost:
    """More happened than the buffer holds: look at everything anew."""


Event = LinkEvent | AddressEvent | RouteEvent | SwitchEvent | EventsLost


class RouteMonitor:
    """Hears rtnetlink events from the moment it is made. ``ignored_protocols``: routes of these makers are not told of.

    Routes that go because their interface goes down are told of in IPv6 only: watch the link events.
    """

    def __init__(
        self,
        namespace: Namespace | None = None,
        *,
        addresses: bool = False,
        routes: bool = True,
        switches: bool = False,
        ignored_protocols: frozenset[int] = frozenset((PROTOCOL_KERNEL, PROTOCOL_BIRD)),
    ) -> None:
        groups = _LINK
        if addresses:
            groups |= _IPV4_ADDRESS | _IPV6_ADDRESS
        if routes:
            groups |= _IPV4_ROUTE | _IPV6_ROUTE
        if switches:
            groups |= _IPV4_SWITCHES | _IPV6_SWITCHES
        self._ignored = ignored_protocols
        self._netlink = open_netlink(namespace, nl.ROUTE, groups=groups)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._netlink.fileno()

    def close(self) -> None:
        self._netlink.close()

    def read(self, most: int = 64) -> list[Event]:
        """What has happened, without waiting; ``most`` datagrams at once. Raises `KernelError`."""
        events: list[Event] = []
        for _ in range(most):
            try:
                received = self._netlink.receive()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    events.append(EventsLost())
                    continue
                raise KernelError(error.errno or errno.EIO, "hear of changes in the kernel") from error
            for message in received:
                if message.kind == codec.NEW_NETCONF:
                    index, switches = codec.decode_switches(message.body)
                    events += [SwitchEvent(*switch, index) for switch in switches.items()]
                    continue
                event = self._decode(message)
                if event is not None:
                    events.append(event)
        return events

    async def events(self) -> AsyncIterator[list[Event]]:
        """The same as a stream: never an empty list."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self.fileno(), ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                while found := self.read():
                    yield found
        finally:
            loop.remove_reader(self.fileno())

    def _decode(self, message: nl.Message) -> Event | None:
        kind, body = message.kind, message.body
        if kind in (codec.NEW_ROUTE, codec.DEL_ROUTE):
            if body[_PROTOCOL_BYTE] in self._ignored:
                return None
            route = codec.decode_route(body, {})
            return RouteEvent(route, kind == codec.DEL_ROUTE, message.port) if route is not None else None
        if kind in (codec.NEW_LINK, codec.DEL_LINK):
            return LinkEvent(codec.decode_link(body), kind == codec.DEL_LINK)
        if kind in (codec.NEW_ADDRESS, codec.DEL_ADDRESS):
            return AddressEvent(codec.decode_address(body), kind == codec.DEL_ADDRESS)
        return None
