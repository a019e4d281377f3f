"""What the machine itself says, for the operator: routes of the kernel, and BIRD's sessions."""

from __future__ import annotations

import asyncio
from typing import Any

from tortie.agent.status import plain
from tortie.dataplane.bird.manager import BirdManager
from tortie.dataplane.bird.status import session_rows
from tortie.kernel.bird import BirdControl
from tortie.kernel.rtnetlink import RouteSocket

MOST_ROUTES = 50_000
MAIN_TABLE = 254
GLOBAL_SCOPE = 0


class MachineView:
    """Reads, and changes nothing."""

    def __init__(self, bird: BirdManager, control: BirdControl) -> None:
        self._bird = bird
        self._control = control

    async def routes(self) -> list[dict[str, Any]]:
        """The routes of the main table, in both IP versions. Raises `KernelError`."""
        return await asyncio.to_thread(_read_routes)

    async def interfaces(self) -> list[dict[str, Any]]:
        """Every interface with its addresses of global scope. Raises `KernelError`."""
        return await asyncio.to_thread(_read_interfaces)

    async def sessions(self) -> dict[str, Any]:
        """``bird`` (null without BGP) and ``sessions``. Raises `KernelError` when no BIRD answers."""
        if self._bird.node is None:
            return {"bird": None, "sessions": []}
        status = await self._control.status()
        sessions = await self._control.sessions()
        return {"bird": plain(status), "sessions": plain(session_rows(self._bird.peers, sessions))}


def _read_routes() -> list[dict[str, Any]]:
    with RouteSocket() as kernel:
        names = {link.index: link.name for link in kernel.links()}
        routes = [
            route for version in (4, 6) for route in kernel.routes(version, table=MAIN_TABLE, names=names)
        ]
    return [
        {
            "prefix": str(route.prefix),
            "kind": route.kind,
            "interface": route.interface,
            "gateway": str(route.gateway) if route.gateway is not None else "",
            "protocol": route.protocol,
            "metric": route.metric,
            "source": str(route.prefsrc) if route.prefsrc is not None else "",
        }
        for route in routes[:MOST_ROUTES]
    ]


def _read_interfaces() -> list[dict[str, Any]]:
    with RouteSocket() as kernel:
        links = kernel.links()
        addresses = [found for found in kernel.addresses() if found.scope == GLOBAL_SCOPE]
    return [
        {
            "name": link.name,
            # Up, and so is the other end of its wire.
            "up": link.up and link.running,
            "mtu": link.mtu,
            "addresses": [str(found.interface.address) for found in addresses if found.index == link.index],
        }
        for link in links
    ]
