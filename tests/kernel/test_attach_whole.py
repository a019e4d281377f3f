"""ADD and DEL with the whole agent behind the plugin: what the dataplane does for an endpoint, and after it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cni_node import Node, until
from tests.cni_runtime import Container, PluginError


@pytest.fixture
def node(run_dir: Path, netns: Callable[[], str]) -> Iterator[Node]:
    made = Node(run_dir, netns, whole=True)
    made.prepare("10.65.0.0/24", "fd00:65::/112")
    made.start()
    yield made
    made.close()


def pings(namespace: str, address: str) -> None:
    subprocess.run(
        ["ip", "netns", "exec", namespace, "fping", "-c1", "-t1000", address], check=True, capture_output=True
    )


def test_a_pod_reaches_its_node_and_another_pod_as_soon_as_add_returns(node: Node) -> None:
    runtime = node.runtime("1.1.0")
    one, two = node.container("one"), node.container("two")
    results = [runtime.add(container) for container in (one, two)]
    for place in (0, 1):
        address = results[1]["ips"][place]["address"].partition("/")[0]
        pings(Path(one.netns).name, address)
        pings(node.name, address)
    pings(Path(one.netns).name, "172.30.0.1")
    runtime.status()
    for container in (one, two):
        runtime.check(container)
        runtime.delete(container)
    node.assert_clean()
    assert node.routes() == set()


def test_eight_at_once(node: Node) -> None:
    runtime = node.runtime()
    containers = [node.container(f"p{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            results = list(pool.map(runtime.add, containers))
            for result in results:
                pings(node.name, result["ips"][0]["address"].partition("/")[0])
            list(pool.map(runtime.delete, containers))
    node.assert_clean()


@pytest.mark.parametrize("point", ["add.created", "add.published", "add.realised"])
def test_the_agent_is_killed_in_add(node: Node, point: str) -> None:
    runtime, container = node.runtime(), node.container("p")
    plugin = runtime.conflist["plugins"][0]
    node.kill()
    node.start(fault=point)
    with pytest.raises(PluginError):
        runtime.call(plugin, container, "ADD")
    assert node.wait_killed()
    node.start()
    result = runtime.add(container)
    pings(node.name, result["ips"][0]["address"].partition("/")[0])
    node.assert_clean(*node.endpoints())
    runtime.delete(container)
    node.assert_clean()


def test_a_pod_whose_namespace_vanished_is_cleaned_up(node: Node) -> None:
    runtime = node.runtime()
    lost, kept = node.container("lost"), node.container("kept")
    runtime.add(lost)
    runtime.add(kept)
    subprocess.run(["ip", "netns", "del", Path(lost.netns).name], check=True)
    until(lambda: len(node.endpoints()) == 1, 60, "the vanished pod's endpoint is still there", node.log)
    until(lambda: len(node.routes()) == 1, 10, "its route is still there", node.log)
    [(name, endpoint)] = node.endpoints().items()
    assert endpoint.spec.pod == "kept"
    node.assert_clean(name)
    runtime.check(kept, without=("portmap", "bandwidth"))
    runtime.delete(Container(netns="", id=lost.id, pod="lost"))
    node.assert_clean(name)
