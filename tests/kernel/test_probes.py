"""Echoes out of a namespace and what arrives in another, over a real wire."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable

import pytest

from tortie.agent.probes import Captures, probe
from tortie.errors import NamespaceGone, UsageError

pytestmark = pytest.mark.needs("netns")

NEAR, FAR, NOBODY = "10.99.0.1", "10.99.0.2", "10.99.0.3"
NEAR_V6, FAR_V6 = "fd00:99::1", "fd00:99::2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def wire(netns: Callable[[], str]) -> tuple[str, str]:
    """Two namespaces with a wire between them; their paths."""
    near, far = netns(), netns()
    ip("link", "add", "eth0", "netns", near, "type", "veth", "peer", "name", "eth0", "netns", far)
    for namespace, addresses in ((near, (NEAR, NEAR_V6)), (far, (FAR, FAR_V6))):
        for address in addresses:
            length, extra = ("/64", ["nodad"]) if ":" in address else ("/24", [])
            ip("-n", namespace, "addr", "add", address + length, "dev", "eth0", *extra)
        ip("-n", namespace, "link", "set", "eth0", "up")
    # IPv6 is ready a moment after the link is: its first neighbour solicitation may be lost.
    ping = ["nsenter", f"--net=/run/netns/{near}", "ping", "-6", "-c", "1", "-w", "10", "-q", FAR_V6]
    subprocess.run(ping, check=True, capture_output=True)
    return f"/run/netns/{near}", f"/run/netns/{far}"


async def test_a_probe_tells_who_answers_and_a_capture_from_where_it_came(wire: tuple[str, str]) -> None:
    near, far = wire
    captures = Captures()
    number = await captures.start(far, 30)
    answers = await probe(near, [FAR, FAR_V6, NOBODY], count=2, interval_ms=10, timeout_ms=500)
    by_target = {answer["target"]: answer for answer in answers}
    assert (by_target[FAR]["sent"], by_target[FAR]["received"], by_target[FAR]["loss"]) == (2, 2, 0)
    assert by_target[FAR_V6]["received"] == 2
    assert 0 < by_target[FAR]["rtt_ms"] < 500
    assert by_target[NOBODY] == {"target": NOBODY, "sent": 2, "received": 0, "loss": 1, "rtt_ms": None}
    seen = captures.stop(number)
    assert {(one["source"], one["destination"]) for one in seen} == {(NEAR, FAR), (NEAR_V6, FAR_V6)}
    assert len(seen) == 4
    assert {one["interface"] for one in seen} == {"eth0"}


async def test_what_a_namespace_sends_is_not_what_arrives_there(wire: tuple[str, str]) -> None:
    near, _ = wire
    captures = Captures()
    number = await captures.start(near, 30)
    await probe(near, [FAR], count=1, interval_ms=10, timeout_ms=500)
    assert captures.stop(number) == []


async def test_a_capture_ends_by_itself(wire: tuple[str, str]) -> None:
    captures = Captures()
    number = await captures.start(wire[0], 0.05)
    await asyncio.sleep(0.2)
    with pytest.raises(UsageError, match=f"capture {number} does not run"):
        captures.stop(number)


async def test_bounds_and_names(wire: tuple[str, str]) -> None:
    captures = Captures()
    with pytest.raises(NamespaceGone):
        await captures.start("/run/netns/tt-no-such", 1)
    with pytest.raises(UsageError, match="seconds is above 0"):
        await captures.start(wire[0], 3600)
    with pytest.raises(UsageError, match="count is 1 to 1000"):
        await probe(wire[0], [FAR], count=10_000, interval_ms=10, timeout_ms=10)
    with pytest.raises(UsageError, match="'--flood'"):
        await probe(wire[0], ["--flood"], count=1, interval_ms=10, timeout_ms=10)
