"""With etcd as the datastore: some of the cases (policies, labels of pods and namespaces, a deletion, each protocol), and nodes
that are guarded themselves and still need etcd and BGP."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.lab_command import wait_until
from tests.netpol.cases import CASES
from tests.netpol.cluster import Cluster, cluster, stand_of
from tests.netpol.documents import Document
from tests.netpol.model import ANY, NODES, Case, Step

pytestmark = pytest.mark.needs("bird", "nftables", "etcd")
CHOSEN = (2, 10, 15, 18, 21, 24, 33, 36, 42, 44, 47)


@pytest.fixture(scope="module")
def on_etcd() -> Iterator[Cluster]:
    with cluster(f"tt-{os.getpid()}-netpol-e", "--datastore", "etcd") as made:
        yield made


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.number in CHOSEN],
    ids=lambda case: f"{case.number}: {case.name}",
)
def test_case(on_etcd: Cluster, case: Case) -> None:
    try:
        for step in case.steps:
            on_etcd.run_step(case, step)
    finally:
        on_etcd.undo(case)


def guard(node: str, interface: str) -> Document:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "HostEndpoint",
        "metadata": {"name": f"{node}-guard", "labels": {"role": "host"}},
        "spec": {"node": node, "interfaceName": interface},
    }


def _is_another(made: Cluster, unit: str, pid: int) -> bool:
    return made.lab.pid(unit) not in (None, pid)


def _is_whole(made: Cluster, node: str) -> bool:
    run_dir = made.lab.exports("--node", node)["TORTIE_RUN_DIR"]
    return (
        made.lab.ready(node)
        and "Established" in made.lab.run("node", "status", "--run-dir", run_dir, check=False).stdout
    )


@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_guarded_nodes_keep_what_the_cluster_needs(on_etcd: Cluster, interface: str) -> None:
    """HostEndpoints without any policy: fail-safe ports alone stay open, for etcd and for BGP. Pods are no business of theirs."""
    lab = on_etcd.lab
    whole = Case(number=0, name="", pods=" ".join(NODES), steps=(Step(expect={ANY: ()}),))
    address = {node["name"]: node["address"] for node in lab.status()["nodes"]}
    assert lab.reaches("node1", address["node2"])
    lab.apply(guard("node1", interface), guard("node2", interface))
    try:
        wait_until(lambda: not lab.reaches("node1", address["node2"]), "the nodes are guarded", 30)
        on_etcd.run_step(whole, whole.steps[0])
        # Connections of old would go on anyhow: new programs need new ones.
        for unit in ("node1/bird", "node2/agent"):
            pid = lab.pid(unit)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_until(partial(_is_another, on_etcd, unit, pid), f"{unit} is back", 30)
        for node in address:
            wait_until(partial(_is_whole, on_etcd, node), f"{node} is ready, its session established", 60)
        # A new pod needs etcd for its address, and BGP for its route where its node has no block yet.
        made = lab.add_pod("guarded", "node2", "-n", "x")
        on_etcd.prober.add("x/guarded", stand_of(made))
        try:
            more = Case(number=0, name="", pods="x/a x/b x/guarded", steps=(Step(expect={ANY: ()}),))
            on_etcd.run_step(more, more.steps[0])
        finally:
            on_etcd.prober.forget("x/guarded")
            lab.run("lab", "pod", "rm", "x/guarded")
    finally:
        lab.delete("hostendpoint", "node1-guard", "node2-guard")
    wait_until(lambda: lab.reaches("node1", address["node2"]), "the nodes are open again", 30)
