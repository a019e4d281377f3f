"""Rows of routes to the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.routes import DEFAULT_METRIC_V6, PROTOCOL_TORTIE, Route, RouteKey
from tortie.net.addresses import Prefix


class RouteManager:
    """A blackhole of one single address would shadow its own workload: there is none."""

    def __init__(self, tracker: DeltaTracker[RouteKey, Route]) -> None:
        self._rows: dict[Prefix, RouteRow] = {}
        self._dirty: dict[Prefix, None] = {}
        self._settings = SettingsRow()
        self._claims: Claims[Prefix, RouteKey, Route] = Claims(ROUTES.name, tracker)

    @property
    def settings(self) -> SettingsRow:
        return self._settings

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == ROUTES:
            for prefix in delta.gone:
                self._rows.pop(prefix, None)
                self._dirty[prefix] = None
            self._rows.update(delta.put)
            self._dirty.update(dict.fromkeys(delta.put))
        elif delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            before, self._settings = self._settings, settings
            if _of_routes(before) != _of_routes(settings):
                self._dirty.update(dict.fromkeys(self._rows))

    def settle(self) -> None:
        for prefix in self._dirty:
            row = self._rows.get(prefix)
            route = to_route(prefix, row, self._settings) if row and self._settings.route_sync else None
            self._claims.set(prefix, {} if route is None else {route.key: route})
        self._dirty.clear()

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        return self._claims.blame(failed)


def _of_routes(settings: SettingsRow) -> tuple[object, ...]:
    return settings.route_protocol, settings.route_priority, settings.route_sync


def to_route(prefix: Prefix, row: RouteRow, settings: SettingsRow) -> Route | None:
    """The route as the kernel will tell it back."""
    if row.kind == "blackhole":
        if prefix.is_single:
            return None
        metric = DEFAULT_METRIC_V6 if prefix.version == 6 else 0
        return Route(prefix=prefix, kind="blackhole", metric=metric, protocol=PROTOCOL_TORTIE)
    return Route(
        prefix=prefix,
        interface=row.interface,
        scope="link" if prefix.version == 4 else "global",
        metric=settings.route_priority or (DEFAULT_METRIC_V6 if prefix.version == 6 else 0),
        protocol=PROTOCOL_TORTIE if row.advertised else settings.route_protocol,
    )
