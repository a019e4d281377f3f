"""How this node speaks BGP, from BGPConfiguration."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.calc.durations import seconds
from tortie.calc.hosts import as_number_of
from tortie.calc.layers import layers_of, narrowest
from tortie.calc.outlet import Outlet
from tortie.calc.problems import Problems
from tortie.calc.scope import Scope
from tortie.desired.settings import NODE
from tortie.desired.table import Problem
from tortie.resources.bgp_configuration import DEFAULT_AS_NUMBER, BGPConfigurationSpec
from tortie.resources.resource import Resource
from tortie.resources.spec import json_name


@dataclass(frozen=True, kw_only=True)
class BGPSettings:
    """Calico's defaults where nothing is set."""

    mesh: bool = True
    as_number: int = DEFAULT_AS_NUMBER
    listen_port: int = 179
    bind_to_node_address: bool = False
    log_severity: str = "Info"
    ignored_interfaces: tuple[str, ...] = ()
    mesh_restart_seconds: int | None = None


NOT_ACTED_ON = (
    "service_cluster_ips",
    "service_external_ips",
    "service_load_balancer_ips",
    "communities",
    "prefix_advertisements",
    "local_workload_peering_ipv4",
    "local_workload_peering_ipv6",
)
"""Fields that we take and do nothing with yet."""


class BGPSettingsNode:
    """In: BGPConfiguration. Out: `settings`, one value under `NODE`."""

    def __init__(self, scope: Scope, problems: Problems) -> None:
        self.settings: Outlet[str, BGPSettings] = Outlet()
        self.settings.put(NODE, BGPSettings())
        self._scope = scope
        self._problems = problems
        self._resources: dict[str, Resource[BGPConfigurationSpec]] = {}
        self._dirty = False

    @property
    def current(self) -> BGPSettings:
        return self.settings.get(NODE) or BGPSettings()

    def on_update(self, name: str, resource: Resource[BGPConfigurationSpec] | None) -> None:
        if resource is None:
            self._resources.pop(name, None)
        else:
            self._resources[name] = resource
        self._dirty = True

    def flush(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        layers: list[BGPConfigurationSpec] = layers_of(self._resources, self._scope.node, lambda _: False)
        settings, problems = bgp_settings(layers)
        self._problems.report("bgp-settings", problems)
        self.settings.put(NODE, settings)


def bgp_settings(layers: list[BGPConfigurationSpec]) -> tuple[BGPSettings, list[Problem]]:
    """The settings from the widest to the narrowest layer, and what of them cannot be followed."""
    subject = "BGPConfiguration"
    problems = [
        Problem(subject, f"spec.{json_name(field)}", "is set, and Tortie does not act on it yet")
        for field in NOT_ACTED_ON
        if narrowest(layers, field)
    ]
    if narrowest(layers, "node_mesh_password") is not None:
        reason = "names a Secret, and this datastore has none: the mesh runs without a password"
        problems.append(Problem(subject, "spec.nodeMeshPassword", reason))
    mesh = narrowest(layers, "node_to_node_mesh_enabled")
    as_number = narrowest(layers, "as_number")
    restart = narrowest(layers, "node_mesh_max_restart_time")
    try:
        number = as_number_of(as_number) or DEFAULT_AS_NUMBER
    except ValueError:
        number = DEFAULT_AS_NUMBER
        problems.append(Problem(subject, "spec.asNumber", f"{as_number} is no AS number; {number} holds"))
    try:
        restart_seconds = None if restart is None else round(seconds(restart))
    except ValueError as error:
        restart_seconds = None
        problems.append(Problem(subject, "spec.nodeMeshMaxRestartTime", str(error)))
    return BGPSettings(
        mesh=True if mesh is None else bool(mesh),
        as_number=number,
        listen_port=narrowest(layers, "listen_port") or 179,
        bind_to_node_address=narrowest(layers, "bind_mode") == "NodeIP",
        log_severity=narrowest(layers, "log_severity_screen") or "Info",
        ignored_interfaces=narrowest(layers, "ignored_interfaces") or (),
        mesh_restart_seconds=restart_seconds,
    ), problems
