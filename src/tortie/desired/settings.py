"""The node's own switches, from FelixConfiguration and BGPConfiguration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tortie.desired.table import Table


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


SETTINGS: Table[str, SettingsRow] = Table("settings", SettingsRow)
"""One row; its key is `NODE`."""

NODE = "node"
