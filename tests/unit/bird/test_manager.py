"""Rows to the one file, and failures back to rows."""

from __future__ import annotations

import dataclasses

from tortie.dataplane.bird.manager import CONFIGURATION, BirdManager
from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.desired.bgp import BGP_NODE, BGP_PEERS, BGPNodeRow, BGPPeerRow
from tortie.desired.routes import ROUTES
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import ProgramFailed
from tortie.net.addresses import Address

NODE = BGPNodeRow(node="n1", router_id="10.0.0.1", as_number=64512, ipv4=Address.parse("10.0.0.1"))
PEER = BGPPeerRow(kind="mesh", address=Address.parse("10.0.0.2"), as_number=64512)


def manager() -> tuple[BirdManager, DeltaTracker[str, str]]:
    tracker: DeltaTracker[str, str] = DeltaTracker()
    made = BirdManager(tracker)
    made.on_delta(Delta(BGP_NODE, {"n1": NODE}))
    made.on_delta(Delta(BGP_PEERS, {"Mesh_10_0_0_2": PEER}))
    made.settle()
    return made, tracker


def test_rows_become_one_text() -> None:
    made, tracker = manager()
    before = tracker.wanted[CONFIGURATION]
    assert "neighbor 10.0.0.2" in before
    made.on_delta(Delta(ROUTES, {}))
    made.settle()
    assert tracker.wanted[CONFIGURATION] is before, "what does not concern BIRD renders nothing"
    made.on_delta(Delta(BGP_PEERS, {}, frozenset({"Mesh_10_0_0_2"})))
    made.settle()
    assert "neighbor" not in tracker.wanted[CONFIGURATION]
    assert (made.node, dict(made.peers)) == (NODE, {})


def test_a_driver_that_fails_fails_every_row() -> None:
    made, _ = manager()
    assert made.blame({}) == {}
    error = ProgramFailed("bird -p", 1, "line 3")
    assert made.blame({CONFIGURATION: error}) == {
        DesiredKey(BGP_NODE.name, "n1"): error,
        DesiredKey(BGP_PEERS.name, "Mesh_10_0_0_2"): error,
    }


def test_a_refused_peer_is_blamed_alone() -> None:
    made, tracker = manager()
    made.on_delta(Delta(BGP_PEERS, {"Bad": dataclasses.replace(PEER, password='"')}))
    made.settle()
    assert "neighbor 10.0.0.2" in tracker.wanted[CONFIGURATION]
    assert list(made.blame({})) == [DesiredKey(BGP_PEERS.name, "Bad")]


def test_a_refused_node_leaves_the_last_good_text() -> None:
    made, tracker = manager()
    good = tracker.wanted[CONFIGURATION]
    made.on_delta(Delta(BGP_NODE, {"n1": dataclasses.replace(NODE, ignored_interfaces=('"',))}))
    made.settle()
    assert tracker.wanted[CONFIGURATION] == good
    assert list(made.blame({})) == [DesiredKey(BGP_NODE.name, "n1")]
    made.on_delta(Delta(BGP_NODE, {"n1": NODE}))
    made.settle()
    assert made.blame({}) == {}
