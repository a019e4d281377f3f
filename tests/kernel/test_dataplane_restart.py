"""Killed at any moment: packets go on, rules hold, and the next one adopts what it finds. And many endpoints at once."""

from __future__ import annotations

import dataclasses
import pickle
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.kernel.dataplane_world import OUTSIDE_V4, RETURN, World, applied, default_ipsets, heard, started
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.desired.routes import RouteRow
from tortie.desired.table import Flush
from tortie.kernel.rtnetlink_codec import VethEnd
from tortie.net.addresses import Address, Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack", "fping")


@pytest.fixture
def world(netns: Callable[[], str]) -> Iterator[World]:
    world = World(netns)
    yield world
    world.close()


def start(world: World, flush: Flush) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kernel.dataplane_process", world.node],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    pickle.dump(flush, process.stdin)
    process.stdin.close()
    return process


def said(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Writes and failures of its first apply."""
    assert process.stdout is not None
    writes, failed = process.stdout.readline().split()
    return int(writes), int(failed)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_killed_under_ping_and_adopted(world: World) -> None:
    pods = [world.pod(number) for number in (1, 2)]
    flush = world.flush(*pods, settings=RETURN, ipsets=default_ipsets())
    process = start(world, flush)
    writes, failed = said(process)
    assert (writes > 0, failed) == (True, 0)
    before = world.ruleset()
    ping = subprocess.Popen(
        [
            "ip",
            "netns",
            "exec",
            world.outside,
            "fping",
            "-q",
            "-C",
            "150",
            "-p",
            "10",
            str(pods[0].v4),
            str(pods[1].v4),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.3)
    kill(process)
    process = start(world, flush)
    assert said(process) == (0, 0), "nothing to write: all is there"
    _, lines = ping.communicate(timeout=30)
    kill(process)
    replies = [reply for line in lines.splitlines() for reply in line.split(":", 1)[1].split()]
    assert len(replies) == 300
    assert "-" not in replies
    assert {line for line in world.ruleset().splitlines() if "elements" in line} == {
        line for line in before.splitlines() if "elements" in line
    }


@pytest.mark.parametrize("seed", range(4))
def test_killed_in_the_middle_of_the_first_apply(world: World, seed: int) -> None:
    pods = [world.pod(number) for number in range(1, 5)]
    extra = {
        Prefix(4, Address.parse("10.65.128.0").value + number * 64, 26): RouteRow(
            kind="blackhole", advertised=True
        )
        for number in range(400)
    }
    flush = world.flush(*pods, settings=RETURN, ipsets=default_ipsets(), routes=extra)
    process = start(world, flush)
    deadline = time.monotonic() + 10
    while "tortie" not in world.run("nft", "list", "tables") and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(random.Random(seed).uniform(0, 0.03))
    kill(process)
    process = start(world, flush)
    assert said(process)[1] == 0
    for pod in pods:
        assert heard(world.outside, OUTSIDE_V4, pod.namespace, pod.v4) is not None
    kill(process)
    assert (
        len([line for line in world.run("ip", "route").splitlines() if line.startswith("blackhole")]) == 400
    )


async def test_a_thousand_endpoints(world: World) -> None:
    count = 1000
    endpoints: dict[EndpointKey, EndpointRow] = {}
    routes: dict[Prefix, RouteRow] = {}

    def more(number: int) -> tuple[dict[EndpointKey, EndpointRow], dict[Prefix, RouteRow]]:
        name = f"cali{number:x}"
        world.kernel.create_veth(VethEnd(name=name, up=True), VethEnd(name=f"p{number:x}"))
        four = Address(4, Address.parse("10.65.0.0").value + number)
        six = Address(6, Address.parse("fd65::").value + number)
        row = EndpointRow(interface=name, addresses=(four, six), revision="1")
        route = RouteRow(kind="local-workload", interface=name)
        return {EndpointKey("default", name): row}, {four.prefix: route, six.prefix: route}

    for number in range(count):
        rows, leads = more(number)
        endpoints |= rows
        routes |= leads
    plane = await started(world)
    flush = world.flush(settings=RETURN, ipsets=default_ipsets(), endpoints=endpoints, routes=routes)
    began = time.monotonic()
    await applied(plane, flush)
    load_seconds = time.monotonic() - began
    assert load_seconds < 20, "1 s on a quiet machine"
    written = plane.kernel_writes
    await applied(plane, dataclasses.replace(flush, generation=2))
    assert not (await plane.resync()).failed
    assert plane.kernel_writes == written
    seconds: list[float] = []
    for number in range(count, count + 20):
        rows, leads = more(number)
        one = world.flush(endpoints=rows, routes=leads)
        began, before = time.monotonic(), plane.kernel_writes
        await applied(plane, one)
        seconds.append(time.monotonic() - began)
        assert plane.kernel_writes - before < 20, "the cost of one, not of a thousand"
    assert statistics.median(seconds) < 0.1, "2 to 3 ms on a quiet machine"
    await plane.close()
