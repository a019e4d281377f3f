"""When an address leaves or moves, its flows are forgotten before the new route comes."""

from __future__ import annotations

import asyncio

import pytest

from tests.kernel.dataplane_world import (
    NODE_V4,
    OUTSIDE_V4,
    OUTSIDE_V6,
    RETURN,
    World,
    applied,
    default_ipsets,
    heard,
    started,
)
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.routes import RouteRow
from tortie.errors import KernelError
from tortie.kernel.conntrack import ConntrackSocket
from tortie.net.addresses import Address

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")


def flows(world: World, address: Address) -> int:
    with ConntrackSocket(world.node) as conntrack:
        return len(conntrack.flows(address.version, address))


async def test_flows_of_an_address_that_leaves_are_forgotten(world: World, plane: LinuxDataplane) -> None:
    a, b, c = world.pod(1), world.pod(2), world.pod(3)
    await applied(plane, world.flush(a, b, c, settings=RETURN, ipsets=default_ipsets()))
    heard(a.namespace, a.v4, b.namespace, b.v4)  # by its source
    heard(b.namespace, b.v4, a.namespace, a.v4)  # by its destination
    heard(a.namespace, a.v4, world.outside, OUTSIDE_V4)  # translated
    heard(a.namespace, a.v6, b.namespace, b.v6)
    heard(b.namespace, b.v4, c.namespace, c.v4)
    assert flows(world, a.v4) == 3
    assert flows(world, a.v6) == 1
    await applied(plane, world.flush(gone=[a]))
    async with asyncio.timeout(10):
        while flows(world, a.v4) or flows(world, a.v6):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
        while plane.flows_flushed != 4:  # noqa: ASYNC110 - counted when the kernel's answer is read
            await asyncio.sleep(0.01)
    assert flows(world, c.v4) == 1, "others keep theirs"


async def test_an_address_that_comes_back_at_once_finds_no_flow(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    assert heard(world.outside, OUTSIDE_V4, a.namespace, a.v4) is not None
    await applied(plane, world.flush(gone=[a]))
    await applied(plane, world.flush(a))
    assert flows(world, a.v4) == 0


async def test_closing_forgets_what_was_to_be_forgotten(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    assert heard(world.outside, OUTSIDE_V4, a.namespace, a.v4) is not None
    await applied(plane, world.flush(gone=[a]))
    await plane.close()
    assert flows(world, a.v4) == 0


async def test_an_address_moves_flows_first_route_afterwards(
    world: World, plane: LinuxDataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = world.pod(1), world.pod(2)
    await applied(plane, world.flush(old, new, settings=RETURN))
    for source, target in ((OUTSIDE_V4, old.v4), (OUTSIDE_V6, old.v6)):
        assert heard(world.outside, source, old.namespace, target) is not None
    seen: list[tuple[str, list[str]]] = []
    flush = ConntrackSocket.flush

    def noting(self: ConntrackSocket, addresses: set[Address]) -> int:
        names = {link.index: link.name for link in world.kernel.links()}
        routes = [
            route for version in (4, 6) for route in world.kernel.routes(version, table=254, names=names)
        ]
        leads = [route.interface for route in routes if route.prefix in (old.v4.prefix, old.v6.prefix)]
        rules = world.ruleset()
        seen.append(((f'"{old.interface}" . {old.v4}' in rules and "old") or "new", leads))
        return flush(self, addresses)

    monkeypatch.setattr(ConntrackSocket, "flush", noting)
    route = RouteRow(kind="local-workload", interface=new.interface)
    await applied(
        plane,
        world.flush(
            endpoints={
                old.key: old.row(addresses=()),
                new.key: new.row(addresses=(new.v4, new.v6, old.v4, old.v6)),
            },
            routes={old.v4.prefix: route, old.v6.prefix: route},
        ),
    )
    assert seen == [("new", [])], (
        "the rules have changed, the old routes are gone, the new ones not there yet"
    )
    assert flows(world, old.v4) == flows(world, old.v6) == 0


async def test_without_the_flush_the_new_route_waits(
    world: World, plane: LinuxDataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = world.pod(1), world.pod(2)
    await applied(plane, world.flush(old, new, settings=RETURN))
    heard(world.node, NODE_V4, old.namespace, old.v4)
    flush = ConntrackSocket.flush

    def failing(self: ConntrackSocket, addresses: set[Address]) -> int:
        raise KernelError(12, "list the IPv4 flows")

    monkeypatch.setattr(ConntrackSocket, "flush", failing)
    route = RouteRow(kind="local-workload", interface=new.interface)
    moved = world.flush(
        endpoints={old.key: old.row(addresses=()), new.key: new.row(addresses=(new.v4, old.v4))},
        routes={old.v4.prefix: route},
        gone_routes=[old.v6.prefix],
    )
    result = await plane.apply(moved)
    assert [key.key for key in result.failed] == [old.v4.prefix]
    assert flows(world, old.v4) == 1
    monkeypatch.setattr(ConntrackSocket, "flush", flush)
    assert not (await plane.resync()).failed
    assert flows(world, old.v4) == 0
    shown = world.run("ip", "route", "show", str(old.v4.prefix))
    assert new.interface in shown


async def test_a_new_agent_forgets_flows_of_addresses_whose_route_was_gone(
    world: World, plane: LinuxDataplane
) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    assert heard(world.outside, OUTSIDE_V4, a.namespace, a.v4) is not None
    assert flows(world, a.v4) == 1
    await plane.close()
    world.run("ip", "link", "del", a.interface)
    successor_pod = world.pod(1, "cali9")
    successor = await started(world)
    await applied(successor, world.flush(successor_pod, settings=RETURN))
    assert flows(world, a.v4) == 0
    await successor.close()
