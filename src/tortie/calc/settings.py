"""The node's switches, from FelixConfiguration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tortie.calc.durations import seconds
from tortie.calc.established import APPLIES_TO_ESTABLISHED, is_true
from tortie.calc.hosts import Host, labels_of
from tortie.calc.layers import narrowest, resources_of
from tortie.calc.outlet import Outlet, Rows
from tortie.calc.problems import Problems
from tortie.calc.scope import Scope
from tortie.calc.selection import check_selector, selects
from tortie.desired.settings import NODE, SETTINGS, FailsafePort, SettingsRow
from tortie.desired.table import Problem
from tortie.net.addresses import Prefix
from tortie.resources.felix_configuration import FelixConfigurationSpec, ProtoPort
from tortie.resources.resource import Resource
from tortie.resources.spec import json_name


class SettingsNode:
    """In: FelixConfiguration, and the labels of the local node. Out: the one row of SETTINGS, also as `settings`."""

    def __init__(self, scope: Scope, hosts: Outlet[str, Host], problems: Problems) -> None:
        self.rows = Rows(SETTINGS)
        self.settings: Outlet[str, SettingsRow] = Outlet()
        self.settings.put(NODE, SettingsRow())
        self._scope = scope
        self._hosts = hosts
        self._problems = problems
        self._resources: dict[str, Resource[FelixConfigurationSpec]] = {}
        self._dirty = True
        hosts.subscribe(self._on_host)

    @property
    def current(self) -> SettingsRow:
        return self.settings.get(NODE) or SettingsRow()

    def _on_host(self, name: str) -> None:
        self._dirty = self._dirty or name == self._scope.node

    def on_update(self, name: str, resource: Resource[FelixConfigurationSpec] | None) -> None:
        if resource is None:
            self._resources.pop(name, None)
        else:
            check_selector(resource.spec.node_selector, "spec.nodeSelector")
            self._resources[name] = resource
        self._dirty = True

    def flush(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        node = self._scope.node
        labels = labels_of(None if node is None else self._hosts.get(node))
        found = resources_of(
            self._resources, node, lambda resource: selects(resource.spec.node_selector, labels)
        )
        row, problems = settings_row([resource.spec for resource in found])
        wishes = [resource.metadata.annotations.get(APPLIES_TO_ESTABLISHED) for resource in found]
        said = [wish for wish in wishes if wish is not None]
        row = replace(row, applies_to_established=bool(said) and is_true(said[-1]))
        self._problems.report("settings", problems)
        self.settings.put(NODE, row)
        self.rows.want(NODE, row)


def settings_row(layers: list[FelixConfigurationSpec]) -> tuple[SettingsRow, list[Problem]]:
    """The row from the widest to the narrowest layer. A value that cannot be understood leaves the default and is reported."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for column, (field, convert) in _COLUMNS.items():
        value = narrowest(layers, field, empty_is_set=convert is _failsafes)
        if value is None:
            continue
        try:
            values[column] = convert(value)
        except ValueError as error:
            problems.append(Problem("FelixConfiguration", f"spec.{json_name(field)}", str(error)))
    return SettingsRow(**values), problems


def _prefixes(text: str) -> tuple[str, ...]:
    prefixes = tuple(part.strip() for part in text.split(",") if part.strip())
    if not prefixes:
        raise ValueError("names no prefix of workload interfaces")
    return prefixes


def _port_range(value: object) -> tuple[int, int]:
    low, _, high = str(value).partition(":")
    first, last = int(low), int(high or low)
    if not 0 < first <= last < 65536:
        raise ValueError(f"{value} is no range of ports such as 32768:65535")
    return first, last


_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


def _failsafes(ports: Sequence[ProtoPort]) -> tuple[FailsafePort, ...]:
    found: list[FailsafePort] = []
    for each in ports:
        protocol = _PROTOCOLS.get(each.protocol.lower())
        if protocol is None:
            raise ValueError(f"{each.protocol} is no protocol with ports: write {', '.join(_PROTOCOLS)}")
        net = Prefix.parse(each.net, strict=False) if each.net else None
        found.append(FailsafePort(protocol, each.port, net))
    return tuple(found)


def _mark_mask(value: int) -> int:
    if not 0 < value < 1 << 32 or value.bit_count() < 2:
        raise ValueError(f"{value:#x} leaves less than two bits of a packet's mark")
    return value


def _enabled(value: object) -> bool:
    return str(value) == "Enabled"


def _inverted(value: object) -> bool:
    return not value


_COLUMNS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "interface_prefixes": ("interface_prefix", _prefixes),
    "endpoint_to_host_action": ("default_endpoint_to_host_action", str.capitalize),
    "nat_outgoing_exclusions": ("nat_outgoing_exclusions", str),
    "nat_port_range": ("nat_port_range", _port_range),
    "nat_outgoing_address": ("nat_outgoing_address", str),
    "failsafe_inbound": ("failsafe_inbound_host_ports", _failsafes),
    "failsafe_outbound": ("failsafe_outbound_host_ports", _failsafes),
    "route_protocol": ("device_route_protocol", int),
    "route_priority": ("ipv4_normal_route_priority", int),
    "route_sync": ("route_sync_disabled", _inverted),
    "remove_external_routes": ("remove_external_routes", bool),
    "source_spoofing": ("workload_source_spoofing", str),
    "ip_forwarding": ("ip_forwarding", _enabled),
    "route_refresh_seconds": ("route_refresh_interval", seconds),
    "interface_refresh_seconds": ("interface_refresh_interval", seconds),
    "rules_refresh_seconds": ("nftables_refresh_interval", seconds),
    "deny_action": ("nftables_filter_deny_action", str.capitalize),
    "mark_mask": ("nftables_mark_mask", _mark_mask),
    "log_prefix": ("log_prefix", str),
    "vxlan_port": ("vxlan_port", int),
    "vxlan_from_workloads": ("allow_vxlan_packets_from_workloads", bool),
    "ipip_from_workloads": ("allow_ipip_packets_from_workloads", bool),
    "drop_invalid": ("disable_conntrack_invalid_check", _inverted),
}
"""Of each column: the field of FelixConfiguration that it comes from, and how its value is read."""
