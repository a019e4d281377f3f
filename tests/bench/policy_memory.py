"""The resident memory of an agent with ten thousand pods elsewhere, and policies whose sets hold every one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import crowd
from tests.bench.crowded_node import crowded
from tests.bench.figures import Figure
from tortie.resources.resource import Resource
from tortie.resources.rules import EntityRule, Rule

REMOTE, LOCAL, NODES = 10_000, 20, 100
SETTLE_SECONDS = 15
TARGET_MIB = 150


async def run() -> list[Figure]:
    return [figure for each in ("sqlite", "etcd") for figure in await asyncio.to_thread(_one, each)]


def _one(datastore: str) -> list[Figure]:
    with crowded(datastore, 0, pods=LOCAL, extra=_cluster()) as (node, _):
        assert node.agent is not None
        time.sleep(SETTLE_SECONDS)
        now, peak = _resident_mib(node.agent.pid)
    what = f"the agent's memory with {REMOTE:,} remote pods in the sets of {len(list(_policies()))} policies, {datastore}"
    return [
        Figure(
            subject="policy",
            what=what,
            value=f"{now:.0f} MiB (at most {peak:.0f} MiB)",
            target=f"< {TARGET_MIB} MiB",
            met=now < TARGET_MIB,
            runs="1",
        )
    ]


def _cluster() -> Iterator[Resource[Any]]:
    yield from _policies()
    for node in range(NODES):
        yield from crowd.pods(f"far-{node}", range(crowd.PODS + node, crowd.PODS + REMOTE, NODES))


def _policies() -> Iterator[Resource[Any]]:
    """Everyone; all namespaces; a third; all but a third, with a named port."""
    for place, peer in enumerate(
        (
            EntityRule(selector="all()"),
            EntityRule(namespace_selector="has(projectcalico.org/name)"),
            EntityRule(selector="tier == 't1'"),
            EntityRule(not_selector="tier == 't2'"),
        )
    ):
        yield crowd.broad(f"broad-{place}", place, Rule(action="Allow", protocol="TCP", source=peer))


def _resident_mib(pid: int) -> tuple[float, float]:
    """Now, and the most there ever was."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024
