"""From the beginning of a write to the datastore until the first packet finds the new verdict, for a policy that selects all
thousand pods of a node: the whole agent, on SQLite and on etcd, and real packets to four of the pods, of which the last counts.

Once with no other policy on the node, and once with five thousand.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from tests.bench import crowd
from tests.bench.crowded_node import crowded
from tests.bench.figures import Figure, percentile
from tests.bench.flips import PORT, Prober
from tortie.datastore.open import open_store
from tortie.resources.resource import Resource
from tortie.resources.rules import EntityRule, Rule

CHANGES = 120
CLIENT, SERVERS = 0, (1, 333, 666, 999)
TARGET_MS = 200.0
NAME = "all-pods"


async def run() -> list[Figure]:
    figures: list[Figure] = []
    for datastore in ("sqlite", "etcd"):
        for policies in (0, crowd.POLICIES):
            figures += await asyncio.to_thread(_one, datastore, policies)
    return figures


def _one(datastore: str, policies: int) -> list[Figure]:
    with crowded(datastore, policies, real=(CLIENT, *SERVERS)) as (node, namespaces):
        prober = Prober((CLIENT, namespaces[CLIENT]), [(each, namespaces[each]) for each in SERVERS])
        try:
            prober.watch(allowed=True)
            measured = asyncio.run(_measure(node.datastore, prober))
        finally:
            prober.close()
    where = f"{datastore}, {policies:,} other policies"
    return [
        Figure(
            subject="policy",
            what=f"{what} that selects all {crowd.PODS:,} pods of a node: from the write to the first packet, p99 ({where})",
            value=f"{percentile(times, 0.99):.0f} ms (median {percentile(times, 0.5):.0f} ms)",
            target=f"≤ {TARGET_MS:.0f} ms",
            met=percentile(times, 0.99) <= TARGET_MS,
            runs=f"{len(times)} changes",
        )
        for what, times in measured.items()
    ]


async def _measure(url: str, prober: Prober) -> dict[str, list[float]]:
    """Milliseconds."""
    store = open_store(url)
    rules: list[float] = []
    whole: list[float] = []
    try:
        stored = await store.create(_policy("Allow"))
        await asyncio.sleep(1)
        for number in range(CHANGES):
            deny = number % 2 == 0
            changed = stored.with_spec(_policy("Deny" if deny else "Allow").spec)
            began, watching = _watch(prober, allowed=not deny)
            stored = await store.update(changed)
            rules.append((await watching - began) * 1000)
            await asyncio.sleep(random.uniform(0.05, 0.15))
        await store.delete(stored.key)
        await asyncio.sleep(1)
        for number in range(CHANGES):
            deny = number % 2 == 0
            began, watching = _watch(prober, allowed=not deny)
            if deny:
                stored = await store.create(_policy("Deny"))
            else:
                await store.delete(stored.key)
            whole.append((await watching - began) * 1000)
            await asyncio.sleep(random.uniform(0.05, 0.15))
    finally:
        await store.close()
    return {"a changed rule of a policy": rules, "a policy that comes or goes": whole}


def _watch(prober: Prober, *, allowed: bool) -> tuple[float, asyncio.Future[float]]:
    began = time.monotonic()
    watching = asyncio.get_running_loop().run_in_executor(None, lambda: prober.watch(allowed=allowed))
    return began, watching


def _policy(action: str) -> Resource[Any]:
    rule = Rule(action=action, protocol="UDP", destination=EntityRule(ports=(PORT,)))
    return crowd.broad(NAME, 1.0, rule)
