"""Sessions as an operator sees them."""

from __future__ import annotations

import dataclasses

import pytest

from tortie.cli.node import page
from tortie.dataplane.bird.status import session_rows, why_down
from tortie.desired.bgp import BGPPeerRow
from tortie.host.bird import BirdSession
from tortie.net.addresses import Address

PEER = BGPPeerRow(kind="mesh", address=Address.parse("172.30.0.12"), as_number=64512, node="node2")
UP = BirdSession(
    name="Mesh_172_30_0_12",
    up=True,
    state="Established",
    since="2026-11-22 23:29:22",
    address="172.30.0.12",
    as_number=64512,
    reason="Socket: Connection reset by peer",
    imported=2,
    exported=1,
)
DOWN = dataclasses.replace(UP, up=False, state="Active", reason="")


def test_a_session_that_is_up_has_no_reason() -> None:
    [row] = session_rows({UP.name: PEER}, [UP])
    assert (row.peer, row.node, row.kind, row.up, row.state) == (
        "172.30.0.12",
        "node2",
        "mesh",
        True,
        "Established",
    )
    assert (row.reason, row.imported, row.exported) == ("", 2, 1)


@pytest.mark.parametrize(
    ("bird", "meaning"),
    [
        (
            "Socket: Connection refused",
            "nothing listens for BGP at 172.30.0.12 (node2): is BIRD running there?",
        ),
        ("Socket: No route to host", "172.30.0.12 (node2) cannot be reached"),
        ("Socket: Connection timed out", "does not answer: is it up, is port 179 open"),
        ("Received: Bad peer AS", "another AS number than the 64512"),
        ("Socket: Cannot assign requested address", "this node does not have the address"),
        ("Received: Hold timer expired", "172.30.0.12 (node2) fell silent"),
        ("BGP Error: Something new", "BGP Error: Something new"),
        ("", "connects to 172.30.0.12 (node2)"),
    ],
)
def test_why_a_session_is_down(bird: str, meaning: str) -> None:
    assert meaning in why_down(PEER, dataclasses.replace(DOWN, reason=bird))


def test_who_waits_says_so() -> None:
    assert why_down(dataclasses.replace(PEER, passive=True), DOWN).startswith(
        "waits for 172.30.0.12 (node2) to connect: is it up"
    )
    assert why_down(dataclasses.replace(PEER, node=""), DOWN) == "connects to 172.30.0.12"


def test_wanted_without_bird_and_bird_without_wanted() -> None:
    other = dataclasses.replace(UP, name="Node_10_0_0_9", address="10.0.0.9")
    missing, unknown = session_rows({"Mesh_172_30_0_12": PEER}, [other])
    assert (missing.state, missing.up, missing.kind) == ("Missing", False, "mesh")
    assert "its configuration is not applied" in missing.reason
    assert (unknown.kind, unknown.peer, unknown.node) == ("unknown", "10.0.0.9", "")


def test_the_page_reads_as_calicos() -> None:
    third = dataclasses.replace(PEER, address=Address.parse("172.30.0.13"), node="node3")
    rows = session_rows({UP.name: PEER, "Mesh_172_30_0_13": third}, [UP])
    bird = {"version": "2.0.12", "started": "2026-11-22 23:29:20", "recovering": True}
    text = page({"bird": bird, "sessions": [dataclasses.asdict(row) for row in rows]})
    lines = text.splitlines()
    assert lines[0] == "BIRD 2.0.12 is running since 2026-11-22 23:29:20."
    assert "waits for its peers" in lines[1]
    head = next(line for line in lines if "PEER ADDRESS" in line)
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "PEER ADDRESS",
        "NODE",
        "PEER TYPE",
        "STATE",
        "SINCE",
        "INFO",
    ]
    first = next(line for line in lines if "172.30.0.12" in line)
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "172.30.0.12",
        "node2",
        "node-to-node mesh",
        "up",
        "2026-11-22 23:29:22",
        "Established",
    ]
    assert "missing" in next(line for line in lines if "172.30.0.13" in line)
    assert "No IPv6 peers found." in text
    assert page({"bird": None, "sessions": []}).startswith("This node speaks no BGP")
