"""What policy costs packets: throughput and round trips between two pods of a node, without policy, with one and with 5,000.

Beside it the same 5,000 policies as linear chains of iptables, in the same rounds. Every figure is the ratio to the same path
without policy, round by round: the four are measured in turn, each round from another one on. A connection that stands is let
through by its first rule; what a policy costs shows in the third figure, where every round trip is a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import crowd, linear
from tests.bench.figures import Figure, interval
from tests.bench.throughput import gigabits, inside
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.kernel import netns, process
from tortie.resources.resource import Resource

ROUNDS = 20
ROUND_TRIPS, CONNECTIONS = 6_000, 1_000
CLIENT, SERVER = 500, 501
PORT = 7
NODE = "n0"
TARGET = 0.98
WITHOUT, ONE, MANY, LINEAR = "without policy", "1 policy", f"{crowd.POLICIES:,} policies", "linear iptables"

_UPLINK = """link add eth0 type veth peer name far0
link set far0 up
link set eth0 up
addr add 172.30.0.1/24 dev eth0
route add default via 172.30.0.254
"""


@dataclass(frozen=True)
class _Path:
    """A node's namespace, and those of its two pods."""

    node: str
    client: str
    server: str


async def run() -> list[Figure]:
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="tt-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        program = str(directory / "roundtrips")
        source = Path(__file__).with_name("roundtrips.c")
        await process.run(["gcc", "-O2", "-o", program, str(source)], timeout_seconds=60)
        paths = await _paths(stack)
        for path in paths.values():
            _serve(stack, inside(path.server, 1, program, "serve", str(PORT)))
        address = str(crowd.address(SERVER))

        def trips(kind: str, count: int) -> Callable[[_Path], Awaitable[float]]:
            async def measure(path: _Path) -> float:
                command = inside(path.client, 0, program, kind, address, str(PORT), str(count))
                done = await process.run(command, timeout_seconds=60)
                return count / float(done.stdout) / 1000

            return measure

        await asyncio.sleep(1)  # until the last server listens and every wire runs
        return [
            *await _compared(
                "TCP throughput", "Gb/s", paths, lambda p: gigabits(p.client, p.server, address)
            ),
            *await _compared("round trips, one connection", "thousand/s", paths, trips("rr", ROUND_TRIPS)),
            *await _compared(
                "round trips, each a new connection", "thousand/s", paths, trips("crr", CONNECTIONS)
            ),
        ]


def _serve(stack: contextlib.ExitStack, command: list[str]) -> None:
    server = subprocess.Popen(command)
    stack.callback(server.wait)
    stack.callback(server.kill)


async def _compared(
    what: str, unit: str, paths: dict[str, _Path], measure: Callable[[_Path], Awaitable[float]]
) -> list[Figure]:
    found: dict[str, list[float]] = {name: [] for name in paths}
    names = list(paths)
    for path in paths.values():
        await measure(path)  # neighbours, caches
    for number in range(ROUNDS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(await measure(paths[name]))
    without = found.pop(WITHOUT)
    figures: list[Figure] = []
    for name, values in found.items():
        ratio = interval([mine / other for mine, other in zip(values, without, strict=True)])
        here, there = statistics.median(values), statistics.median(without)
        ours = name != LINEAR
        figures.append(
            Figure(
                subject="policy",
                what=f"{what}, {name} ({here:.3g} {unit}) / {WITHOUT} ({there:.3g} {unit})",
                value=ratio.text(),
                target=f"≥ {TARGET}" if ours else "",
                met=ratio.high >= TARGET if ours else None,
                runs=f"{ROUNDS} rounds, pinned",
            )
        )
    return figures


async def _paths(stack: contextlib.ExitStack) -> dict[str, _Path]:
    """The same two pods on four nodes."""
    base = [*crowd.namespaces()]
    two, everyone = [CLIENT, SERVER], range(crowd.PODS)
    many = (*crowd.policies(), crowd.last_word())
    found = {
        WITHOUT: await _node(stack, two, base),
        ONE: await _node(stack, two, (*base, crowd.last_word())),
        MANY: await _node(stack, everyone, (*base, *many)),
        LINEAR: await _node(stack, everyone, base),
    }
    node = found[LINEAR].node
    for family in ("ip", "ip6"):
        _run(node, "nft", "delete", "table", family, "tortie")
    _run(node, *linear.RESTORE, stdin=linear.chains(everyone, crowd.POLICIES))
    return found


async def _node(
    stack: contextlib.ExitStack, pods: Iterable[int], resources: Iterable[Resource[Any]]
) -> _Path:
    path = _Path(*stack.enter_context(_namespaces(3)))
    numbers = list(pods)
    crowd.wire_real(path.node, CLIENT, path.client)
    crowd.wire_real(path.node, SERVER, path.server)
    crowd.wire(path.node, [number for number in numbers if number not in (CLIENT, SERVER)])
    # A way out: without one the kernel would not answer for the pods' gateway.
    _run(path.node, "ip", "-batch", "-", stdin=_UPLINK)
    plane = LinuxDataplane(namespace=path.node)
    await plane.start()
    applied = await plane.apply(crowd.flushed(NODE, (*crowd.pods(NODE, numbers), *resources)))
    assert not applied.failed, next(iter(applied.failed.items()))
    await plane.close()  # what it wrote stays, and nobody looks after it
    return path


_made = iter(range(1_000_000))


@contextlib.contextmanager
def _namespaces(count: int) -> Iterator[list[str]]:
    names = [f"bench-{os.getpid()}-p{next(_made)}" for _ in range(count)]
    for name in names:
        netns.create(name)
    try:
        yield names
    finally:
        for name in names:
            netns.delete(name)


def _run(name: str, *command: str, stdin: str = "") -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", name, *command], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[:2000]}")
