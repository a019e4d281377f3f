"""What an agent costs while nothing happens: resident memory and CPU, in a lab of ten nodes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.labs import bench_lab
from tortie.lab import state

NODES = 10
SETTLE_SECONDS = 20
WATCH_SECONDS = 60


async def run() -> list[Figure]:
    async with bench_lab(nodes=NODES) as lab:
        await asyncio.sleep(SETTLE_SECONDS)
        pids = [node["agent_pid"] for node in state.status(lab.topology)["nodes"]]
        before = [_cpu_seconds(pid) for pid in pids]
        await asyncio.sleep(WATCH_SECONDS)
        shares = [
            (_cpu_seconds(pid) - begun) / WATCH_SECONDS for pid, begun in zip(pids, before, strict=True)
        ]
        memory = [_resident_mib(pid) for pid in pids]
    runs = f"{NODES} agents, {WATCH_SECONDS} s"
    return [
        Figure(
            subject="agent",
            what="idle: resident memory of the largest agent",
            value=f"{max(memory):.0f} MiB",
            target="< 80 MiB",
            met=max(memory) < 80,
            runs=runs,
        ),
        Figure(
            subject="agent",
            what="idle: CPU of the busiest agent",
            value=f"{max(shares):.2%}",
            target="< 0.5 %",
            met=max(shares) < 0.005,
            runs=runs,
        ),
    ]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
