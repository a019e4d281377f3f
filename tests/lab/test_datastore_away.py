"""etcd dies, stops, or answers no more: packets go on, the agent says why it is not ready, and finds back by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cni_runtime import Container, PluginError, Runtime
from tests.lab.lab_command import LabCommand, lab, wait_until
from tests.lab.traffic import no_loss

pytestmark = pytest.mark.needs("netns", "bird", "etcd", "fping", "nftables")

NODES = ("node1", "node2")


@pytest.fixture(scope="module")
def on_etcd() -> Iterator[LabCommand]:
    """Two nodes with a pod each."""
    with lab(f"tt-{os.getpid()}-etcd", "--nodes", "2", "--datastore", "etcd") as made:
        made.add_pod("a1", "node1")
        made.add_pod("a2", "node2")
        wait_until(lambda: made.reaches("a1", _ip(made, 1)), "the pods reach each other")
        yield made


def _ip(made: LabCommand, node: int) -> str:
    return str(made.status()["nodes"][node]["pods"][0]["ips"][0])


def _paths(made: LabCommand) -> list[tuple[str, str]]:
    return [("a1", _ip(made, 1)), ("a2", _ip(made, 0))]


def _away(made: LabCommand, node: str) -> str:
    """What `/readiness` says against it; empty while it is ready."""
    status, body = made.fetch(node, 9099, "/readiness")
    return body if status == 503 else ""


def test_a_killed_etcd_is_back_and_the_agents_find_it(on_etcd: LabCommand) -> None:
    agents = [node["agent_pid"] for node in on_etcd.status()["nodes"]]
    before = on_etcd.pid("etcd")
    assert before
    with no_loss(on_etcd, *_paths(on_etcd)):
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: on_etcd.pid("etcd") not in (None, before), "etcd is back", 5)
        wait_until(lambda: on_etcd.tortie("get", "nodes", check=False).returncode == 0, "it answers", 20)
    made = on_etcd.add_pod("again", "node1")
    wait_until(lambda: on_etcd.reaches("node2", made["ips"][0]), "the new pod is reached")
    wait_until(lambda: all(map(on_etcd.ready, NODES)), "the agents are ready again", 20)
    assert [node["agent_pid"] for node in on_etcd.status()["nodes"]] == agents, "an agent died of it"
    on_etcd.run("lab", "pod", "rm", "again")


def test_while_etcd_is_away_packets_go_on_and_the_agent_says_why_it_is_not_ready(on_etcd: LabCommand) -> None:
    pid = on_etcd.pid("etcd")
    assert pid
    agents = {node["name"]: node["agent_pid"] for node in on_etcd.status()["nodes"]}
    paths = _paths(on_etcd)
    addresses = {node["name"]: node["pods"][0]["ips"][0] for node in on_etcd.status()["nodes"]}
    with ExitStack() as stack:
        os.kill(pid, signal.SIGSTOP)
        stack.callback(os.kill, pid, signal.SIGCONT)
        with no_loss(on_etcd, *paths):
            wait_until(lambda: all(_away(on_etcd, node) for node in NODES), "nobody is ready", 15)
            assert "datastore" in _away(on_etcd, "node1").lower()
            assert all(on_etcd.fetch(node, 9099, "/liveness")[0] == 200 for node in NODES)
            # A new agent that has never seen the datastore leaves everything as it is.
            os.kill(agents["node1"], signal.SIGKILL)
            wait_until(lambda: on_etcd.pid("node1/agent") not in (None, agents["node1"]), "it is back", 5)
            wait_until(lambda: on_etcd.fetch("node1", 9099, "/liveness")[0] == 200, "it is live")
            wait_until(lambda: _away(on_etcd, "node1"), "it says why it is not ready")
        assert addresses["node1"] in on_etcd.here("node1", "ip", "route")
        assert 'elements = { "cali' in on_etcd.here("node1", "nft", "list", "table", "ip", "tortie")
    wait_until(lambda: all(map(on_etcd.ready, NODES)), "the agents are ready again", 20)


def test_a_pod_that_starts_meanwhile_gets_a_clear_error_soon_and_leaves_nothing(
    on_etcd: LabCommand, netns: Callable[[], str]
) -> None:
    """By the plugin, as a runtime calls it, and by the lab, which cannot store the pod's document."""
    pid = on_etcd.pid("etcd")
    assert pid
    runtime = _runtime(on_etcd, "node1")
    container = Container(netns=f"/run/netns/{netns()}", pod="nothing")
    before = on_etcd.here("node1", "ip", "-br", "link")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: _away(on_etcd, "node1"), "the agent notices", 15)
        began = time.monotonic()
        with pytest.raises(PluginError) as refused:
            runtime.call(runtime.conflist["plugins"][0], container, "ADD")
        assert time.monotonic() - began < 45
        assert "etcd" in f"{refused.value.message} {refused.value.details}"
        assert on_etcd.here("node1", "ip", "-br", "link") == before
        began = time.monotonic()
        answer = on_etcd.run("lab", "pod", "add", "nothing", "--node", "node1", check=False)
        assert time.monotonic() - began < 45
        assert answer.returncode != 0
        assert "etcd" in answer.stderr, answer.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: on_etcd.ready("node1"), "the agent is ready again", 20)
    assert [pod["name"] for pod in on_etcd.node("node1")["pods"]] == ["a1"]
    runtime.delete(container)
    assert on_etcd.here("node1", "ip", "-br", "link") == before
    endpoints = on_etcd.get("workloadendpoints", "-A")["items"]
    assert sorted(row["spec"]["pod"] for row in endpoints) == ["a1", "a2"]


def _runtime(made: LabCommand, node: str) -> Runtime:
    exports = made.exports("--node", node)
    (conflist,) = Path(exports["NETCONFPATH"]).glob("*.conflist")
    return Runtime(
        json.loads(conflist.read_text()), [Path(exports["CNI_PATH"])], node=made.namespace(node), seconds=60
    )
