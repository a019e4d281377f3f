"""A lab from nothing to nothing: what it builds, what it prints, what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab.lab_command import TORTIE, LabCommand, lab, wait_until

pytestmark = pytest.mark.needs("netns", "bird")


@pytest.fixture(scope="module")
def shared() -> Iterator[LabCommand]:
    """Three nodes with two pods each, for tests that only look."""
    with lab(f"tt-{os.getpid()}-shared", "--nodes", "3") as made:
        for number in (1, 2, 3):
            made.add_pod(f"a{number}", f"node{number}", "--labels", "app=a")
            made.add_pod(f"b{number}", f"node{number}", "--labels", "app=b", "--ports", "http:tcp:80")
        yield made


def test_status_tells_nodes_pods_and_live_pids(shared: LabCommand) -> None:
    status = shared.status()
    assert status["name"] == shared.name
    assert [node["name"] for node in status["nodes"]] == ["node1", "node2", "node3"]
    for node in status["nodes"]:
        assert shared.name in node["netns"]
        assert (Path("/run/netns") / node["netns"]).exists()
        assert node["address"] in node["addresses"]
        for pid in (node["agent_pid"], node["bird_pid"]):
            assert Path(f"/proc/{pid}").exists()
        assert len(node["pods"]) == 2
        for pod in node["pods"]:
            assert pod["namespace"] == "default"
            assert pod["interface"].startswith("cali")
            assert shared.name in pod["netns"]
            assert pod["ips"][0] in shared.inside(
                f"default/{pod['name']}", "ip", "-4", "addr", "show", "eth0"
            )


def test_everything_reaches_everything_without_nat(shared: LabCommand) -> None:
    report = shared.json("check", "reachability")
    assert report["ok"], [case for case in report["cases"] if not case["ok"]]
    pairs = {(case["case"], case["same_node"]) for case in report["cases"]}
    assert pairs == {
        (case, same) for case in ("pod-to-pod", "node-to-pod", "pod-to-node") for same in (True, False)
    }
    # 6 pods to 5 others, 3 nodes to 6 pods, 6 pods to 3 nodes.
    assert len(report["cases"]) == 6 * 5 + 3 * 6 + 6 * 3
    for case in report["cases"]:
        assert case["nat"] is False
        assert case["seen_source"] == case["source_ip"] or case["case"] == "node-to-pod"
        assert case["rtt_ms"] > 0


def test_a_host_that_is_no_node_sees_the_nodes_address(shared: LabCommand) -> None:
    node = shared.node("node1")
    tcpdump = ("tcpdump", "-nlc1", "-i", "br0", "icmp[icmptype] == icmp-echo and dst host 172.30.0.1")
    capture = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{shared.name}.fabric", "timeout", "20", *tcpdump],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert capture.stderr is not None
        while "listening on" not in capture.stderr.readline():
            pass
        shared.inside("default/a1", "fping", "-c1", "-t2000", "172.30.0.1")
        seen, _ = capture.communicate(timeout=30)
    finally:
        capture.kill()
        capture.wait()
    assert f" {node['address']} > 172.30.0.1" in seen


def test_exec_passes_output_and_exit_code_through(shared: LabCommand) -> None:
    done = shared.run("lab", "exec", "node2", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert shared.run("lab", "exec", "node9", "--", "true", check=False).returncode == 2
    assert "has no pod" in shared.run("lab", "exec", "default/none", "--", "true", check=False).stderr


def test_exec_tells_the_same_as_one_document(shared: LabCommand) -> None:
    done = shared.run(
        "lab", "exec", "node2", "-o", "json", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert done.returncode == 7
    assert json.loads(done.stdout) == {"exit_code": 7, "stdout": "out\n", "stderr": "err\n"}


def test_env_points_the_other_commands_at_the_lab(shared: LabCommand) -> None:
    exports = shared.exports("--node", "node1")
    assert (Path(exports["CNI_PATH"]) / "tortie").exists()
    assert list(Path(exports["NETCONFPATH"]).glob("*.conflist"))
    assert shared.json("lab", "env", "--node", "node1") == exports
    pools = shared.json("--datastore", exports["TORTIE_DATASTORE"], "get", "ippools")
    assert pools["items"][0]["spec"]["cidr"] == "192.168.0.0/16"


def test_another_node_learns_the_blocks_by_bgp(shared: LabCommand) -> None:
    def blocks() -> list[str]:
        routes = shared.here("node2", "ip", "route", "show", "proto", "bird")
        return [line.split()[0] for line in routes.splitlines()]

    wait_until(lambda: len(blocks()) == 2, "the two other nodes' blocks")
    assert all(block.endswith("/26") for block in blocks())


def test_a_second_lab_stands_beside_the_first_and_goes_without_a_trace(
    shared: LabCommand, unique_name: Callable[[], str]
) -> None:
    before = _traces(shared.name)
    with lab(unique_name(), "--nodes", "1") as other:
        other.add_pod("alone", "node1")
        assert other.node("node1")["pods"][0]["name"] == "alone"
        assert other.run("lab", "up", "--nodes", "1", check=False).returncode == 2, "it is up already"
    assert _traces(other.name) == set()
    assert other.json("lab", "down") == {"name": other.name}, "down twice"
    assert before <= _traces(shared.name)
    assert shared.node("node1")["agent_pid"]


def test_up_works_after_an_up_that_was_killed(unique_name: Callable[[], str]) -> None:
    name = unique_name()
    made = LabCommand(name)
    try:
        begun = subprocess.Popen(
            [*TORTIE, "lab", "up", "--lab", name, "--nodes", "2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until((Path("/run/netns") / f"{name}.node2").exists, "the second node's namespace")
        begun.kill()
        begun.wait()
        made.run("lab", "up", "--nodes", "2")
        assert len(made.status()["nodes"]) == 2
    finally:
        made.run("lab", "down")
    assert _traces(name) == set()


def test_of_two_ups_at_once_one_builds_and_the_other_says_so(unique_name: Callable[[], str]) -> None:
    name = unique_name()
    made = LabCommand(name)
    command = [*TORTIE, "lab", "up", "--lab", name, "--nodes", "2"]
    try:
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [begun.communicate(timeout=120)[1] for begun in both]
        assert sorted(begun.returncode for begun in both) == [0, 2], said
        assert any("is up already" in text for text in said)
        for node in made.status()["nodes"]:
            assert made.ready(node["name"])
    finally:
        made.run("lab", "down")


def test_what_dies_is_back_within_a_second(unique_name: Callable[[], str]) -> None:
    with lab(unique_name(), "--nodes", "1") as made:
        for unit in ("node1/agent", "node1/bird"):
            before = made.pid(unit)
            assert before
            os.kill(before, 9)
            wait_until(partial(_is_another, made, unit, before), f"{unit} started again", seconds=3)
            assert made.node("node1")[f"{unit.rpartition('/')[2]}_pid"] == made.pid(unit)


def test_pods_go_without_a_trace_and_bad_ones_leave_none(unique_name: Callable[[], str]) -> None:
    with lab(unique_name(), "--nodes", "1") as made:
        pod = made.add_pod("web", "node1", "--namespace", "shop", "--annotations", "team=a")
        assert (
            "exists already"
            in made.run("lab", "pod", "add", "web", "--node", "node1", "-n", "shop", check=False).stderr
        )
        assert made.json("lab", "pod", "rm", "shop/web") == pod
        assert pod["interface"] not in made.inside("node1", "ip", "-br", "link")
        assert f"{pod['ips'][0]} dev" not in made.inside("node1", "ip", "route")
        assert not (Path("/run/netns") / pod["netns"]).exists()
        refused = made.run(
            "lab", "pod", "add", "bad", "--node", "node1",
            "--annotations", "cni.projectcalico.org/ipv4pools=[\"no-such-pool\"]", check=False,
        )  # fmt: skip
        assert refused.returncode != 0
        assert "no-such-pool" in refused.stderr
        assert made.node("node1")["pods"] == []
        assert not [line for line in made.inside("node1", "ip", "-br", "link").splitlines() if "cali" in line]


@pytest.mark.needs("etcd")
def test_a_dual_stack_lab_on_etcd_with_two_uplinks(unique_name: Callable[[], str]) -> None:
    options = ("--nodes", "2", "--datastore", "etcd", "--dual-stack", "--uplinks", "2")
    with lab(unique_name(), *options) as made:
        for number in (1, 2):
            pod = made.add_pod(f"p{number}", f"node{number}")
            assert len(pod["ips"]) == 2
        assert "198.51.100.11" in made.node("node1")["addresses"]
        report = made.json("check", "reachability")
        assert report["ok"], [case for case in report["cases"] if not case["ok"]]
        assert {case["family"] for case in report["cases"]} == {"ipv4", "ipv6"}


@pytest.mark.parametrize(
    "command",
    ["up", "down", "status", "env", "exec node1 -- true", "pod add x --node node1", "pod rm x", "(check)"],
)
def test_without_root_it_says_so_at_once(shared: LabCommand, command: str) -> None:
    words = ["check", "reachability"] if command == "(check)" else ["lab", *command.split()]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *TORTIE, *words],
        env={**os.environ, "TORTIE_LAB": shared.name},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd="/",
    )
    assert done.returncode == 2
    assert "run it with sudo" in done.stderr


def _is_another(made: LabCommand, unit: str, before: int) -> bool:
    return made.pid(unit) not in (None, before)


def _traces(lab_name: str) -> set[str]:
    """Namespaces, processes and files that carry the lab's name."""
    namespaces = {path.name for path in Path("/run/netns").glob(f"{lab_name}*")}
    files = {str(path) for path in Path("/run/tortie/labs").glob(f"{lab_name}*")}
    processes: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"/run/tortie/labs/{lab_name}/".encode() in path.read_bytes():
                processes.add(path.parent.name)
        except OSError:
            continue
    return namespaces | files | processes
