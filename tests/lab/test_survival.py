"""The agent, BIRD or a whole node dies; packets do not notice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from tests.lab.lab_command import LabCommand, lab, wait_until
from tests.lab.traffic import no_loss, watching

pytestmark = pytest.mark.needs("netns", "bird", "fping")


@pytest.fixture(scope="module")
def pair() -> Iterator[LabCommand]:
    """Two nodes with a pod each, in both IP versions."""
    with lab(f"tt-{os.getpid()}-pair", "--nodes", "2", "--dual-stack") as made:
        made.add_pod("a1", "node1")
        made.add_pod("a2", "node2")
        for source, address in _both_ways(made):
            wait_until(partial(made.reaches, source, address), f"{source} reaches {address}")
        yield made


def _ips(made: LabCommand, pod: str) -> list[str]:
    return next(row["ips"] for node in made.status()["nodes"] for row in node["pods"] if row["name"] == pod)


def _ip(made: LabCommand, pod: str) -> str:
    return _ips(made, pod)[0]


def _both_ways(made: LabCommand) -> list[tuple[str, str]]:
    """In both directions and IP versions, between pods and between node and pod."""
    paths: list[tuple[str, str]] = []
    for one, two in zip(_ips(made, "a1"), _ips(made, "a2"), strict=True):
        paths += [("a1", two), ("a2", one), ("node1", two)]
    return [*paths, ("a2", made.node("node1")["address"])]


def test_a_killed_agent_is_back_adopts_everything_and_nothing_is_lost(pair: LabCommand) -> None:
    before = pair.node("node1")["agent_pid"]
    # The kernel makes link-local addresses by itself, and takes a second over each.
    wait_until(
        lambda: not pair.here("node1", "ip", "-6", "addr", "show", "tentative"), "addresses are settled"
    )
    with watching(pair, "node1") as changes, no_loss(pair, *_both_ways(pair)):
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pair.pid("node1/agent") not in (None, before), "the agent is back", 5)
        wait_until(lambda: pair.ready("node1"), "the agent is ready")
    assert not changes, "\n".join(["the new agent rewrote what the old one had made:", *changes])


def test_a_killed_bird_is_back_and_nothing_is_lost(pair: LabCommand) -> None:
    before = pair.node("node1")["bird_pid"]
    with watching(pair, "node2") as changes, no_loss(pair, *_both_ways(pair)):
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pair.pid("node1/bird") not in (None, before), "BIRD is back", 5)
        wait_until(lambda: _established(pair, "node1") == ["node2"] * 2, "the sessions are back")
        wait_until(lambda: _established(pair, "node2") == ["node1"] * 2, "the sessions are back")
    assert not [change for change in changes if "Deleted" in change], "the peer forgot the node's routes"


def test_agents_and_birds_of_both_nodes_killed_at_once(pair: LabCommand) -> None:
    """All is well again by itself. In between the FIB is without these routes for a moment: of two that restart, neither waits
    for the other (RFC 4724, section 4.1)."""
    for node in pair.status()["nodes"]:
        for pid in (node["agent_pid"], node["bird_pid"]):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(pair.ready, ("node1", "node2"))), "the agents are ready", 15)
    wait_until(lambda: _established(pair, "node1") == ["node2"] * 2, "the sessions are back", 15)
    for source, address in _both_ways(pair):
        wait_until(lambda: pair.reaches(source, address), f"{source} reaches {address}", 15)  # noqa: B023
    made = pair.add_pod("later", "node1")
    wait_until(lambda: pair.reaches("node2", made["ips"][0]), "a pod that came afterwards is reached")
    pair.run("lab", "pod", "rm", "later")


def test_a_pod_that_comes_and_one_that_goes_while_the_agent_is_dead(pair: LabCommand) -> None:
    gone = pair.add_pod("gone", "node1")
    agent = pair.node("node1")["agent_pid"]
    os.kill(agent, signal.SIGKILL)
    # The runtime calls at once: the shim waits for the new agent, and both complete.
    pair.run("lab", "pod", "rm", "gone")
    come = pair.add_pod("come", "node1")
    assert gone["interface"] not in pair.here("node1", "ip", "-br", "link")
    wait_until(lambda: pair.reaches("node2", come["ips"][0]), "the new pod is reached")
    pair.run("lab", "pod", "rm", "come")


def test_pods_come_and_go_in_crowds_while_the_agents_are_killed(pair: LabCommand) -> None:
    """A runtime tries again what failed; in the end all are there, and later none."""
    names = [f"crowd{number}" for number in range(10)]
    ended = threading.Event()

    def kill_again_and_again() -> None:
        seconds = 0.6
        while not ended.wait(seconds):
            seconds *= 1.2  # a machine so slow that no agent comes to anything in that time gets more
            for node in ("node1", "node2"):
                pid = pair.pid(f"{node}/agent")
                if pid:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def until_done(*argv: str) -> None:
        said: list[str] = []
        while len(said) < 20:
            done = pair.run(*argv, check=False)
            if done.returncode == 0:
                return
            said.append(done.stderr)
        raise AssertionError(f"{argv}: {said}")

    for command in ("add", "rm"):
        killer = threading.Thread(target=kill_again_and_again)
        with ThreadPoolExecutor(4) as pool:
            ended.clear()
            killer.start()
            try:
                begun = [
                    pool.submit(until_done, "lab", "pod", command, name, *where)
                    for number, name in enumerate(names)
                    for where in [("--node", f"node{number % 2 + 1}") if command == "add" else ()]
                ]
                for each in begun:
                    each.result(timeout=150)
            finally:
                ended.set()
                killer.join()
        wait_until(lambda: all(map(pair.ready, ("node1", "node2"))), "the agents are ready", 15)
        there = {pod["name"]: pod["ips"] for node in pair.status()["nodes"] for pod in node["pods"]}
        assert set(names) & set(there) == (set(names) if command == "add" else set())
        addresses = [address for ips in there.values() for address in ips]
        assert len(addresses) == len(set(addresses)) == 2 * len(there)
        assert pair.tortie("ipam", "check").returncode == 0
    assert pair.json("check", "reachability")["ok"]


def test_a_sandbox_that_vanished_while_the_agent_was_dead_is_cleaned_up(pair: LabCommand) -> None:
    """The namespace goes without a DEL, as when a runtime crashes: the wire goes with it, the rest with the late DEL."""
    pod = pair.add_pod("vanished", "node1")
    agent = pair.node("node1")["agent_pid"]
    os.kill(agent, signal.SIGKILL)
    pair.here("fabric", "ip", "netns", "delete", pod["netns"])
    wait_until(lambda: pair.pid("node1/agent") not in (None, agent), "the agent is back", 5)
    wait_until(lambda: pair.ready("node1"), "the agent is ready")
    wait_until(lambda: pod["ips"][0] not in pair.here("node1", "ip", "route"), "the route is gone")
    pair.run("lab", "pod", "rm", "vanished")
    assert pair.node("node1")["pods"][0]["name"] == "a1"


def test_without_an_uplink_the_pods_of_a_node_talk_on(pair: LabCommand) -> None:
    """The default route goes with the uplink, and with it the kernel's proxy ARP for the pods' gateway."""
    neighbour = pair.add_pod("b1", "node1")["ips"][0]
    pair.here("node1", "ip", "link", "set", "eth0", "down")
    try:
        pair.here("a1", "ip", "neigh", "flush", "dev", "eth0")
        assert pair.reaches("a1", neighbour)
        assert not pair.reaches("a1", _ip(pair, "a2"))
    finally:
        pair.here("node1", "ip", "link", "set", "eth0", "up")
        pair.here("node1", "ip", "route", "replace", "default", "via", "172.30.0.1")
    wait_until(lambda: pair.reaches("a1", _ip(pair, "a2")), "the other node is reached again", 15)
    pair.run("lab", "pod", "rm", "b1")


def test_with_a_dead_node_in_the_mesh_a_restarted_bird_has_the_living_ones_routes(
    unique_name: Callable[[], str],
) -> None:
    with lab(unique_name(), "--nodes", "3") as made, ExitStack() as stack:
        for number in (1, 2, 3):
            made.add_pod(f"a{number}", f"node{number}")
        made.apply(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "IPPool",
                "metadata": {"name": "extra"},
                "spec": {"cidr": "10.61.0.0/24", "blockSize": 28, "ipipMode": "Never"},
            }
        )
        dead = made.node("node3")
        made.here("node3", "ip", "link", "set", "eth0", "down")
        for pid in (dead["agent_pid"], dead["bird_pid"]):
            # Stopped for good: one that is killed would be started again.
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        paths = [("a1", _ip(made, "a2")), ("a2", _ip(made, "a1"))]
        wait_until(lambda: made.reaches(*paths[0]), "the living reach each other")
        bird = made.node("node1")["bird_pid"]
        with no_loss(made, *paths):
            os.kill(bird, signal.SIGKILL)
            wait_until(lambda: made.pid("node1/bird") not in (None, bird), "BIRD is back", 5)
            # A block that the old BIRD never heard of.
            fresh = made.add_pod(
                "fresh", "node2", "--annotations", 'cni.projectcalico.org/ipv4pools=["extra"]'
            )
            wait_until(lambda: "10.61.0." in made.here("node1", "ip", "route", "show", "proto", "bird"),
                       "the new block's route", 30)  # fmt: skip
            wait_until(lambda: made.reaches("a1", fresh["ips"][0]), "the new pod answers", 5)
        with no_loss(made, *paths):
            agent = made.node("node1")["agent_pid"]
            os.kill(agent, signal.SIGKILL)
            wait_until(lambda: made.pid("node1/agent") not in (None, agent), "the agent is back", 5)
            wait_until(lambda: made.ready("node1"), "the agent is ready")


def _established(made: LabCommand, node: str) -> list[str]:
    socket = f"/run/tortie/labs/{made.name}/nodes/{node}/run"
    done = made.json("node", "status", "--run-dir", socket, check=False)
    return [row["node"] for row in done["sessions"] if row["up"]]
