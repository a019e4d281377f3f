"""What the datastore says of the agent as a process, while it runs: log level, ports, time-outs.

Most of it changes at once. What the process was built around (`RESTART_FIELDS`) ends it with Felix's exit code 129, for the
service manager to start it again; the dataplane stays as it is meanwhile. What the environment says (``FELIX_…``) wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tortie.calc.durations import seconds
from tortie.calc.layers import layers_of, narrowest
from tortie.calc.selection import selects
from tortie.errors import InvalidResource
from tortie.observe.log import LEVELS
from tortie.resources.felix_configuration import FELIX_CONFIGURATION, FelixConfigurationSpec
from tortie.resources.node import NODE
from tortie.resources.resource import Put, Resource, Update

HEALTH_PORT = 9099
METRICS_PORT = 9091
RESTART_FIELDS = ("interface_prefix", "endpoint_status_path_prefix")
"""What interfaces, rules and files were made with."""


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """What holds now. Differing from Felix, metrics are on unless switched off, and for this host alone unless a host is set."""

    log_level: str = "info"
    health_enabled: bool = True
    health_host: str = "localhost"
    health_port: int = HEALTH_PORT
    metrics_enabled: bool = True
    metrics_host: str = "localhost"
    metrics_port: int = METRICS_PORT
    health_timeouts: tuple[tuple[str, float], ...] = ()
    endpoint_status_path_prefix: str = ""
    restart: tuple[Any, ...] = ()
    """The values of `RESTART_FIELDS`."""

    def needs_restart(self, before: ProcessSettings) -> tuple[str, ...]:
        """The fields whose change needs a new process."""
        pairs = zip(RESTART_FIELDS, before.restart, self.restart, strict=True)
        return tuple(field for field, old, new in pairs if old != new)


class RestartNeeded(Exception):
    """The configuration changed in a way that needs a new process; ``fields`` say which."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__(fields)
        self.fields = fields

    def __str__(self) -> str:
        return f"FelixConfiguration {', '.join(self.fields)} changed: starting anew"


class SettingsWatch:
    """Keeps the FelixConfigurations that concern this node, and says what they come to."""

    def __init__(self, node: str, environment: Mapping[str, str]) -> None:
        self._node = node
        self._environment = environment
        self._resources: dict[str, Resource[FelixConfigurationSpec]] = {}
        self._labels: Mapping[str, str] = {}

    def take(self, updates: Iterable[Update]) -> bool:
        """Note what concerns us; True when the settings may be others now."""
        changed = False
        for update in updates:
            key = update.key
            if key.kind == FELIX_CONFIGURATION:
                if isinstance(update, Put):
                    self._resources[key.name] = update.resource
                else:
                    self._resources.pop(key.name, None)
                changed = True
            elif key.kind == NODE and key.name == self._node:
                self._labels = update.resource.metadata.labels if isinstance(update, Put) else {}
                changed = True
        return changed

    def resolve(self) -> ProcessSettings:
        """The narrowest that is said of each; a value that cannot be understood counts as unset."""
        layers = layers_of(self._resources, self._node, self._selects)
        values: dict[str, Any] = {
            name: value
            for name, field in _FIELDS.items()
            if (value := self._said(field, narrowest(layers, field))) is not None
        }
        level = str(values.get("log_level", "")).lower()
        values["log_level"] = level if level in LEVELS else "info"
        values["health_timeouts"] = _timeouts(layers)
        values["restart"] = tuple(narrowest(layers, field) for field in RESTART_FIELDS)
        return ProcessSettings(**values)

    def _selects(self, found: Resource[FelixConfigurationSpec]) -> bool:
        try:
            return selects(found.spec.node_selector, self._labels)
        except InvalidResource:
            return False  # the calculation reports it

    def _said(self, field: str, stored: Any) -> Any:
        """The environment's word, in the type of the field; else what is stored."""
        text = self._environment.get(f"FELIX_{field.replace('_', '').upper()}")
        if not text:
            return stored
        if field.endswith("_port"):
            return int(text) if text.isdigit() and int(text) < 65536 else stored
        if field.endswith("_enabled"):
            return text.lower() in ("true", "1", "yes", "y", "t")
        return text


_FIELDS: Mapping[str, str] = {
    "log_level": "log_severity_screen",
    "health_enabled": "health_enabled",
    "health_host": "health_host",
    "health_port": "health_port",
    "metrics_enabled": "prometheus_metrics_enabled",
    "metrics_host": "prometheus_metrics_host",
    "metrics_port": "prometheus_metrics_port",
    "endpoint_status_path_prefix": "endpoint_status_path_prefix",
}


def _timeouts(layers: list[FelixConfigurationSpec]) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    for spec in layers:
        for override in spec.health_timeout_overrides or ():
            try:
                found[override.name] = seconds(override.timeout)
            except ValueError:
                continue
    return tuple(sorted(found.items()))
