"""BGP between the nodes of a lab: borrowed addresses, a dead node in the mesh, a BIRD that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab_command import TORTIE, LabCommand, lab, wait_until

pytestmark = [pytest.mark.needs("bird", "fping"), pytest.mark.timeout(120)]

DEAD = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "Node",
    "metadata": {"name": "dead"},
    "spec": {"bgp": {"ipv4Address": "172.30.0.99/24"}},
}


def environment(made: LabCommand, *more: str) -> dict[str, str]:
    return {**os.environ, **made.exports(*more)}


def ping(made: LabCommand, place: str, address: str) -> bool:
    return "alive" in made.inside(place, "fping", "-t", "300", "-r", "1", address, check=False)


def pings(netns: str, address: str, seconds: float) -> subprocess.Popen[str]:
    count = str(int(seconds * 100))
    return subprocess.Popen(
        ["ip", "netns", "exec", netns, "fping", "-q", "-p10", "-t500", f"-c{count}", address],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def lost(process: subprocess.Popen[str]) -> int:
    _, said = process.communicate(timeout=60)
    sent, received = (int(part) for part in said.split("= ")[1].split("/")[:2])
    assert sent > 500
    return sent - received


def test_a_borrowed_address_is_reached_from_everywhere(unique_name: Callable[[], str]) -> None:
    with lab(unique_name(), "--nodes", "3", "--pool", "10.77.0.0/26") as made:
        owner = made.add_pod("owner", "node1")
        borrower = made.add_pod("borrower", "node2")
        address = borrower["ips"][0]
        routes = made.inside("node1", "ip", "route")
        assert f"blackhole {owner['ips'][0].rsplit('.', 1)[0]}" in routes
        third = made.add_pod("third", "node3")
        for place in ("node1", "default/owner", "node3", "default/third", "node2"):
            wait_until(partial(ping, made, place, address), f"{address} from {place}", 5)
        for place in ("node1", "node2", "default/borrower"):
            assert ping(made, place, third["ips"][0])
        report = made.json("check", "reachability")
        assert report["ok"]
        made.run("lab", "pod", "rm", "borrower")
        wait_until(lambda: address not in made.inside("node1", "ip", "route"), "the route to go", 5)


def test_killing_bird_beside_a_dead_node_loses_nothing(unique_name: Callable[[], str], run_dir: Path) -> None:
    with lab(unique_name(), "--nodes", "3") as made:
        first, second = made.add_pod("a", "node1"), made.add_pod("b", "node2")
        document = run_dir / "dead.json"
        document.write_text(json.dumps(DEAD))
        made_on = environment(made)
        subprocess.run([*TORTIE, "apply", "-f", str(document)], env=made_on, check=True)
        wait_until(lambda: "dead" in _peers(made), "the dead node in the mesh")
        running = [pings(first["netns"], second["ips"][0], 12), pings(second["netns"], first["ips"][0], 12)]
        before = made.node("node1")["bird_pid"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: made.pid("node1/bird") not in (None, before), "another BIRD", 5)
        third = made.add_pod("c", "node3")
        wait_until(
            lambda: ping(made, "default/a", third["ips"][0]), "a route that came after the restart", 10
        )
        assert [lost(each) for each in running] == [0, 0]
        sessions = _peers(made)
        assert sessions["node2"]["up"]
        assert not sessions["dead"]["up"]
        assert "172.30.0.99 (dead)" in sessions["dead"]["reason"]


def _peers(made: LabCommand) -> dict[str, Any]:
    """The IPv4 sessions of node1, by the peer's node. The command ends with 1 while one is down."""
    done = subprocess.run(
        [*TORTIE, "node", "status", "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(made, "--node", "node1"),
    )
    assert done.returncode in (0, 1), done.stderr
    return {row["node"]: row for row in json.loads(done.stdout)["sessions"]}
