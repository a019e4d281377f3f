"""Routes in the main table: those to local workloads, and the blackholes of our blocks."""

from __future__ import annotations

import dataclasses
import errno
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from tortie.dataplane.api import Outcome
from tortie.dataplane.linux.drivers.thread import KernelThread
from tortie.desired.settings import SettingsRow
from tortie.errors import KernelError, TortieError
from tortie.host.routes import (
    MAIN_TABLE,
    PROTOCOL_BIRD,
    PROTOCOL_KERNEL,
    PROTOCOL_TORTIE,
    Route,
    RouteKey,
)
from tortie.kernel import netlink as nl
from tortie.kernel import rtnetlink_codec as codec
from tortie.kernel.api import Flows, Routing
from tortie.net.addresses import Address

_GONE = (errno.ESRCH, errno.ENODEV)


class RouteDriver:
    """Owns what it was told to put, blackholes with our protocol, and what leads to interfaces of workloads.

    When a workload's address leaves, or moves to another interface, the old route goes, then the address's flows are
    forgotten, then the new route comes: a flow that is still known would follow the old way. BIRD's routes are never ours.
    """

    name: ClassVar[str] = "routes"

    def __init__(
        self,
        routes: Routing,
        conntrack: Flows,
        thread: KernelThread,
        settings: Callable[[], SettingsRow],
    ) -> None:
        self.writes = 0
        self.flows_flushed = 0
        self._routes = routes
        self._conntrack = conntrack
        self._thread = thread
        self._settings = settings
        self._known: dict[RouteKey, Route] = {}
        """What we put or saw. A route whose interface vanished stays here: its flows are still to be forgotten."""
        self._leaving: set[Address] = set()
        """Addresses that left and whose flows are still known. Grows in the dataplane's thread, shrinks under `_forgetting`."""
        self._forgetting = threading.Lock()
        self._first = True

    @property
    def port(self) -> int:
        """By this the kernel's events tell our own changes."""
        return self._routes.port

    @property
    def known(self) -> Mapping[RouteKey, Route]:
        """What we put or saw and did not remove."""
        return self._known

    async def read(self) -> Mapping[RouteKey, Route]:
        return await self._thread.run(self._read)

    def learn(self, routes: Mapping[RouteKey, Route]) -> None:
        """An event told of these."""
        self._known.update(routes)

    async def read_interface(self, name: str) -> Mapping[RouteKey, Route]:
        """The routes of ours that lead to this interface; none when it is not there."""
        return await self._thread.run(lambda: self._read_interface(name))

    async def apply(self, put: Mapping[RouteKey, Route], gone: frozenset[RouteKey]) -> Outcome:
        return await self._thread.run(lambda: self._apply(put, gone))

    def owns(self, route: Route, interface: str) -> bool:
        """Whether a route that nobody wants is ours to remove."""
        if route.table != MAIN_TABLE or route.protocol in (PROTOCOL_KERNEL, PROTOCOL_BIRD):
            return False
        if route.kind == "blackhole":
            return route.protocol == PROTOCOL_TORTIE
        settings = self._settings()
        if not interface.startswith(settings.interface_prefixes):
            return False
        return settings.remove_external_routes or route.protocol in (settings.route_protocol, PROTOCOL_TORTIE)

    def _read(self) -> dict[RouteKey, Route]:
        names = self._routes.names()
        found: dict[RouteKey, Route] = {}
        for version in (4, 6):
            for route in self._routes.routes(version, table=MAIN_TABLE, names=names):
                if self.owns(route, route.interface) or route.key in self._known:
                    found.setdefault(
                        route.key, route
                    )  # IPv6 tells each next hop of a route as one of its own
        self._known.update(found)
        return found

    def _read_interface(self, name: str) -> dict[RouteKey, Route]:
        link = self._routes.link(name)
        if link is None:
            return {}
        names = {link.index: link.name}
        found: dict[RouteKey, Route] = {}
        for version in (4, 6):
            for route in self._routes.routes(version, table=MAIN_TABLE, ifindex=link.index, names=names):
                if self.owns(route, name) or route.key in self._known:
                    found.setdefault(route.key, route)
        self._known.update(found)
        return found

    def _apply(self, put: Mapping[RouteKey, Route], gone: frozenset[RouteKey]) -> Outcome:
        failed: dict[RouteKey, TortieError] = {}
        indexes = {name: index for index, name in self._routes.names().items()} if len(put) > 8 else None
        ready: dict[RouteKey, Route] = {}
        stale: set[RouteKey] = set()
        """The kernel's are by index: where the interface has another name by now, they lead where they should not."""
        for key, route in put.items():
            index = self._index(route.interface, indexes) if route.interface else 0
            if index is None:
                failed[key] = KernelError(errno.ENODEV, "find the interface", route.interface)
                stale.add(key)
                continue
            ready[key] = dataclasses.replace(route, ifindex=index)
            if self._known.get(key, route).interface != route.interface:
                stale.add(key)
        self._delete([*gone, *stale], failed)
        if not put:
            return Outcome(failed)
        coming = frozenset(key.prefix.address for key in put if key.prefix.is_single)
        if self._first:
            self._first = False
            # Someone else may have had these addresses while no agent looked.
            self._leaving.update(coming)
        try:
            self.forget_flows(coming)
        except KernelError as error:
            # The new routes of these addresses must not come before their old flows are gone.
            failed.update(
                (key, error) for key in put if key.prefix.is_single and key.prefix.address in self._leaving
            )
        self._add({key: route for key, route in ready.items() if key not in failed}, failed)
        return Outcome(failed)

    def _index(self, interface: str, indexes: Mapping[str, int] | None) -> int | None:
        if indexes is not None:
            return indexes.get(interface)
        return self._routes.index(interface)

    def _delete(self, keys: Iterable[RouteKey], failed: dict[RouteKey, TortieError]) -> None:
        """Just the routes that we know there: others' with the same key stay."""
        known = [(key, self._known[key]) for key in keys if key in self._known]
        refused = self._send([codec.delete_route(route) for _, route in known])
        for place, (key, route) in enumerate(known):
            error = refused.get(place)
            if error is not None and error.errno not in _GONE:
                failed[key] = error
                continue
            del self._known[key]
            if key.prefix.is_single and route.kind == "unicast":
                self._leaving.add(key.prefix.address)

    @property
    def has_flows_to_forget(self) -> bool:
        """Whether addresses left since flows were forgotten."""
        return bool(self._leaving)

    def forget_flows(self, coming: frozenset[Address] | None = None) -> None:
        """Forget the flows of addresses that left; with ``coming`` only if one of these is among them.

        Blocks for 10 ms and more, for one address as for many. Any thread. Raises `KernelError`; the next call tries again.
        """
        if coming is not None and coming.isdisjoint(self._leaving):
            return
        with self._forgetting:
            leaving = frozenset(self._leaving)
            if leaving and (coming is None or not coming.isdisjoint(leaving)):
                self.flows_flushed += self._conntrack.flush(leaving)
                self._leaving -= leaving

    def _add(self, routes: Mapping[RouteKey, Route], failed: dict[RouteKey, TortieError]) -> None:
        wanted = list(routes.items())
        refused = self._send([codec.new_route(route) for _, route in wanted])
        for place, (key, route) in enumerate(wanted):
            error = refused.get(place)
            if error is not None:
                failed[key] = error
            else:
                self._known[key] = route

    def _send(self, requests: list[nl.Request]) -> Mapping[int, KernelError]:
        if not requests:
            return {}
        self.writes += len(requests)
        return self._routes.batch(requests)
