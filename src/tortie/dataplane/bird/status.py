"""BGP sessions as ``tortie node status`` shows them: what BIRD says, beside what was wanted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tortie.desired.bgp import BGPNodeRow, BGPPeerRow
from tortie.host.bird import BirdSession, BirdStatus

PEER_TYPES: Mapping[str, str] = {
    "mesh": "node-to-node mesh",
    "node": "node specific",
    "global": "global",
}
"""Calico's words."""


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One session. ``state`` is ``up``, ``start`` or ``down`` as BIRD says it, or ``missing`` when BIRD has no such session;
    ``info`` is the state of BGP's own machine; ``reason`` says why the session is not up, empty when it is."""

    name: str
    version: int
    address: str
    node: str
    type: str
    state: str
    since: str
    info: str
    reason: str
    imported: int = 0
    exported: int = 0


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """The whole answer. ``bird`` is None, and ``problem`` says why, when BIRD does not answer."""

    node: str
    as_number: int
    bird: BirdStatus | None
    problem: str
    sessions: tuple[SessionRow, ...]


def node_status(
    node: BGPNodeRow | None,
    peers: Mapping[str, BGPPeerRow],
    bird: BirdStatus | None,
    sessions: Iterable[BirdSession] = (),
    problem: str = "",
) -> NodeStatus:
    """What was wanted and what BIRD says, put together."""
    if node is None:
        problem = problem or "this node speaks no BGP: its Node resource has no BGP address"
    return NodeStatus(
        node=node.node if node else "",
        as_number=node.as_number if node else 0,
        bird=bird,
        problem=problem,
        sessions=tuple(session_rows(sessions, peers)),
    )


def session_rows(sessions: Iterable[BirdSession], peers: Mapping[str, BGPPeerRow]) -> list[SessionRow]:
    """Every session that BIRD has or should have, by IP version and address."""
    known = {session.name: session for session in sessions}
    rows = [_row(name, known.get(name), peers.get(name)) for name in {*known, *peers}]
    return sorted(rows, key=lambda row: (row.version, row.address, row.name))


def _row(name: str, session: BirdSession | None, peer: BGPPeerRow | None) -> SessionRow:
    address = str(peer.address) if peer else (session.address if session else "")
    return SessionRow(
        name=name,
        version=6 if ":" in address else 4,
        address=address,
        node=peer.node if peer else "",
        type=PEER_TYPES[peer.kind] if peer else "unknown",
        state="missing" if session is None else "up" if session.up else "start",
        since=session.since if session else "",
        info=session.state if session else "",
        reason=why_down(session, peer),
        imported=session.imported if session else 0,
        exported=session.exported if session else 0,
    )


_CAUSES: tuple[tuple[str, str], ...] = (
    (r"Connection refused", "nothing listens for BGP at {where}: is BIRD running there?"),
    (
        r"No route to host|(Host|Network) is unreachable",
        "{where} cannot be reached: is it up, and is there a route?",
    ),
    (
        r"Connection timed out|Connect timeout",
        "{where} does not answer: is it up, is port {port} open, do the passwords agree?",
    ),
    (r"Cannot assign requested address", "this node does not have the address it should speak from"),
    (r"Invalid key|Password|MD5", "the passwords do not agree"),
    (r"Bad peer AS", "{where} has another AS number than the {as_number} expected of it"),
    (r"Hold timer expired", "{where} fell silent"),
    (
        r"Peer (de-configured|not configured)|Connection rejected",
        "{where} has no session with this node configured",
    ),
    (r"Connection (closed|reset)", "{where} closed the connection: does it know this node as a peer?"),
    (r"Administrative shutdown|Administrative reset|Cease", "{where} ended the session"),
)
"""What BIRD says, and what that means to the person who reads it."""


def why_down(session: BirdSession | None, peer: BGPPeerRow | None) -> str:
    """Why the session is not up, in words; empty when it is. BIRD's own words are kept where they are not understood."""
    if session is None:
        return "BIRD does not have this session: its configuration is not applied"
    if peer is None:
        return "" if session.up else session.reason or "no resource asks for this session any more"
    if session.up:
        return ""
    where = f"{peer.address} ({peer.node})" if peer.node else str(peer.address)
    for pattern, meaning in _CAUSES:
        if re.search(pattern, session.reason, re.IGNORECASE):
            return meaning.format(where=where, port=peer.port, as_number=peer.as_number)
    if session.reason:
        return session.reason
    if peer.passive:
        return f"waits for {where} to connect"
    return f"connects to {where}"
