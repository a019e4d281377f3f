"""BGP sessions as ``tortie node status`` shows them: what BIRD says, beside what was wanted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tortie.desired.bgp import BGPPeerRow
from tortie.host.bird import BirdSession

MISSING = "Missing"
"""The state of a session that is wanted and that BIRD does not have."""


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One session. ``kind`` is ``mesh``, ``node``, ``global``, or ``unknown`` when no resource asks for it; ``state`` is that of
    BGP's own machine (``Established``), or `MISSING`; ``reason`` says why the session is not up, and is empty when it is."""

    name: str
    peer: str
    node: str
    kind: str
    as_number: int
    up: bool
    state: str
    since: str
    reason: str
    imported: int = 0
    exported: int = 0


def session_rows(peers: Mapping[str, BGPPeerRow], sessions: Iterable[BirdSession]) -> list[SessionRow]:
    """Every session that BIRD has or should have, by IP version and name."""
    known = {session.name: session for session in sessions}
    rows = [_row(name, peers.get(name), known.get(name)) for name in {*known, *peers}]
    return sorted(rows, key=lambda row: (":" in row.peer, row.name))


def _row(name: str, peer: BGPPeerRow | None, session: BirdSession | None) -> SessionRow:
    told = session or BirdSession(name=name, up=False, state=MISSING, since="")
    return SessionRow(
        name=name,
        peer=str(peer.address) if peer else told.address,
        node=peer.node if peer else "",
        kind=peer.kind if peer else "unknown",
        as_number=peer.as_number if peer else told.as_number,
        up=told.up,
        state=told.state,
        since=told.since,
        reason=why_down(peer, session),
        imported=told.imported,
        exported=told.exported,
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


def why_down(peer: BGPPeerRow | None, session: BirdSession | None) -> str:
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
        return f"waits for {where} to connect: is it up, and does its BIRD know this node?"
    return f"connects to {where}"
