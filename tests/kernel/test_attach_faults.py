"""``kill -9`` between every two steps of ADD and of DEL, of the agent and of the shim: nothing is left after the retry or
the DEL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cni_node import Node, until
from tests.cni_runtime import Container, PluginError, Runtime
from tortie.workloads import checkpoints

IPAM_ADD = (
    "ipam.claim.pending",
    "ipam.claim.block",
    "ipam.claim.confirmed",
    "ipam.block",
    "ipam.block.written",
)
IPAM_DEL = ("ipam.block", "ipam.block.written", "ipam.released")
ADD = (*checkpoints.ADD, *IPAM_ADD)
DEL = (*checkpoints.DEL, *IPAM_DEL)
FAILED_TO_ANSWER = 11


@pytest.fixture
def node(run_dir: Path, netns: Callable[[], str]) -> Iterator[Node]:
    made = Node(run_dir, netns)
    made.prepare("10.65.0.0/24", "fd00:65::/112")
    yield made
    made.close()


def call(runtime: Runtime, container: Container, command: str) -> None:
    runtime.call(runtime.conflist["plugins"][0], container, command)


def killed(node: Node, runtime: Runtime, container: Container, command: str, point: str) -> None:
    """The request meets an agent that dies at this point."""
    node.start(fault=point)
    with pytest.raises(PluginError) as raised:
        call(runtime, container, command)
    assert raised.value.code == FAILED_TO_ANSWER
    assert node.wait_killed(), f"the agent did not pass {point}"
    node.start()


@pytest.mark.parametrize("then", ["ADD", "DEL"])
@pytest.mark.parametrize("point", ADD)
def test_the_agent_is_killed_in_add(node: Node, point: str, then: str) -> None:
    runtime, container = node.runtime(), node.container("p")
    killed(node, runtime, container, "ADD", point)
    if then == "ADD":
        call(runtime, container, "ADD")
        [name] = node.endpoints()
        node.assert_clean(name)
    call(runtime, container, "DEL")
    if point in ("ipam.claim.pending", "ipam.claim.block"):
        # A claim that was begun is nobody's address: the node's next ADD, or IPAM's own tidying, ends it.
        other = node.container("q")
        call(runtime, other, "ADD")
        call(runtime, other, "DEL")
    node.assert_clean()


@pytest.mark.parametrize("point", ADD)
def test_the_agent_is_killed_in_add_and_the_pod_gets_a_new_sandbox(node: Node, point: str) -> None:
    """As kubelet does it: a new sandbox first, the old one's DEL when it comes to it."""
    runtime, old, new = node.runtime(), node.container("p"), node.container("p")
    killed(node, runtime, old, "ADD", point)
    call(runtime, new, "ADD")
    call(runtime, old, "DEL")
    [(name, endpoint)] = node.endpoints().items()
    assert endpoint.spec.container_id == new.id
    node.assert_clean(name)
    call(runtime, new, "DEL")
    node.assert_clean()


@pytest.mark.parametrize("point", DEL)
def test_the_agent_is_killed_in_del(node: Node, point: str) -> None:
    runtime, container = node.runtime(), node.container("p")
    node.start()
    call(runtime, container, "ADD")
    node.kill()
    killed(node, runtime, container, "DEL", point)
    call(runtime, container, "DEL")
    node.assert_clean()


@pytest.mark.parametrize("point", ADD)
def test_the_shim_is_killed_in_add(node: Node, point: str) -> None:
    runtime, container = node.runtime(), node.container("p")
    node.start(pause=point)
    kill_shim(node, runtime, container, "ADD")
    # The runtime's DEL comes at once, while the ADD still runs to its end.
    call(runtime, container, "DEL")
    node.assert_clean()


@pytest.mark.parametrize("point", DEL)
def test_the_shim_is_killed_in_del(node: Node, point: str) -> None:
    runtime, container = node.runtime(), node.container("p")
    node.start()
    call(runtime, container, "ADD")
    node.kill()
    node.start(pause=point)
    kill_shim(node, runtime, container, "DEL")
    call(runtime, container, "DEL")
    node.assert_clean()


def kill_shim(node: Node, runtime: Runtime, container: Container, command: str) -> None:
    """Kill it while the agent stands at its checkpoint; then the agent goes on, and stops there no more."""
    plugin = runtime.conflist["plugins"][0]
    shim = runtime.start(
        plugin["type"], container.environment(command, runtime.path), runtime.config(plugin, container)
    )
    until(node.marker.exists, 10, "the agent did not come to its checkpoint", node.log)
    shim.kill()
    shim.communicate()
    node.unpause()


@pytest.mark.parametrize("point", checkpoints.UNDO)
def test_the_agent_is_killed_in_the_undo_of_an_add(node: Node, point: str) -> None:
    """The ADD fails since the node's part cannot be done."""
    runtime, container = node.runtime(), node.container("p")
    (node.directory / "fail-realised").touch()
    killed(node, runtime, container, "ADD", point)
    (node.directory / "fail-realised").unlink()
    call(runtime, container, "DEL")
    node.assert_clean()


def test_an_add_that_cannot_be_made_real_leaves_nothing(node: Node) -> None:
    runtime, container = node.runtime(), node.container("p")
    (node.directory / "fail-realised").touch()
    node.start()
    with pytest.raises(PluginError, match="programming") as raised:
        call(runtime, container, "ADD")
    assert raised.value.code == FAILED_TO_ANSWER
    node.assert_clean()
