"""A node's address changes while it runs: followed, or refused with a reason. The agents look every second here."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.lab_command import LabCommand, lab, wait_until
from tests.lab.traffic import no_loss

pytestmark = pytest.mark.needs("netns", "bird", "fping")


@pytest.fixture(scope="module")
def shared() -> Iterator[LabCommand]:
    """Two nodes with two pods on the first and one on the second."""
    with lab(
        f"tt-{os.getpid()}-move", "--nodes", "2", environment={"AUTODETECT_POLL_INTERVAL": "1s"}
    ) as made:
        for name, node in (("a1", "node1"), ("b1", "node1"), ("a2", "node2")):
            made.add_pod(name, node)
        yield made


def _ip(made: LabCommand, pod: str) -> str:
    return str(
        next(row["ips"][0] for node in made.status()["nodes"] for row in node["pods"] if row["name"] == pod)
    )


def _known(made: LabCommand, node: str) -> str:
    return str(made.get("node", node)["spec"]["bgp"]["ipv4Address"])


def _readdress(made: LabCommand, node: str, old: str, new: str) -> None:
    # With the last address of a network its routes go, the default route among them.
    made.here(node, "ip", "addr", "del", old, "dev", "eth0")
    made.here(node, "ip", "addr", "add", new, "dev", "eth0")
    made.here(node, "ip", "route", "replace", "default", "via", "172.30.0.1")


def test_a_change_is_followed(shared: LabCommand) -> None:
    agent = shared.node("node1")["agent_pid"]
    with no_loss(shared, ("a1", _ip(shared, "b1"))):
        _readdress(shared, "node1", "172.30.0.11/24", "172.30.0.77/24")
        wait_until(lambda: _known(shared, "node1") == "172.30.0.77/24", "the Node says the new address", 10)
        wait_until(lambda: shared.reaches("a1", _ip(shared, "a2")), "the other node's pod is reached", 30)
        wait_until(lambda: shared.reaches("node2", _ip(shared, "a1")), "and the way back", 30)
    assert " via 172.30.0.77 " in shared.here("node2", "ip", "route", "show", "proto", "bird")
    wait_until(
        lambda: "172.30.0.77" in shared.here("node2", "nft", "list", "set", "ip", "tortie", "all-hosts"),
        "no NAT to the new address",
    )
    assert shared.node("node1")["agent_pid"] == agent
    wait_until(lambda: shared.ready("node1"), "the agent is ready")
    _readdress(shared, "node1", "172.30.0.77/24", "172.30.0.11/24")
    wait_until(lambda: _known(shared, "node1") == "172.30.0.11/24", "the old address is followed too", 10)
    wait_until(lambda: shared.reaches("a1", _ip(shared, "a2")), "the other node's pod is reached", 30)


def test_another_nodes_address_is_refused_and_the_pods_stay(shared: LabCommand) -> None:
    _readdress(shared, "node1", "172.30.0.11/24", "172.30.0.12/24")
    try:
        wait_until(lambda: shared.fetch("node1", 9099, "/readiness")[0] == 503, "it is refused", 10)
        said = shared.fetch("node1", 9099, "/readiness")[1]
        assert "172.30.0.12" in said
        assert "node2" in said
        assert shared.fetch("node1", 9099, "/liveness")[0] == 200
        assert _known(shared, "node1") == "172.30.0.11/24"
        assert shared.reaches("a1", _ip(shared, "b1")), "on the node nothing changes"
    finally:
        _readdress(shared, "node1", "172.30.0.12/24", "172.30.0.11/24")
        # Whom the others took for node2 in between.
        for node in ("fabric", "node2"):
            shared.here(node, "ip", "neigh", "flush", "all")
    wait_until(lambda: shared.ready("node1"), "it is ready again", 10)
    wait_until(lambda: shared.reaches("a1", _ip(shared, "a2")), "the other node's pod is reached", 30)


def test_no_address_at_all_is_explained(shared: LabCommand) -> None:
    shared.here("node1", "ip", "addr", "flush", "dev", "eth0")
    try:
        wait_until(lambda: shared.fetch("node1", 9099, "/readiness")[0] == 503, "it is told", 10)
        assert "eth0" in shared.fetch("node1", 9099, "/readiness")[1]
        assert shared.reaches("a1", _ip(shared, "b1")), "on the node nothing changes"
    finally:
        shared.here("node1", "ip", "addr", "add", "172.30.0.11/24", "dev", "eth0")
        shared.here("node1", "ip", "route", "replace", "default", "via", "172.30.0.1")
    wait_until(lambda: shared.ready("node1"), "it is ready again", 10)
    wait_until(lambda: shared.reaches("a1", _ip(shared, "a2")), "the other node's pod is reached", 30)
