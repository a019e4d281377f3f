"""``tortie check reachability`` turns red, with the likely reason, and green again; health and metrics of every node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.lab_command import LabCommand, lab, wait_until

pytestmark = pytest.mark.needs("netns", "bird", "fping", "nftables")

NODES = ("node1", "node2")


@pytest.fixture(scope="module")
def shared() -> Iterator[LabCommand]:
    """Two nodes, two pods on the first and one on the second."""
    with lab(f"tt-{os.getpid()}-check", "--nodes", "2") as made:
        made.add_pod("a1", "node1")
        made.add_pod("b1", "node1")
        made.add_pod("a2", "node2")
        yield made


@pytest.fixture
def green(shared: LabCommand) -> Iterator[LabCommand]:
    """All is well before and after."""
    wait_until(lambda: _check(shared)[0] == 0, "all is well", 20)
    yield shared
    wait_until(lambda: _check(shared)[0] == 0, "all is well again", 30)


def _check(made: LabCommand) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    """The exit code, and the cases by source and destination."""
    done = made.run("check", "reachability", "-o", "json", check=False)
    report = json.loads(done.stdout)
    assert set(report) == {"ok", "cases"}, "every agent was asked"
    assert (done.returncode == 0) == report["ok"]
    assert done.returncode in (0, 1)
    return done.returncode, {(case["source"], case["destination"]): case for case in report["cases"]}


def _across(cases: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return cases["default/a1", "default/a2"]


def _reason(made: LabCommand) -> str:
    """Why a1 does not reach a2; and what stays on one node stays well."""
    code, cases = _check(made)
    case = _across(cases)
    assert code == 1
    assert not case["ok"]
    assert cases["default/a1", "default/b1"]["ok"], cases["default/a1", "default/b1"]
    return str(case["reason"])


def _birdc(made: LabCommand, node: str, *words: str) -> None:
    control = f"/run/tortie/labs/{made.name}/nodes/{node}/run/bird.ctl"
    subprocess.run(["birdc", "-s", control, *words], check=True, capture_output=True, timeout=10)


def test_a_session_that_is_down(green: LabCommand) -> None:
    _birdc(green, "node2", "disable", '"Mesh*"')
    try:
        wait_until(lambda: not green.reaches("a1", _ip(green, "a2")), "the routes are withdrawn")
        assert "BGP session down" in _reason(green)
        human = green.run("check", "reachability", check=False)
        assert human.returncode == 1
        assert "BGP session down" in human.stdout
        status = green.json("node", "status", "--run-dir", _run_dir(green, "node1"), check=False)
        assert [(row["node"], row["up"]) for row in status["sessions"]] == [("node2", False)]
        assert status["sessions"][0]["reason"]
    finally:
        _birdc(green, "node2", "enable", '"Mesh*"')


def test_no_route(green: LabCommand) -> None:
    green.apply(
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "BGPConfiguration",
            "metadata": {"name": "default"},
            "spec": {"nodeToNodeMeshEnabled": False},
        }
    )
    try:
        wait_until(lambda: not green.reaches("a1", _ip(green, "a2")), "the routes are withdrawn")
        assert "no route" in _reason(green)
    finally:
        green.delete("bgpconfiguration", "default")


def test_an_uplink_that_is_down(green: LabCommand) -> None:
    green.here("node2", "ip", "link", "set", "eth0", "down")
    try:
        reason = _reason(green)
        assert "interface down" in reason
        assert "eth0 of node2" in reason
    finally:
        green.here("node2", "ip", "link", "set", "eth0", "up")
        green.here("node2", "ip", "route", "replace", "default", "via", "172.30.0.1")


def test_a_pods_interface_that_is_down(green: LabCommand) -> None:
    routes = green.here("a2", "ip", "route")
    green.here("a2", "ip", "link", "set", "eth0", "down")
    try:
        reason = _reason(green)
        assert "interface down" in reason
        assert "default/a2" in reason
    finally:
        green.here("a2", "ip", "link", "set", "eth0", "up")
        green.here("a2", "ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        green.here("a2", "ip", "route", "add", "default", "via", "169.254.1.1")
        assert "169.254.1.1" in routes


def test_a_wire_that_is_too_narrow(green: LabCommand) -> None:
    green.here("node2", "ip", "link", "set", "eth0", "mtu", "1400")
    try:
        assert "wrong MTU" in _reason(green)
    finally:
        green.here("node2", "ip", "link", "set", "eth0", "mtu", "1500")


def test_a_rewritten_source(green: LabCommand) -> None:
    """Answers come, and yet it is not well: the packet that arrived bears another address."""
    rule = "add table ip oddity; add chain ip oddity post { type nat hook postrouting priority 50; }; "
    green.here("node1", "nft", rule + "add rule ip oddity post oifname eth0 ip protocol icmp masquerade")
    try:
        code, cases = _check(green)
        case = _across(cases)
        assert code == 1
        assert case["loss"] == 0
        assert case["nat"] is True
        assert case["seen_source"] == green.node("node1")["address"]
    finally:
        green.here("node1", "nft", "delete", "table", "ip", "oddity")


def test_an_agent_that_does_not_answer_is_not_taken_for_well(green: LabCommand) -> None:
    agent = green.node("node2")["agent_pid"]
    os.kill(agent, signal.SIGSTOP)
    try:
        done = green.run("check", "reachability", "-o", "json", check=False)
        assert done.returncode == 1
        assert '"ok": false' in done.stdout
        assert "node2" in done.stdout
    finally:
        os.kill(agent, signal.SIGCONT)


def test_what_nobody_could_try_is_not_ok(unique_name: Callable[[], str]) -> None:
    """Two nodes and one pod: no pair of pods on one node or across; the nodes can be tried, and are well."""
    with lab(unique_name(), "--nodes", "2") as made:
        nothing = made.run("check", "reachability", "-o", "json", check=False)
        assert nothing.returncode == 1, "without a pod nothing was tried"
        made.add_pod("only", "node1")
        _, cases = _check(made)
        assert cases["default/only", "node2"]["ok"]
        assert cases["node2", "default/only"]["ok"]


FELIX_METRICS = (
    "felix_active_local_endpoints 2",
    "felix_cluster_num_hosts",
    "felix_cluster_num_workload_endpoints",
    "felix_resync_state 3",
    "felix_resyncs_started",
    "felix_int_dataplane_apply_time_seconds",
    "felix_int_dataplane_failures",
    "process_resident_memory_bytes",
)


def test_health_and_metrics_under_felix_names(green: LabCommand) -> None:
    for node in NODES:
        assert green.fetch(node, 9099, "/liveness") == (200, "ok\n")
        assert green.fetch(node, 9099, "/readiness") == (200, "ok\n")
    status, text = green.fetch("node1", 9091, "/metrics")
    assert status == 200
    assert [name for name in FELIX_METRICS if name not in text] == []
    assert green.fetch("node1", 9099, "/nonsense")[0] == 404
    # Nobody from outside: they listen on the node's loopback alone, as long as nothing else is configured.
    assert not green.here(
        "node2", "curl", "-sm2", f"http://{green.node('node1')['address']}:9091/metrics", check=False
    )


def _ip(made: LabCommand, pod: str) -> str:
    return str(
        next(row["ips"][0] for node in made.status()["nodes"] for row in node["pods"] if row["name"] == pod)
    )


def _run_dir(made: LabCommand, node: str) -> str:
    return f"/run/tortie/labs/{made.name}/nodes/{node}/run"
