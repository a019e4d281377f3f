"""Rows of ``desired.bgp`` to the one file that BIRD reads. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortie.dataplane.bird.renderer import render
from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.desired.bgp import BGP_NODE, BGP_PEERS, BGPNodeRow, BGPPeerRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import InvalidResource, TortieError

CONFIGURATION = "bird.conf"
"""The only key that this manager's driver knows."""


class BirdManager:
    """Keeps the rows, renders once a round, and tells the tracker of the text.

    A peer that BIRD's language cannot express is left out; when it is the node's own row, the last good text stands.
    """

    def __init__(self, tracker: DeltaTracker[str, str]) -> None:
        self._tracker = tracker
        self._nodes: dict[str, BGPNodeRow] = {}
        self._peers: dict[str, BGPPeerRow] = {}
        self._refused: Mapping[DesiredKey, TortieError] = {}
        self._dirty = True

    @property
    def peers(self) -> Mapping[str, BGPPeerRow]:
        """The peers as they are wanted, by BIRD's name for the session."""
        return self._peers

    @property
    def node(self) -> BGPNodeRow | None:
        """The local speaker, or None when this node speaks no BGP."""
        return next(iter(self._nodes.values()), None)

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table is BGP_NODE:
            _fold(self._nodes, delta)
        elif delta.table is BGP_PEERS:
            _fold(self._peers, delta)
        else:
            return
        self._dirty = True

    def settle(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        try:
            rendered = render(self.node, self._peers)
        except InvalidResource as error:
            self._refused = {DesiredKey(BGP_NODE.name, key): error for key in self._nodes}
            return
        self._refused = {DesiredKey(BGP_PEERS.name, key): error for key, error in rendered.refused.items()}
        self._tracker.want(CONFIGURATION, rendered.text)

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        """The rows that are not real: those that cannot be said and, as there is one file, all when the driver failed."""
        error = failed.get(CONFIGURATION)
        if error is None:
            return self._refused
        keys = [DesiredKey(BGP_NODE.name, key) for key in self._nodes]
        keys += [DesiredKey(BGP_PEERS.name, key) for key in self._peers]
        return {**dict.fromkeys(keys, error), **self._refused}


def _fold(rows: dict[str, Any], delta: Delta[Any, Any]) -> None:
    for key in delta.gone:
        rows.pop(key, None)
    rows.update(delta.put)
