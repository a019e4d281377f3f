"""Someone else changes what is ours: it is noticed, and made good, by events or by a refresh."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

import pytest

from tests.kernel.dataplane_world import (
    NODE_V4,
    NODE_V6,
    RETURN,
    World,
    applied,
    default_ipsets,
    eventually,
    heard,
    started,
)
from tortie.dataplane.api import Applied
from tortie.dataplane.linux import plane as plane_module
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.endpoints import ENDPOINTS
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.table import DesiredKey
from tortie.host.routes import PROTOCOL_STATIC, Route
from tortie.net.addresses import Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
BLOCK = Prefix.parse("10.65.0.0/26")


class Repairing:
    """A dataplane whose drift is repaired as the agent's pipeline does it."""

    def __init__(self, plane: LinuxDataplane) -> None:
        self.plane = plane
        self.last = Applied(0)
        self.repairs = 0
        self._wake = asyncio.Event()
        plane.on_drift = self._drifted

    def _drifted(self, what: str) -> None:
        assert what in ("events", "rules", "refresh")
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.last = await self.plane.resync()
            self.repairs += 1


@pytest.fixture
async def repairing(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Repairing]:
    monkeypatch.setattr(plane_module, "RULES_POLL_SECONDS", 0.1)
    monkeypatch.setattr(plane_module, "VANISHED_SECONDS", 0.1)
    plane = await started(world)
    repairing = Repairing(plane)
    task = asyncio.create_task(repairing.run())
    yield repairing
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await plane.close()
    world.close()


async def until(condition: Callable[[], object]) -> None:
    await eventually(condition, wait=asyncio.sleep)


def has_route(world: World, prefix: Prefix, interface: str = "") -> bool:
    names = {link.index: link.name for link in world.kernel.links()}
    routes = world.kernel.routes(prefix.version, table=254, names=names)
    return any(route.prefix == prefix and route.interface == interface for route in routes)


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table ip tortie",
        "flush chain ip tortie workload-source",
        "flush set ip tortie workload-addresses",
        "flush map ip tortie to-workload-map",
        "add element ip tortie all-ipam-pools { 203.0.113.0/24 }",
        "delete element ip tortie all-ipam-pools { 10.65.0.0/16 }",
        "insert rule ip tortie filter-forward-from accept",
        "add chain ip tortie mine",
        "add set ip tortie mine { type ipv4_addr; }",
        "delete element ip tortie from-workload-map { cali1 }; add element ip tortie from-workload-map { cali1 : another }",
    ],
)
async def test_changed_rules_are_made_good(world: World, repairing: Repairing, damage: str) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN, ipsets=default_ipsets()))
    before = world.ruleset()
    world.run("nft", damage)
    assert world.ruleset() != before
    await until(lambda: sorted(world.ruleset().split()) == sorted(before.split()))
    assert heard(a.namespace, a.v4, b.namespace, b.v4) is not None


async def test_other_tables_are_no_drift(world: World, repairing: Repairing) -> None:
    await applied(repairing.plane, world.flush(world.pod(1), settings=RETURN))
    written = repairing.plane.kernel_writes
    world.run("nft", "add table inet theirs")
    await until(lambda: repairing.repairs > 0)
    assert repairing.plane.kernel_writes == written


async def test_a_change_that_meets_changed_rules_still_becomes_real(
    world: World, repairing: Repairing
) -> None:
    a = world.pod(1)
    await applied(repairing.plane, world.flush(a, settings=RETURN))
    world.run("nft", "flush ruleset")
    b = world.pod(2)
    await applied(repairing.plane, world.flush(b))
    assert heard(a.namespace, a.v4, b.namespace, b.v4) is not None


async def test_routes_are_made_good(world: World, repairing: Repairing) -> None:
    a = world.pod(1)
    blackhole = {BLOCK: RouteRow(kind="blackhole", advertised=True)}
    await applied(repairing.plane, world.flush(a, settings=RETURN, routes=blackhole))
    world.run("ip", "route", "del", str(a.v4.prefix))
    world.run("ip", "-6", "route", "del", str(a.v6.prefix))
    world.run("ip", "route", "del", "blackhole", str(BLOCK))
    await until(lambda: has_route(world, a.v4.prefix, a.interface))
    await until(lambda: has_route(world, a.v6.prefix, a.interface))
    await until(lambda: has_route(world, BLOCK))
    world.run("ip", "route", "replace", str(a.v4.prefix), "dev", "eth0", "metric", "1024")
    await until(lambda: has_route(world, a.v4.prefix, a.interface))
    assert not has_route(world, a.v4.prefix, "eth0")
    index = world.kernel.need_link(a.interface).index
    foreign = Route(
        prefix=Prefix.parse("203.0.113.7/32"), scope="link", protocol=PROTOCOL_STATIC, ifindex=index
    )
    world.kernel.replace_route(foreign)
    await until(lambda: not has_route(world, foreign.prefix, a.interface))


