"""Settings to the node's own switches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError

FORWARD_V4: Final = "net/ipv4/ip_forward"
FORWARD_V6: Final = "net/ipv6/conf/all/forwarding"
REVERSE_PATH: Final = "net/ipv4/conf/all/rp_filter"
"""``not-strict``: a node with two uplinks may hear a peer on the one that it would not answer by."""
NOT_STRICT: Final = "not-strict"
_STRICT: Final = "1"


def switch_value(key: str, value: str) -> str:
    """What the kernel says of a switch, in the words in which it is wanted."""
    return NOT_STRICT if key == REVERSE_PATH and value != _STRICT else value


class NodeManager:
    """Leaves all switches alone where ``ip_forwarding`` is off. What is unwanted later stays as it is: others may need it."""

    def __init__(self, tracker: DeltaTracker[str, str]) -> None:
        self._tracker = tracker
        self._wanted: dict[str, str] = {}
        self._settings = SettingsRow()

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == SETTINGS:
            self._settings = delta.put.get(NODE) or SettingsRow()

    def settle(self) -> None:
        wanted = (
            {FORWARD_V4: "1", FORWARD_V6: "1", REVERSE_PATH: NOT_STRICT}
            if self._settings.ip_forwarding
            else {}
        )
        for key in self._wanted.keys() - wanted.keys():
            self._tracker.unwant(key)
        for key in wanted.keys() - self._wanted.keys():
            self._tracker.want(key, wanted[key])
        self._wanted = wanted

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        return {DesiredKey(SETTINGS.name, NODE): error for error in failed.values()}
