"""What the machine itself says, for the operator: routes of the kernel, and BIRD's sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tortie.agent.status import plain
from tortie.dataplane.bird.manager import BirdManager
from tortie.desired.bgp import BGPPeerRow
from tortie.host.bird import BirdSession
from tortie.kernel.bird import BirdControl
from tortie.kernel.rtnetlink import RouteSocket

MOST_ROUTES = 50_000
MAIN_TABLE = 254


class MachineView:
    """Reads, and changes nothing."""

    def __init__(self, bird: BirdManager, control: BirdControl) -> None:
        self._bird = bird
        self._control = control

    async def routes(self) -> list[dict[str, Any]]:
        """The routes of the main table, in both IP versions. Raises `KernelError`."""
        return await asyncio.to_thread(_read_routes)

    async def sessions(self) -> dict[str, Any]:
        """``bird`` (null without BGP) and ``sessions``. Raises `KernelError` when no BIRD answers."""
        if self._bird.node is None:
            return {"bird": None, "sessions": []}
        status = await self._control.status()
        sessions = await self._control.sessions()
        return {"bird": plain(status), "sessions": session_rows(self._bird.peers, sessions)}


def session_rows(peers: Mapping[str, BGPPeerRow], sessions: Sequence[BirdSession]) -> list[dict[str, Any]]:
    """Every session of BIRD's beside what is wanted of it; a wanted peer that BIRD does not have is ``Missing``."""
    seen = {session.name: session for session in sessions}
    rows: list[dict[str, Any]] = []
    for name in sorted(peers.keys() | seen.keys()):
        peer, session = peers.get(name), seen.get(name)
        row: dict[str, Any] = {
            "name": name,
            "peer": str(peer.address)
            if peer is not None
            else (session.address if session is not None else ""),
            "node": peer.node if peer is not None else "",
            "kind": peer.kind if peer is not None else "unknown",
            "as_number": peer.as_number
            if peer is not None
            else (session.as_number if session is not None else 0),
        }
        if session is None:
            row |= {
                "up": False,
                "state": "Missing",
                "since": "",
                "reason": "BIRD has not been told of this peer",
            }
            row |= {"imported": 0, "exported": 0}
        else:
            row |= {
                "up": session.up,
                "state": session.state,
                "since": session.since,
                "reason": session.reason,
            }
            row |= {"imported": session.imported, "exported": session.exported}
        rows.append(row)
    return rows


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
