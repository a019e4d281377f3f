"""Rows of ``desired.bgp`` to the one file that BIRD reads. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortie.dataplane.bird.renderer import render
from tortie.desired.bgp import BGP_NODE, BGP_PEERS, BGPNodeRow, BGPPeerRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import InvalidResource, TortieError

CONFIGURATION = "bird.conf"
"""The only key that this manager's driver knows."""


class BirdManager:
    """Keeps the rows, renders once a round.

    After `settle`, ``wanted`` is what the driver should hold (nothing while no valid text was ever rendered), and
    ``refused`` the rows that BIRD's language cannot express. A peer of those is left out; when it is the node's own row,
    the last good text stands.
    """

    tables = (BGP_NODE, BGP_PEERS)

    def __init__(self) -> None:
        self._nodes: dict[str, BGPNodeRow] = {}
        self._peers: dict[str, BGPPeerRow] = {}
        self._dirty = True
        self.wanted: Mapping[str, str] = {}
        self.refused: Mapping[DesiredKey, TortieError] = {}

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
            self.refused = {DesiredKey(BGP_NODE.name, key): error for key in self._nodes}
            return
        self.wanted = {CONFIGURATION: rendered.text}
        self.refused = {DesiredKey(BGP_PEERS.name, key): error for key, error in rendered.refused.items()}

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        """The driver's failures by desired key: one file, so each row that is in it."""
        error = failed.get(CONFIGURATION)
        if error is None:
            return {}
        keys = [DesiredKey(BGP_NODE.name, key) for key in self._nodes]
        keys += [DesiredKey(BGP_PEERS.name, key) for key in self._peers]
        return dict.fromkeys(keys, error)


def _fold(rows: dict[str, Any], delta: Delta[Any, Any]) -> None:
    for key in delta.gone:
        rows.pop(key, None)
    rows.update(delta.put)
