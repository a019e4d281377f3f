"""Counts of policy: read for the metrics now and then, told at once to who asks."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tortie.agent.policy_counts import PolicyCounts, sums
from tortie.errors import KernelError
from tortie.host.policy_counts import PolicyCount
from tortie.observe.health import Health
from tortie.observe.metrics import Metrics

DENIED = PolicyCount(
    direction="ingress",
    decided_by="rule",
    action="Deny",
    tier="default",
    kind="NetworkPolicy",
    namespace="shop",
    name="web",
    rule=1,
    packets=3,
    bytes=180,
)
END = PolicyCount(
    direction="egress", decided_by="tier-end", action="Deny", tier="default", packets=2, bytes=99
)
STAGED = PolicyCount(
    direction="ingress", decided_by="rule", action="Deny", kind="StagedNetworkPolicy", name="s", rule=0,
    staged=True, packets=1, bytes=60,
)  # fmt: skip
SILENT = PolicyCount(
    direction="ingress", decided_by="rule", action="Allow", kind="NetworkPolicy", name="quiet", rule=0
)


async def test_metrics_sum_the_rules_of_a_policy_and_hold_only_what_counted() -> None:
    metrics = Metrics()
    rows = [DENIED, DENIED, END, STAGED, SILENT]
    reads, third = 0, asyncio.Event()

    async def read(*, every_rule: bool) -> list[PolicyCount]:
        assert not every_rule
        nonlocal reads
        reads += 1
        if reads == 4:
            third.set()
        if reads == 2:
            raise KernelError(5, "list the counters")
        return rows

    counts = PolicyCounts(read, metrics.policies, Health(), interval_seconds=0.01)
    loop = asyncio.create_task(counts.run())
    try:
        async with asyncio.timeout(30):
            await third.wait()
    finally:
        loop.cancel()
    text = metrics.render().decode()
    where = 'direction="ingress",kind="NetworkPolicy",name="web",namespace="shop",tier="default"'
    assert f'tortie_policy_packets_total{{action="Deny",decided_by="rule",{where}}} 6.0' in text
    assert f'tortie_policy_bytes_total{{action="Deny",decided_by="rule",{where}}} 360.0' in text
    assert 'action="Deny",decided_by="tier-end",direction="egress"' in text
    assert 'action="staged-Deny"' in text
    assert "quiet" not in text


def test_a_sum_never_becomes_less_while_its_policy_counts() -> None:
    """Else Prometheus would take it for a start anew, and add all of it again."""
    metrics = Metrics()

    def told(*packets: int) -> str:
        metrics.policies.put(
            sums([dataclasses.replace(DENIED, packets=each, bytes=10 * each) for each in packets])
        )
        found = [line for line in metrics.render().decode().splitlines() if line.startswith("tortie_policy_")]
        return " ".join(line.rpartition(" ")[2] for line in found)

    assert told(5, 3) == "8.0 80.0"
    assert told(5) == "8.0 80.0", "a rule is gone, or the last pod of an IP version"
    assert told(6, 1) == "10.0 100.0"
    assert told(6, 3) == "12.0 120.0"
    assert told(2) == "12.0 120.0"
    assert told(4, 1) == "15.0 150.0"
    assert told(0) == "", "all of it is gone"
    assert told(1) == "1.0 10.0"


async def test_who_asks_is_told_each_rule() -> None:
    async def read(*, every_rule: bool) -> list[PolicyCount]:
        return [DENIED, SILENT] if every_rule else [DENIED]

    counts = PolicyCounts(read, Metrics().policies, Health())
    rows = await counts.rows()
    assert [(row["name"], row["rule"], row["packets"]) for row in rows] == [("web", 1, 3), ("quiet", 0, 0)]
    assert rows[0].keys() == {
        "direction", "decided_by", "action", "tier", "kind", "namespace", "name", "rule", "staged", "packets", "bytes"
    }  # fmt: skip


@pytest.mark.parametrize(("row", "action"), [(DENIED, "Deny"), (STAGED, "staged-Deny")])
def test_what_a_staged_policy_would_do_is_told_apart(row: PolicyCount, action: str) -> None:
    assert sums([row])[0].labels[1] == action
