"""The kernel holds what is wanted: nothing before the first in-sync, nothing twice, nothing of others', and what it can."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from tests.kernel.dataplane_world import (
    NODE_V4,
    RETURN,
    World,
    applied,
    default_ipsets,
    heard,
    started,
)
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.dataplane.linux.rules import names
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.table import DesiredKey
from tortie.errors import KernelError
from tortie.host.nft import ACCEPT, Chain, ChainKey, Rule, Set, SetKey, Table, Verdict
from tortie.host.routes import PROTOCOL_BIRD, PROTOCOL_STATIC, PROTOCOL_TORTIE, Route
from tortie.kernel import netns as kernel_netns
from tortie.kernel import sysctl
from tortie.kernel.nft import Batch, NftSocket
from tortie.net.addresses import Address, Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
BLOCKS = {Prefix.parse("10.65.0.0/26"): "blackhole", Prefix.parse("fd65::/122"): "blackhole"}


def blocks() -> dict[Prefix, RouteRow]:
    return {prefix: RouteRow(kind="blackhole", advertised=True) for prefix in BLOCKS}


def main_routes(world: World, version: int) -> list[Route]:
    known = {link.index: link.name for link in world.kernel.links()}
    return world.kernel.routes(version, table=254, names=known)


async def test_nothing_is_written_before_the_first_in_sync(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    before = world.ruleset(), main_routes(world, 4)
    early = await plane.apply(world.flush(a, settings=RETURN, routes=blocks(), in_sync=False))
    assert DesiredKey(ENDPOINTS.name, a.key) in early.failed, "not real yet"
    await plane.resync()
    assert (world.ruleset(), main_routes(world, 4)) == before
    assert plane.kernel_writes == 0
    await applied(plane, world.flush())
    assert a.interface in world.ruleset()
    assert any(route.prefix == a.v4.prefix for route in main_routes(world, 4))


async def test_routes_are_as_calico_makes_them(world: World, plane: LinuxDataplane) -> None:
    a, b = world.pod(1), world.pod(2)
    borrowed = {b.v4.prefix: RouteRow(kind="local-workload", interface=b.interface, advertised=True)}
    single = {Prefix.parse("10.65.9.9/32"): RouteRow(kind="blackhole", advertised=True)}
    await applied(plane, world.flush(a, b, settings=RETURN, routes={**blocks(), **single, **borrowed}))
    shown = world.run("ip", "route").splitlines()
    assert "blackhole 10.65.0.0/26 proto 80" in [line.strip() for line in shown]
    assert f"{a.v4} dev {a.interface} scope link metric 1024" in [line.strip() for line in shown]
    assert f"{b.v4} dev {b.interface} proto 80 scope link metric 1024" in [line.strip() for line in shown]
    assert not any("10.65.9.9" in line for line in shown), (
        "a blackhole of one address would hide its workload"
    )
    shown = world.run("ip", "-6", "route").splitlines()
    assert any(line.startswith("blackhole fd65::/122 dev lo proto 80 metric 1024") for line in shown)
    assert any(line.startswith(f"{a.v6} dev {a.interface} metric 1024") for line in shown)


async def test_the_nodes_and_the_interfaces_switches(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))

    def read() -> dict[str, str]:
        place = a.interface
        paths = [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            *(
                f"net/ipv4/conf/{place}/{name}"
                for name in ("proxy_arp", "route_localnet", "forwarding", "rp_filter")
            ),
            f"net/ipv4/neigh/{place}/proxy_delay",
            *(
                f"net/ipv6/conf/{place}/{name}"
                for name in ("accept_dad", "disable_ipv6", "accept_ra", "proxy_ndp", "forwarding")
            ),
        ]
        return {path: sysctl.read(path) for path in paths}

    assert list(kernel_netns.run(world.node, read).values()) == [
        "1",
        "1",
        "1",
        "1",
        "1",
        "0",
        "0",
        "0",
        "0",
        "0",
        "1",
        "1",
    ]


async def test_asymmetric_paths_and_learned_default_routes_are_kept(
    world: World, plane: LinuxDataplane
) -> None:
    strict, advertisements = "net.ipv4.conf.all.rp_filter", "net.ipv6.conf.eth0.accept_ra"
    for name in (strict, advertisements):
        world.run("sysctl", "-qw", f"{name}=1")
    world.run("sysctl", "-qw", "net.ipv4.ip_forward=0")  # a namespace begins with what the machine has
    await applied(plane, world.flush(settings=dataclasses.replace(RETURN, ip_forwarding=False)))
    assert world.run("sysctl", "-n", strict, advertisements).split() == ["1", "1"]
    assert world.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
    await applied(plane, world.flush(settings=RETURN))
    # Loose; and a node that forwards still listens to its router.
    assert world.run("sysctl", "-n", strict, advertisements).split() == ["2", "2"]
    assert world.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").split() == [
        "1",
        "1",
    ]


async def test_an_unchanged_state_writes_nothing(world: World, plane: LinuxDataplane) -> None:
    pods = [world.pod(number) for number in range(1, 6)]
    flush = world.flush(*pods, settings=RETURN, routes=blocks(), ipsets=default_ipsets())
    await applied(plane, flush)
    written = plane.kernel_writes
    assert written > 0
    await applied(plane, dataclasses.replace(flush, generation=99))
    assert not (await plane.resync()).failed
    assert plane.kernel_writes == written


async def test_a_new_agent_adopts_what_it_finds(world: World, plane: LinuxDataplane) -> None:
    pods = [world.pod(number) for number in range(1, 6)]
    flush = world.flush(*pods, settings=RETURN, routes=blocks(), ipsets=default_ipsets())
    await applied(plane, flush)
    before = world.ruleset()
    successor = await started(world)
    await applied(successor, flush)
    assert successor.kernel_writes == 0
    assert world.ruleset() == before
    await successor.close()


async def test_a_new_agent_sweeps_what_nobody_wants(world: World, plane: LinuxDataplane) -> None:
    old, kept = world.pod(1), world.pod(2)
    lost_block = {Prefix.parse("10.65.0.64/26"): RouteRow(kind="blackhole", advertised=True)}
    extra = {"old-set": frozenset((Prefix.parse("198.51.100.0/24"),))}
    flush = world.flush(
        old, kept, settings=RETURN, routes={**blocks(), **lost_block}, ipsets={**default_ipsets(), **extra}
    )
    await applied(plane, flush)
    with NftSocket(world.node) as nft:
        batch = Batch(names.TABLE)
        batch.put_chain(ChainKey("ip", "left-over"), None)
        batch.add_rule(ChainKey("ip", "left-over"), Rule((ACCEPT,)))
        assert nft.commit(batch) is None
    successor = await started(world)
    await applied(successor, world.flush(kept, settings=RETURN, routes=blocks(), ipsets=default_ipsets()))
    rules = world.ruleset()
    assert kept.interface in rules
    assert not any(text in rules for text in (f'"{old.interface}"', "left-over", "old-set"))
    prefixes = {route.prefix for route in main_routes(world, 4)}
    assert Prefix.parse("10.65.0.64/26") not in prefixes
    assert kept.v4.prefix in prefixes
    # Its interface stands, and perhaps an endpoint comes: the route waits for the grace time.
    assert old.v4.prefix in prefixes
    await successor.close()


async def test_what_is_others_stays(world: World, plane: LinuxDataplane) -> None:
    world.run("nft", "add table inet theirs; add chain inet theirs c; add rule inet theirs c accept")
    eth0 = world.kernel.need_link("eth0").index
    theirs = [
        Route(prefix=Prefix.parse("10.65.7.0/26"), gateway=Address.parse("192.0.2.7"), protocol=PROTOCOL_BIRD, ifindex=eth0),
        Route(prefix=Prefix.parse("10.65.8.0/26"), kind="unreachable", protocol=PROTOCOL_BIRD),
        Route(prefix=Prefix.parse("203.0.113.0/24"), gateway=Address.parse("192.0.2.7"), protocol=PROTOCOL_STATIC, ifindex=eth0),
        Route(prefix=Prefix.parse("203.0.114.0/24"), kind="blackhole", protocol=PROTOCOL_STATIC),
        Route(prefix=Prefix.parse("10.66.0.0/24"), gateway=Address.parse("192.0.2.7"), protocol=PROTOCOL_TORTIE, ifindex=eth0),
    ]  # fmt: skip
    for route in theirs:
        world.kernel.replace_route(route)
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN, routes=blocks()))
    await plane.resync()
    await applied(plane, world.flush(gone=[a], gone_routes=list(BLOCKS)))
    there = {route.prefix for route in main_routes(world, 4)}
    assert {route.prefix for route in theirs} <= there
    assert not there & {*BLOCKS, a.v4.prefix}
    assert "table inet theirs" in world.ruleset()


async def test_a_foreign_route_to_a_workload_is_removed_but_not_where_that_is_off(
    world: World, plane: LinuxDataplane
) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=dataclasses.replace(RETURN, remove_external_routes=False)))
    index = world.kernel.need_link(a.interface).index
    foreign = Route(
        prefix=Prefix.parse("203.0.113.7/32"), scope="link", protocol=PROTOCOL_STATIC, ifindex=index
    )
    world.kernel.replace_route(foreign)
    await plane.resync()
    assert foreign.prefix in {route.prefix for route in main_routes(world, 4)}
    await applied(plane, world.flush(settings=RETURN))
    await plane.resync()
    await plane.resync()
    assert foreign.prefix not in {route.prefix for route in main_routes(world, 4)}


async def test_one_failure_does_not_stop_its_neighbours(world: World, plane: LinuxDataplane) -> None:
    a, c = world.pod(1), world.pod(3)
    missing = EndpointKey("default", "missing")
    address = Address.parse("10.65.0.50")
    rows = {missing: EndpointRow(interface="caliabsent", addresses=(address,), revision="1")}
    routes = {address.prefix: RouteRow(kind="local-workload", interface="caliabsent"), **blocks()}
    result = await plane.apply(world.flush(a, c, settings=RETURN, endpoints=rows, routes=routes))
    assert set(result.failed) == {
        DesiredKey(ENDPOINTS.name, missing),
        DesiredKey(ROUTES.name, address.prefix),
    }
    for error in result.failed.values():
        assert isinstance(error, KernelError)
        assert error.errno == errno.ENODEV
        assert str(error) == "cannot find the interface caliabsent: No such device"
    assert heard(a.namespace, a.v4, c.namespace, c.v4) is not None
    written = plane.kernel_writes
    assert set((await plane.resync()).failed) == set(result.failed)
    assert plane.kernel_writes == written, "waiting costs no writes"
    await applied(plane, world.flush(gone_routes=[address.prefix], endpoints={missing: a.row(revision="2")}))


async def test_the_kernel_refuses_one_set_and_takes_the_rest(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    too_long = "s" * 300
    ipsets = {too_long: frozenset((Prefix.parse("198.51.100.0/24"),)), **default_ipsets()}
    result = await plane.apply(world.flush(a, settings=RETURN, ipsets=ipsets))
    assert [(key.table, key.key) for key in result.failed] == [("ipsets", too_long)]
    assert heard(world.node, NODE_V4, a.namespace, a.v4) is not None
    assert "10.65.0.0/16" in world.ruleset()


async def test_a_table_of_another_schema_is_replaced_whole(world: World, plane: LinuxDataplane) -> None:
    with NftSocket(world.node) as nft:
        batch = Batch(names.TABLE)
        batch.put_table(Table("ip", names.TABLE, schema=names.SCHEMA + 7))
        batch.put_set(SetKey("ip", names.ADDRESSES), Set(("ipv4_addr",)))
        batch.put_chain(ChainKey("ip", "old"), None)
        batch.put_chain(ChainKey("ip", "other"), None)
        batch.add_rule(ChainKey("ip", "other"), Rule((Verdict("jump", "old"),)))
        assert nft.commit(batch) is None
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN))
    rules = world.ruleset()
    assert "chain old" not in rules
    assert f'"{a.interface}" . {a.v4}' in rules
    assert heard(world.node, NODE_V4, a.namespace, a.v4) is not None


async def test_an_endpoint_without_addresses_is_shut(world: World, plane: LinuxDataplane) -> None:
    winner, loser = world.pod(1), world.pod(2)
    await applied(plane, world.flush(winner, loser, settings=RETURN))
    shut = loser.row(addresses=(), up=False, revision="2")
    route = RouteRow(kind="local-workload", interface=winner.interface)
    await applied(
        plane,
        world.flush(
            endpoints={loser.key: shut},
            routes={loser.v4.prefix: route},
            gone_routes=[loser.v6.prefix],
        ),
    )
    assert not world.kernel.need_link(loser.interface).up
    there = {route.prefix: route.interface for route in main_routes(world, 4)}
    assert there[loser.v4.prefix] == winner.interface
    assert loser.v6.prefix not in {route.prefix for route in main_routes(world, 6)}
    # It gets its address back: its interface comes up again.
    await applied(plane, world.flush(loser))
    assert world.kernel.need_link(loser.interface).up
    assert heard(winner.namespace, winner.v4, loser.namespace, loser.v4) is not None


async def test_cleared_rows_leave_the_frame_alone(world: World, plane: LinuxDataplane) -> None:
    a = world.pod(1)
    await applied(plane, world.flush(a, settings=RETURN, ipsets=default_ipsets()))
    await applied(plane, world.flush(gone=[a]))
    rules = world.ruleset()
    assert a.interface not in rules
    assert f"chain {names.FORWARD_FROM}" in rules
    assert Chain.of(Rule((ACCEPT,))) != Chain.of()


async def test_too_few_neighbours_are_told_of(
    world: World, plane: LinuxDataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = [world.pod(number) for number in (1, 2)]
    await applied(plane, world.flush(*pods, settings=RETURN))
    assert not plane.problems
    monkeypatch.setattr("tortie.kernel.rtnetlink.RouteSocket.neighbour_limit", _three)
    await plane.resync()
    assert [problem.field for problem in plane.problems] == ["gc_thresh3"]
    assert "raise the sysctl net.ipv4.neigh.default.gc_thresh3" in plane.problems[0].reason


def _three(*_: object) -> int:
    return 3
