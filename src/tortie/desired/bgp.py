"""What this node's BIRD should speak: itself, its peers, and what it lets out and in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tortie.desired.table import Table
from tortie.net.addresses import Address, Prefix


@dataclass(frozen=True, kw_only=True)
class ExportPool:
    """A pool as BGP sees it: routes within it leave this node unless ``export`` is False."""

    prefix: Prefix
    export: bool = True


@dataclass(frozen=True, kw_only=True)
class BGPNodeRow:
    """The local speaker. ``router_id`` is the IPv4 address, or 32 bits derived from the node's name without one."""

    node: str
    router_id: str
    as_number: int
    ipv4: Address | None = None
    ipv6: Address | None = None
    listen_port: int = 179
    bind_to_node_address: bool = False
    log_severity: str = "Info"
    ignored_interfaces: tuple[str, ...] = ()
    interface_prefixes: tuple[str, ...] = ("cali",)
    pools: tuple[ExportPool, ...] = ()
    route_protocol: int = 3
    """The protocol number of routes to local workloads that must stay at home (`SettingsRow.route_protocol`)."""


@dataclass(frozen=True, kw_only=True)
class BGPPeerRow:
    """One session. The table's key is the protocol's name in BIRD (``Mesh_172_30_0_12``)."""

    kind: Literal["mesh", "node", "global"]
    address: Address
    as_number: int
    node: str = ""
    """The peer's node name, where the peer is a node of ours."""
    port: int = 179
    source_address: Address | None = None
    passive: bool = False
    next_hop: Literal["auto", "self", "keep"] = "auto"
    multihop: bool = True
    ttl_security: int | None = None
    max_restart_seconds: int | None = None
    keepalive_seconds: int | None = None
    password: str | None = None


def session_name(kind: str, address: Address, port: int = 179) -> str:
    """A session's key, as Calico names it: ``Mesh_172_30_0_12``, ``Global_10_0_0_1_port_1790``."""
    name = f"{kind.capitalize()}_{address}".replace(".", "_").replace(":", "_")
    return name if port == 179 else f"{name}_port_{port}"


BGP_NODE: Table[str, BGPNodeRow] = Table("bgp-node", BGPNodeRow)
"""One row, by the node's name; none when the node speaks no BGP."""

BGP_PEERS: Table[str, BGPPeerRow] = Table("bgp-peers", BGPPeerRow)
