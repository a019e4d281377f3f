"""The node's own switches, from FelixConfiguration and BGPConfiguration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tortie.desired.table import Table
from tortie.net.addresses import Prefix


class FailsafePort(NamedTuple):
    """A port of the node that no policy of a HostEndpoint closes, to and from ``net`` (None: everywhere)."""

    protocol: int
    port: int
    net: Prefix | None = None


def _failsafes(tcp: tuple[int, ...], udp: tuple[int, ...]) -> tuple[FailsafePort, ...]:
    return (*(FailsafePort(6, port) for port in tcp), *(FailsafePort(17, port) for port in udp))


FAILSAFE_INBOUND = _failsafes((22, 179, 2379, 2380, 5473, 6443, 6666, 6667), (68,))
"""Destination ports of what comes in, unless FelixConfiguration names others."""
FAILSAFE_OUTBOUND = _failsafes((179, 2379, 2380, 5473, 6443, 6666, 6667), (53, 67))
"""Destination ports of what goes out."""


@dataclass(frozen=True, kw_only=True)
class SettingsRow:
    """What the dataplane must know beside the rows: Felix's names, in snake_case, and its defaults.

    Durations are seconds; 0 switches a refresh off.
    """

    interface_prefixes: tuple[str, ...] = ("cali",)
    endpoint_to_host_action: Literal["Drop", "Return", "Accept"] = "Drop"
    nat_outgoing_exclusions: Literal["IPPoolsOnly", "IPPoolsAndHostIPs"] = "IPPoolsOnly"
    nat_port_range: tuple[int, int] | None = None
    nat_outgoing_address: str | None = None
    failsafe_inbound: tuple[FailsafePort, ...] = FAILSAFE_INBOUND
    failsafe_outbound: tuple[FailsafePort, ...] = FAILSAFE_OUTBOUND
    route_protocol: int = 3
    """The kernel's protocol number of routes to local workloads (3: boot)."""
    route_priority: int = 1024
    route_sync: bool = True
    remove_external_routes: bool = True
    source_spoofing: Literal["Disabled", "Any"] = "Disabled"
    ip_forwarding: bool = True
    route_refresh_seconds: float = 90.0
    interface_refresh_seconds: float = 90.0
    rules_refresh_seconds: float = 180.0
    deny_action: Literal["Drop", "Reject"] = "Drop"
    """What becomes of a packet that a policy denies (``nftablesFilterDenyAction``)."""
    mark_mask: int = 0xFFFF0000
    """Bits of the packet's mark that are ours: at least two."""
    log_prefix: str = "calico-packet"
    log_group: int | None = None
    """The NFLOG group that rules with the action Log write to; None: the kernel's log."""
    vxlan_port: int = 4789
    vxlan_from_workloads: bool = False
    ipip_from_workloads: bool = False
    drop_invalid: bool = True
    """Packets of no flow that conntrack can follow are dropped (not ``disableConntrackInvalidCheck``)."""
    applies_to_established: bool = False
    """A new deny cuts running connections, whatever policy it is in."""


SETTINGS: Table[str, SettingsRow] = Table("settings", SettingsRow)
"""One row; its key is `NODE`."""

NODE = "node"
