"""All 48 cases, in the order of Kubernetes' suite."""

from __future__ import annotations

from tests.netpol import change_cases, egress_cases, ingress_cases, protocol_cases
from tests.netpol.model import Case

CASES: tuple[Case, ...] = tuple(
    sorted(
        (*ingress_cases.CASES, *egress_cases.CASES, *change_cases.CASES, *protocol_cases.CASES),
        key=lambda case: case.number,
    )
)
