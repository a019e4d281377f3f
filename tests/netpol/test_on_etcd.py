"""Some of the cases with etcd as the datastore: policies, labels of pods and namespaces, a deletion, each protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.netpol.cases import CASES
from tests.netpol.cluster import Cluster, cluster
from tests.netpol.model import Case

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
