"""Interfaces of workloads: their switches, their link-local address, and whether they are up."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar

from tortie.dataplane.api import Outcome
from tortie.dataplane.linux.drivers.thread import KernelThread
from tortie.dataplane.linux.managers.links import LinkKey
from tortie.errors import KernelError, TortieError
from tortie.host.links import Link
from tortie.kernel import sysctl
from tortie.kernel.api import Routing
from tortie.net.addresses import Interface

GATEWAY_V6 = Interface.parse("fe80::ecee:eeff:feee:eeee/64")
"""The gateway of every IPv6 workload: what IPv6 makes of the host end's MAC."""

SWITCHES: Mapping[str, int] = {
    "ipv4/route_localnet": 1, "ipv4/rp_filter": 0, "ipv4/proxy_arp": 1, "ipv4/forwarding": 1,
    "ipv6/accept_dad": 0, "ipv6/disable_ipv6": 0, "ipv6/accept_ra": 0, "ipv6/proxy_ndp": 1, "ipv6/forwarding": 1,
}  # fmt: skip
"""Calico's. ``rp_filter`` is off since the rules know every workload's sources, and which more it may use."""
_PROXY_DELAY = "net/ipv4/neigh/{}/proxy_delay"
"""With the kernel's 0.8 s the first packet of a workload waits as long for proxy ARP."""
_SCOPE_LINK = 253
_FEW = 16
"""So many interfaces are asked for one by one; more come in one dump of all."""

GatewayState = Mapping[int, bool]
"""Whether an interface's link-local gateway address is still tentative; none: it has none."""


class LinkDriver:
    """Knows interfaces by name. One that is not there is `KernelError` ENODEV for each of its keys: it may come yet."""

    name: ClassVar[str] = "links"

    def __init__(
        self, routes: Routing, thread: KernelThread, wanted: Callable[[], Iterable[LinkKey]]
    ) -> None:
        self.writes = 0
        self.links: dict[str, Link] = {}
        """Workloads' interfaces as last seen or set."""
        self._routes = routes
        self._thread = thread
        self._wanted = wanted

    async def read(self) -> Mapping[LinkKey, bool]:
        return await self.read_some(frozenset(key.interface for key in self._wanted()))

    async def read_some(self, names: Collection[str]) -> Mapping[LinkKey, bool]:
        """What these interfaces are like."""
        return await self._thread.run(lambda: self._read(names))

    async def apply(self, put: Mapping[LinkKey, bool], gone: frozenset[LinkKey]) -> Outcome:
        """What a workload had that is gone needs nothing: its interface goes with it."""
        return await self._thread.run(lambda: self._apply(put))

    def _read(self, names: Collection[str]) -> dict[LinkKey, bool]:
        if not names:
            return {}
        found: dict[LinkKey, bool] = {}
        few = len(names) <= _FEW
        asked = (
            (self._routes.link_with_switches(name) for name in names)
            if few
            else self._routes.links_with_switches()
        )
        gateways: GatewayState = {} if few else self._gateways()
        for one in asked:
            if one is None or one[0].name not in names:
                continue
            link, switches = one
            if few:
                gateways = self._gateways(link.index)
            self.links[link.name] = link
            found[LinkKey(link.name, "up")] = link.up
            if not _wrong("ipv4", switches) and _answers_at_once(link):
                found[LinkKey(link.name, "ipv4")] = True
            if not _wrong("ipv6", switches) and gateways.get(link.index) is False:
                found[LinkKey(link.name, "ipv6")] = True
        for name in names:
            if LinkKey(name, "up") not in found:
                self.links.pop(name, None)
        return found

    def _gateways(self, index: int = 0) -> GatewayState:
        decoded = self._routes.addresses(index, version=6)
        return {a.index: a.tentative for a in decoded if a.interface.address == GATEWAY_V6.address}

    def _apply(self, put: Mapping[LinkKey, bool]) -> Outcome:
        failed: dict[LinkKey, TortieError] = {}
        by_interface: dict[str, dict[str, bool]] = {}
        for key, value in put.items():
            by_interface.setdefault(key.interface, {})[key.aspect] = value
        for interface, aspects in by_interface.items():
            try:
                seen = self._routes.link_with_switches(interface)
                if seen is None:
                    self.links.pop(interface, None)
                    raise KernelError(errno.ENODEV, "find the interface", interface)
                self._set_up(*seen, aspects)
            except KernelError as error:
                gone = error.errno in (errno.ENODEV, errno.ENOENT)
                told = KernelError(errno.ENODEV, "find the interface", interface) if gone else error
                failed.update((key, told) for key in put if key.interface == interface)
        return Outcome(failed)

    def _set_up(self, link: Link, switches: Mapping[str, int], aspects: Mapping[str, bool]) -> None:
        self.links[link.name] = link
        if aspects.get("ipv4"):
            if wrong := _wrong("ipv4", switches):
                self._routes.set_link(link.index, subject=link.name, switches=wrong)
                self.writes += 1
            if not _answers_at_once(link):
                self._write(_PROXY_DELAY.format(link.name), "0")
        if aspects.get("ipv6"):
            for name, value in _wrong("ipv6", switches).items():
                self._write(f"net/ipv6/conf/{link.name}/{name.removeprefix('ipv6/')}", str(value))
        up = aspects.get("up", link.up)
        if up != link.up:
            self._routes.set_link(link.index, subject=link.name, up=up)
            self.writes += 1
            self.links[link.name] = dataclasses.replace(link, up=up)
        if aspects.get("ipv6"):
            self._ensure_gateway(link)

    def _ensure_gateway(self, link: Link) -> None:
        """The address is there, and not waiting for a duplicate to answer: as long as it waits it does not answer itself."""
        tentative = self._gateways(link.index).get(link.index)
        if tentative is False:
            return
        if tentative:
            self._routes.delete_address(link.index, GATEWAY_V6)
            self.writes += 1
        self._routes.add_address(link.index, GATEWAY_V6, scope=_SCOPE_LINK, no_dad=True)
        self.writes += 1

    def _write(self, path: str, value: str) -> None:
        sysctl.write(path, value)
        self.writes += 1


def _answers_at_once(link: Link) -> bool:
    """Whether proxy ARP waits for nothing there."""
    try:
        return sysctl.read(_PROXY_DELAY.format(link.name)) == "0"
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return False


def _wrong(version: str, switches: Mapping[str, int]) -> dict[str, int]:
    """Those that are not as they should be, and how they should be."""
    return {
        name: value
        for name, value in SWITCHES.items()
        if name.startswith(version) and switches.get(name) != value
    }