async def test_events_that_do_not_concern_us_are_no_drift(world: World, repairing: Repairing) -> None:
    a = world.pod(1)
    await applied(repairing.plane, world.flush(a, settings=RETURN))
    await asyncio.sleep(0.3)
    repairs = repairing.repairs
    world.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
    world.run("ip", "route", "add", "198.51.101.0/24", "via", "192.0.2.2", "proto", "bird")
    world.run("ip", "link", "add", "br9", "type", "bridge")
    b = world.pod(2)
    await applied(repairing.plane, world.flush(b))
    await applied(repairing.plane, world.flush(gone=[b]))
    await asyncio.sleep(0.3)
    assert repairing.repairs == repairs, "neither foreign routes and links nor what we did ourselves"


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv6.conf.all.forwarding", "0"),
        ("net.ipv4.conf.all.rp_filter", "1"),
    ],
)
async def test_the_nodes_own_switches_are_made_good_at_once(
    world: World, repairing: Repairing, switch: str, value: str
) -> None:
    """The kernel tells of them; pods are cut off from each other meanwhile."""
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN))
    await repairing.plane.resync()
    for _ in range(2):
        world.run("sysctl", "-qw", f"{switch}={value}")
        await until(lambda: world.run("sysctl", "-n", switch).strip() != value)
    for one, two in ((a.v4, b.v4), (a.v6, b.v6)):
        assert heard(a.namespace, one, b.namespace, two) is not None
    written = repairing.plane.kernel_writes
    right = world.run("sysctl", "-n", switch).strip()
    repairs = repairing.repairs
    world.run("sysctl", "-qw", "net.ipv4.conf.default.rp_filter=1", f"{switch}={right}")
    world.run("nft", "add table inet theirs")  # is heard of later than the switches
    await until(lambda: repairing.repairs > repairs)
    assert repairing.plane.kernel_writes == written, "set to what it is, and one that is not ours"


async def test_switches_of_nobody_are_left_alone(world: World, repairing: Repairing) -> None:
    off = dataclasses.replace(RETURN, ip_forwarding=False)
    await applied(repairing.plane, world.flush(world.pod(1), settings=off))
    repairs = repairing.repairs
    world.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    world.run("nft", "add table inet theirs")
    await until(lambda: repairing.repairs > repairs)
    assert world.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("ipv4/conf/{}/proxy_arp", "0"),
        ("ipv4/conf/{}/forwarding", "0"),
        ("ipv4/conf/{}/rp_filter", "1"),
        ("ipv6/conf/{}/proxy_ndp", "0"),
        ("ipv6/conf/{}/forwarding", "0"),
        ("ipv6/conf/{}/disable_ipv6", "1"),  # of which the addresses tell, that go
    ],
)
async def test_switches_of_an_interface_are_made_good_at_once(
    world: World, repairing: Repairing, switch: str, value: str
) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN))
    path = f"net/{switch.format(a.interface)}"
    right = world.run("sysctl", "-n", path).strip()
    assert right != value
    for _ in range(2):
        world.run("sysctl", "-qw", f"{path}={value}")
        await until(lambda: world.run("sysctl", "-n", path).strip() == right)
        await until(lambda: has_route(world, a.v6.prefix, a.interface))
    for one, two in ((a.v4, b.v4), (a.v6, b.v6)):
        assert heard(a.namespace, one, b.namespace, two) is not None


async def test_an_endpoint_that_comes_is_no_drift(world: World, repairing: Repairing) -> None:
    """All its switches are set, of which the kernel tells."""
    await applied(repairing.plane, world.flush(world.pod(1), settings=RETURN))
    world.run("nft", "add table inet theirs")
    await until(lambda: repairing.repairs)
    repairs = repairing.repairs
    await applied(repairing.plane, world.flush(world.pod(2)))
    await asyncio.sleep(0)
    assert repairing.repairs == repairs
    world.run("nft", "add table inet others")
    await until(lambda: repairing.repairs > repairs)
    assert repairing.repairs == repairs + 1


async def test_switches_are_made_good_by_a_refresh(world: World, repairing: Repairing) -> None:
    a = world.pod(1)
    await applied(repairing.plane, world.flush(a, settings=RETURN))
    paths = (
        f"net.ipv4.conf.{a.interface}.proxy_arp",
        f"net.ipv6.conf.{a.interface}.proxy_ndp",
    )
    for path in paths:
        world.run("sysctl", "-qw", f"{path}=0")
    world.run("sysctl", "-qw", f"net.ipv4.neigh.{a.interface}.proxy_delay=80")
    world.run("ip", "addr", "del", "fe80::ecee:eeff:feee:eeee/64", "dev", a.interface)
    await repairing.plane.resync()
    assert [world.run("sysctl", "-n", path).strip() for path in paths] == ["1", "1"]
    assert world.run("sysctl", "-n", f"net.ipv4.neigh.{a.interface}.proxy_delay").strip() == "0"
    assert heard(a.namespace, a.v6, world.node, NODE_V6) is not None


