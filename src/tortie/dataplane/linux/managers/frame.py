"""Settings to the chains and sets that always stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.rules.chains import frame
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import NftKey, NftValue


class FrameManager:
    """Without a settings row the defaults hold: they drop what a workload sends to the node."""

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue]) -> None:
        self._tracker = tracker
        self._settings = SettingsRow()
        self._dirty = True
        self._wanted: dict[NftKey, NftValue] = {}

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table != SETTINGS:
            return
        settings = delta.put.get(NODE, SettingsRow() if NODE in delta.gone else self._settings)
        self._dirty = self._dirty or settings != self._settings
        self._settings = settings

    def settle(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        wanted = frame(self._settings)
        for key, value in wanted.items():
            if key not in self._wanted or self._wanted[key] != value:
                self._tracker.want(key, value)
        for key in self._wanted.keys() - wanted.keys():
            self._tracker.unwant(key)
        self._wanted = wanted

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        for key, error in failed.items():
            if key in self._wanted:
                return {DesiredKey(SETTINGS.name, NODE): error}
        return {}

    def broken(self, failed: Mapping[Any, TortieError]) -> TortieError | None:
        """Why nothing that stands on this frame can be trusted; None when it stands."""
        return next((error for key, error in failed.items() if key in self._wanted), None)
