"""TCP from pod to pod across two nodes, against the same wires without Tortie: plain routed veth pairs on a bridge."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.bench.figures import Figure, ratios
from tests.bench.labs import bench_lab
from tortie.kernel import netns, process

PAIRS = 20
SECONDS = 1
PLAIN = "bench-plain"
TARGET = 0.98


async def run() -> list[Figure]:
    async with bench_lab(nodes=2) as lab:
        server = await lab.pod("server", "node2")
        client = await lab.pod("client", "node1")
        await _build_plain()
        try:
            ratio, ours, theirs = await ratios(
                lambda: gigabits(client.netns, server.netns, server.ips[0]),
                lambda: gigabits(f"{PLAIN}.pod1", f"{PLAIN}.pod2", "10.99.2.2"),
                pairs=PAIRS,
            )
        finally:
            _remove_plain()
    middle = sorted(ours)[len(ours) // 2], sorted(theirs)[len(theirs) // 2]
    return [
        Figure(
            subject="dataplane",
            what=f"pod-to-pod TCP across nodes ({middle[0]:.1f} Gb/s) / plain routed veth ({middle[1]:.1f} Gb/s)",
            value=ratio.text(),
            target=f"≥ {TARGET}",
            met=ratio.high >= TARGET,
            runs=f"{PAIRS} pairs of {SECONDS} s, pinned",
        )
    ]


async def gigabits(client: str, server: str, address: str) -> float:
    """One run of iperf3, the client on CPU 0 and the server on CPU 1."""
    serving = asyncio.create_task(
        process.run(inside(server, 1, "iperf3", "-s", "-1"), timeout_seconds=30, check=False)
    )
    command = inside(client, 0, "iperf3", "-J", "-c", address, "-t", str(SECONDS), "-O", "0.2")
    answer: dict[str, Any] = {}
    for _ in range(50):
        outcome = await process.run(command, timeout_seconds=30, check=False)
        answer = json.loads(outcome.stdout or b"{}")
        if "error" not in answer:
            await serving
            return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e9
        await asyncio.sleep(0.02)  # the server is not listening yet
    raise RuntimeError(f"iperf3 from {client} to {address}: {answer['error']}")


def inside(namespace: str, cpu: int, *argv: str) -> list[str]:
    """A command for a namespace, on one CPU."""
    return ["nsenter", f"--net={netns.path_of(namespace)}", "taskset", "-c", str(cpu), *argv]


async def _build_plain() -> None:
    _remove_plain()
    names = [f"{PLAIN}.{name}" for name in ("fabric", "node1", "node2", "pod1", "pod2")]
    for name in names:
        netns.create(name)
    await _ip(names[0], "link add br0 type bridge", "link set br0 up")
    for number in (1, 2):
        node, pod, other = f"{PLAIN}.node{number}", f"{PLAIN}.pod{number}", 3 - number
        await _ip(
            names[0],
            f"link add n{number} type veth peer name eth0 netns {node}",
            f"link set n{number} master br0 up",
        )
        await _ip(
            node,
            "link set lo up",
            f"addr add 172.31.0.{number}/24 dev eth0",
            "link set eth0 up",
            f"link add pod type veth peer name eth0 netns {pod}",
            "link set pod up",
            f"addr add 10.99.{number}.1/24 dev pod",
            f"route add 10.99.{other}.0/24 via 172.31.0.{other}",
        )
        await _ip(
            pod,
            "link set lo up",
            "link set eth0 up",
            f"addr add 10.99.{number}.2/24 dev eth0",
            f"route add default via 10.99.{number}.1",
        )
        forward = f"--net={netns.path_of(node)}"
        await process.run(["nsenter", forward, "sysctl", "-qw", "net.ipv4.ip_forward=1"])


def _remove_plain() -> None:
    for name in ("pod1", "pod2", "node1", "node2", "fabric"):
        netns.delete(f"{PLAIN}.{name}")


async def _ip(namespace: str, *commands: str) -> None:
    text = "".join(f"{command}\n" for command in commands)
    await process.run(["ip", "-n", namespace, "-batch", "-"], stdin=text.encode())
