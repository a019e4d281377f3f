"""How long a user waits: from ``lab up`` to all checks green, and from ADD's return until a new pod answers every node."""

from __future__ import annotations

import asyncio
import sys
import time

from tests.bench.figures import Figure, interval, percentile
from tests.bench.labs import BenchLab, bench_lab
from tortie.kernel import netns, process
from tortie.lab.pods import LabPod

UPS = 5
PODS = 100
NODES = 3


async def run() -> list[Figure]:
    ups = [await _up_to_green() for _ in range(UPS)]
    waits, first_blocks = await _reachable()
    up = interval(ups)
    return [
        Figure(
            subject="lab",
            what=f"{NODES}-node lab, from `up` to all checks green",
            value=f"{up.median:.1f} s, at most {max(ups):.1f} s",
            target="< 20 s",
            met=max(ups) < 20,
            runs=f"{UPS} labs",
        ),
        Figure(
            subject="lab",
            what="a new pod answers every node after ADD's return, p99",
            value=f"{percentile(waits, 0.99):.1f} ms (median {percentile(waits, 0.5):.1f} ms)",
            target="≤ 100 ms",
            met=percentile(waits, 0.99) <= 100,
            runs=f"{len(waits)} pods, {NODES} nodes",
        ),
        Figure(
            subject="lab",
            what="the same, where the pod takes its node's first block",
            value=f"at most {max(first_blocks):.1f} ms",
            target="≤ 100 ms",
            met=max(first_blocks) <= 100,
            runs=f"{len(first_blocks)} first blocks",
        ),
    ]


async def _up_to_green() -> float:
    """With one pod on two of the nodes each, as the check needs pairs."""
    started = time.monotonic()
    async with bench_lab(nodes=NODES) as lab:
        for number in range(1, NODES + 1):
            await lab.pod(f"a{number}", f"node{number}")
            await lab.pod(f"b{number}", f"node{number}")
        command = [sys.executable, "-m", "tortie", "check", "reachability", "--lab", lab.topology.name]
        await process.run(command, timeout_seconds=60)
        return time.monotonic() - started


async def _reachable() -> tuple[list[float], list[float]]:
    waits: list[float] = []
    first_blocks: list[float] = []
    for _ in range(2):
        async with bench_lab(nodes=NODES) as lab:
            for number in range(PODS // 2):
                wait = await _wait_for(lab, await lab.pod(f"p{number}", f"node{number % NODES + 1}"))
                waits.append(wait)
                if number < NODES:
                    first_blocks.append(wait)
    return waits, first_blocks


async def _wait_for(lab: BenchLab, pod: LabPod) -> float:
    """Milliseconds until the last node has an answer; one fping each, a packet every millisecond until then."""
    started = time.monotonic()

    async def from_node(name: str) -> float:
        spot = f"--net={netns.path_of(name)}"
        while True:
            command = ["nsenter", spot, "fping", "-q", "-c1", "-t20", pod.ips[0]]
            outcome = await process.run(command, check=False)
            if outcome.status == 0:
                return (time.monotonic() - started) * 1000

    return max(await asyncio.gather(*(from_node(node.netns) for node in lab.topology.nodes)))