async def test_an_interface_may_come_later(world: World, repairing: Repairing) -> None:
    a = world.pod(1)
    await applied(repairing.plane, world.flush(settings=RETURN))
    world.run("ip", "link", "del", a.interface)
    result = await repairing.plane.apply(world.flush(a))
    assert set(result.failed) == {
        DesiredKey(ENDPOINTS.name, a.key),
        DesiredKey(ROUTES.name, a.v4.prefix),
        DesiredKey(ROUTES.name, a.v6.prefix),
    }
    repairing.last = result
    world.wire(a)
    await until(lambda: not repairing.last.failed)
    assert heard(world.node, NODE_V4, a.namespace, a.v4) is not None
    assert heard(world.node, NODE_V6, a.namespace, a.v6) is not None


async def test_an_interface_that_vanishes_is_told_of(world: World, repairing: Repairing) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN))
    world.run("ip", "link", "del", a.interface)
    await until(lambda: DesiredKey(ENDPOINTS.name, a.key) in repairing.last.failed)
    assert DesiredKey(ENDPOINTS.name, b.key) not in repairing.last.failed
    await applied(repairing.plane, world.flush(gone=[a]))


async def test_renamed_and_renamed_back(world: World, repairing: Repairing) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN))
    for new, old in (("elsewhere", a.interface), (a.interface, "elsewhere")):
        world.run("ip", "link", "set", old, "down")
        world.run("ip", "link", "set", old, "name", new)
        world.run("ip", "link", "set", new, "up")
        if new == "elsewhere":
            await until(lambda: DesiredKey(ENDPOINTS.name, a.key) in repairing.last.failed)
            # Nothing may reach it there: its rules know the old name.
            assert not has_route(world, a.v4.prefix, "elsewhere")
    await until(lambda: not repairing.last.failed and has_route(world, a.v4.prefix, a.interface))
    assert heard(a.namespace, a.v4, b.namespace, b.v4) is not None
    assert heard(b.namespace, b.v6, a.namespace, a.v6) is not None


@pytest.mark.parametrize("kept", ["elsewhere", "cali9"])
async def test_renamed_while_it_is_up(world: World, repairing: Repairing, kept: str) -> None:
    """Its routes stay then, by its index: also those that we set while somebody takes it down, renames it, and up."""
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN))
    world.run("ip", "link", "set", a.interface, "name", kept)
    await until(lambda: DesiredKey(ENDPOINTS.name, a.key) in repairing.last.failed)
    await until(lambda: not any(has_route(world, prefix, kept) for prefix in a.routes()))
    world.run("ip", "link", "set", kept, "name", a.interface)
    await until(lambda: not repairing.last.failed)
    assert all(has_route(world, prefix, a.interface) for prefix in a.routes())
    assert heard(a.namespace, a.v4, b.namespace, b.v4) is not None
    assert heard(b.namespace, b.v6, a.namespace, a.v6) is not None


async def test_down_and_up(world: World, repairing: Repairing) -> None:
    a, b = world.pod(1), world.pod(2)
    await applied(repairing.plane, world.flush(a, b, settings=RETURN))
    for _ in range(3):
        world.run("ip", "link", "set", a.interface, "down")
        await until(
            lambda: world.kernel.need_link(a.interface).up and has_route(world, a.v4.prefix, a.interface)
        )
        assert has_route(world, a.v6.prefix, a.interface)
        assert heard(a.namespace, a.v4, b.namespace, b.v4) is not None
        assert heard(b.namespace, b.v6, a.namespace, a.v6) is not None


async def test_made_anew_under_the_same_name(world: World, repairing: Repairing) -> None:
    a = world.pod(1)
    await applied(repairing.plane, world.flush(a, settings=RETURN))
    world.run("ip", "link", "del", a.interface)
    world.wire(a)
    await until(
        lambda: has_route(world, a.v4.prefix, a.interface) and has_route(world, a.v6.prefix, a.interface)
    )
    assert heard(world.node, NODE_V4, a.namespace, a.v4) is not None
    assert heard(world.node, NODE_V6, a.namespace, a.v6) is not None


async def test_a_route_without_an_endpoint_is_left_for_the_grace_time(
    world: World, repairing: Repairing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_module, "ROUTE_GRACE_SECONDS", 1.0)
    await applied(repairing.plane, world.flush(settings=RETURN))
    early, late = world.pod(1), world.pod(2)
    for pod in (early, late):
        world.run("ip", "route", "add", str(pod.v4.prefix), "dev", pod.interface, "metric", "1024")
    await repairing.plane.resync()
    assert has_route(world, early.v4.prefix, early.interface)
    written = repairing.plane.kernel_writes
    await applied(repairing.plane, world.flush(early))
    assert has_route(world, late.v4.prefix, late.interface)
    assert repairing.plane.kernel_writes > written
    await until(lambda: not has_route(world, late.v4.prefix, late.interface))
    assert has_route(world, early.v4.prefix, early.interface)
