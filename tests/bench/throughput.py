"""TCP from pod to pod across two nodes, against the same wires without Tortie: plain routed veth pairs on a bridge.

Once with uplinks as they come, once with uplinks that take over larger packets to be cut; the plain path's are alike.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.figures import Figure, ratios
from tests.bench.labs import bench_lab
from tortie.kernel import netns, process
from tortie.lab.fabric import set_segments

PAIRS = 20
SECONDS = 1
PLAIN = "bench-plain"
TARGET = 0.98
LARGE = 196608
"""Three times what an interface takes as it comes. Cards that take more than 64 KiB allow 256 KiB and more."""


async def run() -> list[Figure]:
    return [*await _measured(0), *await _measured(LARGE)]


async def _measured(segments: int) -> list[Figure]:
    """Against plain veth pairs and, where the uplinks take more, against some whose sizes were raised by hand."""
    found: list[Figure] = []
    async with bench_lab(nodes=2, segments=segments) as lab:
        server = await lab.pod("server", "node2")
        client = await lab.pod("client", "node1")

        async def ours() -> float:
            return await gigabits(client.netns, server.netns, server.ips[0])

        async def plain() -> float:
            return await gigabits(f"{PLAIN}.pod1", f"{PLAIN}.pod2", "10.99.2.2")

        await _build_plain(segments)
        try:
            uplinks = f"uplinks of {segments // 1024} KiB" if segments else "uplinks of 64 KiB"
            found.append(await _figure(ours, plain, f"plain routed veth, {uplinks}", TARGET))
            if segments:
                _raise_plain_pods(segments)
                found.append(await _figure(ours, plain, f"plain routed veth raised by hand, {uplinks}", None))
        finally:
            _remove_plain()
    return found


async def _figure(
    ours: Callable[[], Awaitable[float]],
    plain: Callable[[], Awaitable[float]],
    other: str,
    target: float | None,
) -> Figure:
    ratio, mine, theirs = await ratios(ours, plain, pairs=PAIRS)
    middle = sorted(mine)[len(mine) // 2], sorted(theirs)[len(theirs) // 2]
    return Figure(
        subject="dataplane",
        what=f"pod-to-pod TCP across nodes ({middle[0]:.1f} Gb/s) / {other} ({middle[1]:.1f} Gb/s)",
        value=ratio.text(),
        target=f"≥ {target}" if target else "",
        met=ratio.high >= target if target else None,
        runs=f"{PAIRS} pairs of {SECONDS} s, pinned",
    )


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


async def _build_plain(segments: int) -> None:
    """``segments`` for the uplinks and the fabric's ports, as the lab does it; the pods' wires stay as they come."""
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
        if segments:
            set_segments(names[0], (f"n{number}",), segments)
            set_segments(node, ("eth0",), segments)


def _raise_plain_pods(segments: int) -> None:
    for number in (1, 2):
        set_segments(f"{PLAIN}.node{number}", ("pod",), segments)
        set_segments(f"{PLAIN}.pod{number}", ("eth0",), segments)


def _remove_plain() -> None:
    for name in ("pod1", "pod2", "node1", "node2", "fabric"):
        netns.delete(f"{PLAIN}.{name}")


async def _ip(namespace: str, *commands: str) -> None:
    text = "".join(f"{command}\n" for command in commands)
    await process.run(["ip", "-n", namespace, "-batch", "-"], stdin=text.encode())
