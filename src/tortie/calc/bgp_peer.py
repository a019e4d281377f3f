"""One BGPPeer as seen from one node: the session that it asks for, or why it cannot be had."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from tortie.calc.durations import seconds
from tortie.calc.hosts import Host, as_number_of
from tortie.calc.selection import selects
from tortie.desired.bgp import BGPPeerRow
from tortie.net.addresses import Address
from tortie.resources.bgp_peer import BGPPeerSpec
from tortie.resources.spec import json_name

NOT_ACTED_ON = (
    "peer_selector",
    "local_workload_selector",
    "local_as_number",
    "num_allowed_local_as_numbers",
    "reachable_by",
    "filters",
    "password",
)
"""A peer that sets one of these would speak otherwise than its author means: it is reported, and not spoken to."""

_PEER = re.compile(
    r"\[(?P<v6>[^\]]+)\](?::(?P<p6>\d+))?$|(?P<v4>[^:]+)(?::(?P<p4>\d+))?$|(?P<bare>[0-9a-fA-F:.]+)$"
)


class Unsupported(ValueError):
    """The peer asks for what cannot be done; ``field`` says where."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def concerns(spec: BGPPeerSpec, host: Host) -> bool:
    """Whether this node is meant."""
    if spec.node:
        return spec.node == host.name
    return not spec.node_selector or selects(spec.node_selector, host.labels)


def parse_peer(text: str) -> tuple[Address, int]:
    """``10.0.0.1``, ``10.0.0.1:1790``, ``fd00::1`` or ``[fd00::1]:1790`` as address and port. Raises `ValueError`."""
    match = _PEER.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no address with or without a port")
    address = match["v6"] or match["v4"] or match["bare"]
    return Address.parse(address), int(match["p6"] or match["p4"] or 179)


def peer_row(spec: BGPPeerSpec, host: Host, names: Callable[[Address], str]) -> BGPPeerRow:
    """The session. ``names`` tells which node of ours speaks at an address. Raises `Unsupported`."""
    for field in NOT_ACTED_ON:
        if getattr(spec, field):
            raise Unsupported(
                f"spec.{json_name(field)}", "is set, and Tortie does not act on it yet: no session is set up"
            )
    try:
        address, port = parse_peer(spec.peer_ip)
    except ValueError as error:
        raise Unsupported("spec.peerIP", str(error)) from None
    try:
        as_number = as_number_of(spec.as_number)
    except ValueError:
        as_number = None
    if not as_number:
        raise Unsupported("spec.asNumber", "names no AS number")
    own = host.address(address.version)
    if own is None:
        raise Unsupported(
            "spec.peerIP", f"{address} is IPv{address.version}, and {host.name} has no such address"
        )
    node = names(address)
    kind: Literal["node", "global"] = "node" if spec.node or spec.node_selector else "global"
    next_hop = _NEXT_HOPS[spec.next_hop_mode or ("Keep" if spec.keep_original_next_hop else "Auto")]
    return BGPPeerRow(
        kind=kind,
        address=address,
        as_number=as_number,
        node=node,
        port=port,
        source_address=None if spec.source_address == "None" else own,
        passive=bool(node) and is_passive(own, address),
        next_hop=next_hop,
        ttl_security=spec.ttl_security,
        max_restart_seconds=_whole_seconds("spec.maxRestartTime", spec.max_restart_time),
        keepalive_seconds=_whole_seconds("spec.keepaliveTime", spec.keepalive_time),
    )


_NEXT_HOPS: Mapping[str, Literal["auto", "self", "keep"]] = {"Auto": "auto", "Self": "self", "Keep": "keep"}


def is_passive(own: Address, peer: Address) -> bool:
    """Of two nodes of ours, the one whose peer's address is greater as a string waits to be called."""
    return str(peer) > str(own)


def _whole_seconds(field: str, written: str | None) -> int | None:
    if not written:
        return None
    try:
        return round(seconds(written))
    except ValueError as error:
        raise Unsupported(field, str(error)) from None
