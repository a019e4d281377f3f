"""The 48 reachability cases of Kubernetes' own NetworkPolicy suite, each as a whole truth table, by real packets."""

from __future__ import annotations

import pytest

from tests.netpol.cases import CASES
from tests.netpol.cluster import Cluster
from tests.netpol.model import ANY, NODES, Case, Step

pytestmark = pytest.mark.needs("bird", "nftables")


def test_without_policies_everyone_reaches_everyone(shared: Cluster) -> None:
    whole = Case(number=0, name="", pods=" ".join(NODES), steps=(Step(expect={f"{ANY}, SCTP 80 81": ()}),))
    shared.run_step(whole, whole.steps[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}: {case.name}")
def test_case(shared: Cluster, case: Case) -> None:
    try:
        for step in case.steps:
            shared.run_step(case, step)
    finally:
        shared.undo(case)
