"""Pools of a living cluster: full, deleted while in use, overlapping, strict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.lab.lab_command import LabCommand, lab, wait_until
from tests.lab.traffic import no_loss

pytestmark = pytest.mark.needs("netns", "bird", "fping")


def pool(name: str, cidr: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"cidr": cidr, "ipipMode": "Never", "natOutgoing": True, **spec},
    }


def of_pool(*names: str) -> tuple[str, str]:
    listed = ",".join(f'"{name}"' for name in names)
    return ("--annotations", f"cni.projectcalico.org/ipv4pools=[{listed}]")


@pytest.fixture(scope="module")
def shared() -> Iterator[LabCommand]:
    """Two nodes; each test brings pools of its own."""
    with lab(f"tt-{os.getpid()}-pools", "--nodes", "2") as made:
        made.add_pod("base1", "node1")
        made.add_pod("base2", "node2")
        yield made


def test_a_full_pool_is_named_and_leaves_nothing(shared: LabCommand) -> None:
    shared.apply(pool("tiny", "10.62.0.0/30", blockSize=30))
    taken = [shared.add_pod(f"tiny{n}", "node1", *of_pool("tiny"))["ips"][0] for n in range(4)]
    assert len(set(taken)) == 4
    before = shared.here("node1", "ip", "-br", "link")
    for node in ("node1", "node2"):
        refused = shared.run("lab", "pod", "add", "much", "--node", node, *of_pool("tiny"), check=False)
        assert refused.returncode != 0
        assert "tiny" in refused.stderr, refused.stderr
        assert "CNI error" in refused.stderr, refused.stderr
    assert shared.here("node1", "ip", "-br", "link") == before
    shared.run("lab", "pod", "rm", "tiny0")
    again = shared.add_pod("again", "node2", *of_pool("tiny"))["ips"][0]
    assert again == taken[0], "the one that was released"
    # Its block is node1's: borrowed, and reached from there and from here.
    wait_until(lambda: shared.reaches("node1", again), "the owner's node reaches it")
    wait_until(lambda: shared.reaches("tiny1", again), "the owner's pods reach it")
    wait_until(lambda: shared.reaches("base2", again), "its own node's pods reach it")
    for name in ("again", "tiny1", "tiny2", "tiny3"):
        shared.run("lab", "pod", "rm", name)
    shared.delete("ippool", "tiny")


def test_a_pool_deleted_while_in_use_stays_until_its_last_address_goes(shared: LabCommand) -> None:
    shared.apply(pool("old", "10.63.0.0/24", blockSize=28))
    pod = shared.add_pod("stays", "node1", *of_pool("old"))
    wait_until(lambda: shared.reaches("node2", pod["ips"][0]), "the pod is reached")
    shared.delete("ippool", "old")
    marked = shared.get("ippool", "old")
    assert marked["metadata"]["deletionTimestamp"]
    wait_until(lambda: shared.reaches("node2", pod["ips"][0]), "the pod is still reached")
    agent = shared.node("node1")["agent_pid"]
    os.kill(agent, 9)
    wait_until(lambda: shared.pid("node1/agent") not in (None, agent), "the agent is back", 5)
    wait_until(lambda: shared.ready("node1"), "the agent is ready")
    assert shared.reaches("node2", pod["ips"][0]), "also after a restart"
    refused = shared.run("lab", "pod", "add", "late", "--node", "node1", *of_pool("old"), check=False)
    assert refused.returncode != 0
    assert "old" in refused.stderr, refused.stderr
    shared.run("lab", "pod", "rm", "stays")
    wait_until(lambda: "old" not in _pools(shared), "the pool vanishes with its last address", 15)
    wait_until(lambda: "10.63.0." not in shared.here("node2", "ip", "route"), "and its routes", 15)
    wait_until(lambda: "10.63.0." not in shared.here("node1", "ip", "route"), "and its blackhole", 15)


def test_a_disabled_pool_gives_nothing_more_and_its_pods_keep_their_network(shared: LabCommand) -> None:
    shared.apply(pool("tired", "10.67.0.0/24", blockSize=28))
    pod = shared.add_pod("before", "node1", *of_pool("tired"))
    wait_until(lambda: shared.reaches("node2", pod["ips"][0]), "the pod is reached")
    routes = shared.here("node2", "ip", "route")
    with no_loss(shared, ("node2", pod["ips"][0])):
        shared.apply(pool("tired", "10.67.0.0/24", blockSize=28, disabled=True))
        refused = shared.run("lab", "pod", "add", "late", "--node", "node1", *of_pool("tired"), check=False)
        assert refused.returncode != 0
        assert "tired" in refused.stderr
        assert "disabled" in refused.stderr, refused.stderr
    assert shared.here("node2", "ip", "route") == routes
    shared.run("lab", "pod", "rm", "before")
    shared.delete("ippool", "tired")


def test_an_unused_pool_goes_at_once(shared: LabCommand) -> None:
    shared.apply(pool("brief", "10.64.0.0/24"))
    shared.delete("ippool", "brief")
    wait_until(lambda: "brief" not in _pools(shared), "the pool is gone", 5)


def test_a_pool_over_another_or_over_the_nodes_network_is_refused_and_both_are_named(
    shared: LabCommand,
) -> None:
    refused = shared.apply(pool("over", "192.168.4.0/24"), check=False)
    assert refused.returncode != 0
    assert "192.168.4.0/24" in refused.stderr
    assert "192.168.0.0/16" in refused.stderr
    assert "default-ipv4-ippool" in refused.stderr, refused.stderr
    refused = shared.apply(pool("fabric", "172.30.0.0/16"), check=False)
    assert refused.returncode != 0, "it overlaps the nodes' own network"
    assert "172.30.0.0/16" in refused.stderr
    assert "Node node1 (172.30.0.11/24)" in refused.stderr, refused.stderr
    assert set(_pools(shared)) == {"default-ipv4-ippool"}


def test_strict_affinity_switched_in_a_living_cluster(shared: LabCommand) -> None:
    shared.apply(pool("one", "10.65.0.0/29", blockSize=29))
    owner = shared.add_pod("owner", "node1", *of_pool("one"))
    borrower = shared.add_pod("borrower", "node2", *of_pool("one"))
    wait_until(lambda: shared.reaches("owner", borrower["ips"][0]), "a borrowed address")
    _strict(shared, True)
    refused = shared.run("lab", "pod", "add", "more", "--node", "node2", *of_pool("one"), check=False)
    assert refused.returncode != 0
    assert "strict" in refused.stderr.lower(), refused.stderr
    mine = shared.add_pod("mine", "node1", *of_pool("one"))
    # What was borrowed before stays as it is.
    assert shared.reaches("owner", borrower["ips"][0])
    _strict(shared, False)
    more = shared.add_pod("more", "node2", *of_pool("one"))
    wait_until(lambda: shared.reaches("mine", more["ips"][0]), "borrowed again")
    assert len({pod["ips"][0] for pod in (owner, borrower, mine, more)}) == 4
    for name in ("owner", "borrower", "mine", "more"):
        shared.run("lab", "pod", "rm", name)
    shared.delete("ippool", "one")


def test_a_new_pool_with_nat_is_known_to_all_nodes(shared: LabCommand) -> None:
    """Between pods of two pools nothing is rewritten, at once after the pool came."""
    shared.apply(pool("second", "10.66.0.0/24", blockSize=28))
    shared.add_pod("in2", "node1", *of_pool("second"))
    report = shared.json("check", "reachability")
    assert report["ok"], [case for case in report["cases"] if not case["ok"]]
    shared.run("lab", "pod", "rm", "in2")
    shared.delete("ippool", "second")


def test_the_first_pod_of_a_node_is_soon_reached_from_everywhere(unique_name: Callable[[], str]) -> None:
    with lab(unique_name(), "--nodes", "3") as made:
        first = made.add_pod("first", "node1")["ips"][0]
        for place in ("node1", "node2", "node3"):
            wait_until(partial(made.reaches, place, first), f"{place} reaches the first pod", 5)
        assert made.tortie("ipam", "check").returncode == 0


def _pools(made: LabCommand) -> list[str]:
    return [item["metadata"]["name"] for item in made.get("ippools")["items"]]


def _strict(made: LabCommand, wanted: bool) -> None:
    made.tortie("ipam", "configure", f"--strict-affinity={str(wanted).lower()}")
