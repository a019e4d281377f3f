"""The node's own switches under /proc/sys."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import ClassVar

from tortie.dataplane.api import Outcome
from tortie.dataplane.linux.drivers.thread import KernelThread
from tortie.dataplane.linux.managers.node import FORWARD_V4, FORWARD_V6, REVERSE_PATH, switch_value
from tortie.errors import KernelError, TortieError
from tortie.kernel import sysctl
from tortie.kernel.api import Routing

_LOOSE = "2"


class NodeDriver:
    """A machine without IPv6 has nothing to switch there, which is success."""

    name: ClassVar[str] = "node"

    def __init__(self, routes: Routing, thread: KernelThread) -> None:
        self.writes = 0
        self._routes = routes
        self._thread = thread

    async def read(self) -> Mapping[str, str]:
        return await self._thread.run(self._read)

    async def apply(self, put: Mapping[str, str], gone: frozenset[str]) -> Outcome:
        """What nobody wants any more stays as it is."""
        return await self._thread.run(lambda: self._apply(put))

    def _read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for key in (FORWARD_V4, FORWARD_V6, REVERSE_PATH):
            try:
                value = sysctl.read(key)
            except KernelError as error:
                if error.errno == errno.ENOENT and key == FORWARD_V6:
                    found[key] = "1"
                continue
            found[key] = switch_value(key, value)
        return found

    def _apply(self, put: Mapping[str, str]) -> Outcome:
        failed: dict[str, TortieError] = {}
        for key, value in put.items():
            try:
                self._set(key, value)
            except KernelError as error:
                failed[key] = error
        return Outcome(failed)

    def _set(self, key: str, value: str) -> None:
        if key == REVERSE_PATH:
            if switch_value(key, sysctl.read(key)) != value:
                self._write(key, _LOOSE)
            return
        try:
            if sysctl.read(key) == value:
                return
        except KernelError as error:
            if error.errno == errno.ENOENT and key == FORWARD_V6:
                return
            raise
        if key == FORWARD_V6:
            self._keep_router_advertisements()
        self._write(key, value)

    def _keep_router_advertisements(self) -> None:
        """An uplink that learned its default route from a router would forget it once the node forwards, but for
        ``accept_ra`` 2 (kernel: ``ip-sysctl``)."""
        for link, switches in self._routes.links_with_switches():
            if (
                switches.get("ipv6/accept_ra") == 1
                and not link.loopback
                and switches.get("ipv6/disable_ipv6") == 0
            ):
                self._write(f"net/ipv6/conf/{link.name}/accept_ra", "2")

    def _write(self, key: str, value: str) -> None:
        sysctl.write(key, value)
        self.writes += 1
