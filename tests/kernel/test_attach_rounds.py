"""Many runtimes at once, again and again: eight processes add and delete pods of one node."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni_node import Node, SocketEtcd
from tests.cni_runtime import Container, Runtime

PROCESSES = 8


@pytest.fixture(params=["sqlite", "etcd"])
def node(request: pytest.FixtureRequest, run_dir: Path, netns: Callable[[], str]) -> Iterator[Node]:
    etcd = SocketEtcd(run_dir) if request.param == "etcd" else None
    if etcd is not None:
        etcd.start()
    made = Node(run_dir, netns, datastore=etcd.url if etcd is not None else "")
    made.prepare("10.65.0.0/24", block_size=28)
    made.start()
    yield made
    made.close()
    if etcd is not None:
        etcd.kill()


def churn(
    conflist: dict[str, Any], bin_dir: str, node: str, namespaces: list[str], rounds: int, seed: int
) -> None:
    """One process: its pods come and go; some ADDs are repeated, some sandboxes replaced, some DELs come twice."""
    runtime = Runtime(conflist, [Path(bin_dir)], node=node)
    dice = random.Random(seed)
    for number in range(rounds):
        first = Container(netns=namespaces[0], pod=f"p{seed}-{number % 3}")
        runtime.add(first)
        match dice.randrange(4):
            case 0:
                runtime.add(first)
            case 1:
                second = Container(netns=namespaces[1], pod=first.pod)
                runtime.add(second)
                runtime.delete(first)
                first = second
            case 2:
                runtime.delete(first)
            case _:
                pass
        runtime.delete(first)


def rounds_of(node: Node, rounds: int) -> None:
    runtime = node.runtime()
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=churn,
            args=(
                runtime.conflist,
                str(node.bin_dir),
                node.name,
                [node.container().netns, node.container().netns],
                rounds,
                seed,
            ),
        )
        for seed in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(3000)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES, node.log.read_text()[-3000:]
    node.assert_clean()


def test_a_hundred_rounds_of_eight_processes(node: Node) -> None:
    rounds_of(node, 100 // PROCESSES + 1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_rounds_of_eight_processes(node: Node) -> None:
    rounds_of(node, 1000)
