"""Counts of policy, read from the kernel now and then for the metrics, and at once for whoever asks."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from tortie.errors import KernelError
from tortie.host.policy_counts import PolicyCount
from tortie.observe import log
from tortie.observe.health import Health
from tortie.observe.policy_metrics import PolicyMetrics, PolicySum

INTERVAL_SECONDS = 10.0
_LIVE_SECONDS = 120.0

logger = log.get("policy counts")


class Read(Protocol):
    def __call__(self, *, every_rule: bool) -> Awaitable[Sequence[PolicyCount]]:
        """Ask the kernel; without ``every_rule`` what has counted anything is enough. Raises `KernelError`."""
        ...


class PolicyCounts:
    """Reads, sums and tells."""

    def __init__(
        self,
        read: Read,
        metrics: PolicyMetrics,
        health: Health,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._read = read
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._reporter = health.register("PolicyCounts", timeout_seconds=_LIVE_SECONDS, for_ready=False)

    async def rows(self) -> list[dict[str, Any]]:
        """What each rule has counted. Raises `KernelError`."""
        return [dataclasses.asdict(row) for row in await self._read(every_rule=True)]

    async def run(self) -> None:
        """Keep the metrics fresh. Eternal."""
        while True:
            try:
                self._metrics.put(sums(await self._read(every_rule=False)))
            except KernelError as error:
                logger.warning("the counters of policy cannot be read", reason=str(error))
            self._reporter.report()
            await asyncio.sleep(self._interval_seconds)


def sums(rows: Sequence[PolicyCount]) -> list[PolicySum]:
    """By policy and action; of staged policies what they would have done."""
    return [
        PolicySum(
            (
                row.direction,
                f"staged-{row.action}" if row.staged else row.action,
                row.decided_by,
                row.tier,
                row.kind,
                row.namespace,
                row.name,
            ),
            row.packets,
            row.bytes,
        )
        for row in rows
    ]
