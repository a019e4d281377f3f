"""Real BIRDs in real namespaces: what the rendered configuration does."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.kernel.bird_fabric import BirdNode, Fabric, eventually, ip, lost, pinger
from tortie.dataplane.bird.manager import CONFIGURATION
from tortie.dataplane.bird.renderer import render
from tortie.errors import KernelError, ProgramFailed

pytestmark = [pytest.mark.needs("bird", "fping", "veth", "bridge"), pytest.mark.timeout(90)]


@pytest.fixture
def fabric(netns: Callable[[], str], run_dir: Path) -> Iterator[Fabric]:
    made = Fabric(netns, run_dir)
    yield made
    made.close()


async def _mesh(fabric: Fabric, count: int = 3, password: str | None = None) -> list[BirdNode]:
    nodes = [fabric.add() for _ in range(count)]
    numbers = [node.number for node in nodes]
    for node in nodes:
        node.write(node.mesh(numbers, password))
        node.start()
    for node in nodes:
        await eventually(f"sessions of node{node.number}", partial(node.established, 2 * (count - 1)), 20)
    return nodes


async def test_blocks_spread_within_a_second(fabric: Fabric) -> None:
    """The quickest of three: BIRD hears of routes at once, instead of at its scan every ten seconds."""
    first, second, third = await _mesh(fabric)
    for prefix in ("10.77.{}.0/26", "fd77:0:0:{}::/122"):
        came: list[float] = []
        for number in (1, 2, 3):
            first.block(prefix.format(number))
            for other in (second, third):
                has = partial(other.has, prefix.format(number))
                came.append(await eventually(f"{prefix} on node{other.number}", has, 20))
        assert min(came) < 1, came
    route = second.fib()["10.77.1.0/26"]
    assert f"via {first.ipv4}" in route
    assert f"src {second.ipv4}" in route, "without it a pod sees a caller it does not know"
    assert f"src {second.ipv6}" in second.fib(6)["fd77:0:0:1::/122"]
    went: list[float] = []
    for number in (1, 2, 3):
        prefix = f"10.77.{number}.0/26"
        ip("-n", first.netns, "route", "del", "blackhole", prefix)
        went.append(await eventually("the withdrawal", partial(_lacks, second, prefix), 20))
    assert min(went) < 1, went


async def _lacks(node: BirdNode, prefix: str) -> bool:
    return not await node.has(prefix)


async def test_only_what_should_leave_leaves(fabric: Fabric) -> None:
    first, second = await _mesh(fabric, 2)
    first.pod(fabric.pod_netns(), "10.77.1.5")
    first.block("10.99.0.0/26")
    ip("-n", first.netns, "route", "add", "blackhole", "10.77.9.0/24", "proto", "4")
    ip("-n", first.netns, "route", "add", "10.77.8.0/24", "via", "172.30.0.1", "proto", "80")
    first.block("10.77.1.0/26")
    await eventually("the block", lambda: second.has("10.77.1.0/26"), 20)
    assert set(second.fib()) == {"10.77.1.0/26"}


async def test_a_borrowed_address_beats_the_owners_blackhole(fabric: Fabric) -> None:
    owner, borrower, third = await _mesh(fabric)
    pods = [fabric.pod_netns() for _ in range(3)]
    owner.block("10.77.1.0/26")
    owner.pod(pods[0], "10.77.1.1")
    borrower.pod(pods[1], "10.77.1.2", advertised=True)
    third.block("10.77.3.0/26")
    third.pod(pods[2], "10.77.3.1")
    for node in (owner, third):
        await eventually(f"the borrowed address on node{node.number}", partial(node.has, "10.77.1.2"), 5)
    for source in (pods[0], pods[2], owner.netns, third.netns):
        assert lost(pinger(source, "10.77.1.2", 0.2))[1] == 0


async def test_killing_bird_loses_nothing_and_a_dead_node_delays_nobody(fabric: Fabric) -> None:
    nodes = [fabric.add() for _ in range(3)]
    dead = nodes[2]
    ip("-n", dead.netns, "link", "set", "eth0", "down")
    first, second = nodes[:2]
    pods = [fabric.pod_netns(), fabric.pod_netns()]
    for node, pod in zip((first, second), pods, strict=True):
        node.block(f"10.77.{node.number}.0/26")
        node.pod(pod, f"10.77.{node.number}.1")
        node.write(node.mesh([1, 2, 3]))
        node.start()
    for node, other in ((first, second), (second, first)):
        prefix = f"10.77.{other.number}.0/26"
        await eventually(f"{prefix} after a first start", partial(node.has, prefix), 30)
    pings = [pinger(pods[0], "10.77.2.1", 20), pinger(pods[1], "10.77.1.1", 20)]
    await asyncio.sleep(1)
    first.kill()
    await asyncio.sleep(1)
    second.block("10.77.2.64/26")
    first.start()
    await eventually(
        "a new route after the restart", lambda: first.has("10.77.2.64/26"), 30
    )  # BIRD alone: 240 s
    for ping in pings:
        sent, missing = await asyncio.to_thread(lost, ping)
        assert sent >= 1000
        assert missing == 0


async def test_passwords_must_agree_and_are_not_for_everyone_to_read(fabric: Fabric) -> None:
    first, second = await _mesh(fabric, 2, password="open sesame")
    await first.configure(first.mesh([1, 2], password="wrong"))
    mode = stat.S_IMODE((first.folder / "bird.conf").stat().st_mode)
    assert mode == 0o600

    async def down() -> bool:
        return await first.established(0)

    await eventually("sessions with another password end", down, 10)
    await first.configure(first.mesh([1, 2], password="open sesame"))
    await eventually("sessions with the right password", lambda: first.established(2), 30)
    assert (await second.control.sessions())[0].address == str(first.ipv4)


async def test_a_reload_keeps_the_other_sessions(fabric: Fabric) -> None:
    first, second, third = await _mesh(fabric)
    before = {session.name: session.since for session in await first.control.sessions()}
    third.kill()
    await asyncio.sleep(1.1)  # `since` counts whole seconds
    await first.configure(first.mesh([1, 2]))
    after = {session.name: session.since for session in await first.control.sessions() if session.up}
    assert after == {name: since for name, since in before.items() if name in first.mesh([1, 2])}
    assert len(after) == 2
    assert await second.established(4) or await second.established(2)


async def test_a_bad_text_is_refused_and_the_old_one_stays(fabric: Fabric) -> None:
    first, _ = await _mesh(fabric, 2)
    good = (first.folder / "bird.conf").read_text()
    outcome = await first.driver.apply({CONFIGURATION: "protocol nonsense { }\n"}, frozenset())
    error = outcome.failed[CONFIGURATION]
    assert isinstance(error, ProgramFailed)
    assert "syntax error" in str(error)
    assert (first.folder / "bird.conf").read_text() == good
    assert await first.established(2)
    assert not list(first.folder.glob(".bird*"))


async def test_an_agent_that_starts_configures_only_a_bird_that_runs_another_text(fabric: Fabric) -> None:
    node = fabric.add()
    fabric.add()
    peers, file = node.mesh([1, 2]), node.folder / "bird.conf"
    node.write({})
    node.start()

    async def answers() -> bool:
        try:
            return bool(await node.control.status())
        except KernelError:
            return False

    await eventually("BIRD runs", answers, 10)
    await node.configure(peers)
    assert len(await node.control.sessions()) == 2

    def told() -> int:
        return (node.folder / "bird.log").read_text().count("Reconfiguring")

    before = told()
    assert before
    node.restart_agent()
    await node.configure(peers)
    assert told() == before, "BIRD was disturbed for nothing"
    assert await node.driver.read() == {CONFIGURATION: render(node.row(), peers).text}

    # An agent that was killed between the file and BIRD: the file is right, and BIRD runs what it read before.
    right = file.read_text()
    await node.configure({})
    file.write_text(right)
    node.restart_agent()
    await node.configure(peers)
    assert told() == before + 2
    assert len(await node.control.sessions()) == 2

    node.kill()
    node.start()
    await eventually("BIRD runs again", answers, 10)
    node.restart_agent()
    await node.configure(peers)
    assert told() == before + 2, "it has read the file"


async def test_without_bird_the_file_waits_for_it(fabric: Fabric) -> None:
    node = fabric.add()
    text = render(node.row(), {}).text
    outcome = await node.driver.apply({CONFIGURATION: text}, frozenset())
    assert isinstance(outcome.failed[CONFIGURATION], KernelError)
    assert "reach BIRD" in str(outcome.failed[CONFIGURATION])
    assert await node.driver.read() == {}
    node.start()

    async def runs() -> bool:
        return not (await node.driver.apply({CONFIGURATION: text}, frozenset())).failed

    await eventually("BIRD takes the configuration", runs, 10)
    assert await node.driver.read() == {CONFIGURATION: text}
    assert (await node.control.status()).router_id == str(node.ipv4)


def test_the_routes_of_a_stopped_bird_stay(fabric: Fabric) -> None:
    async def scenario() -> None:
        first, second = await _mesh(fabric, 2)
        first.block("10.77.1.0/26")
        await eventually("the block", lambda: second.has("10.77.1.0/26"), 20)
        assert second.process is not None
        second.process.terminate()
        second.process.wait(timeout=10)
        assert "10.77.1.0/26" in second.fib()

    asyncio.run(scenario())
