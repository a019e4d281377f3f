"""The dataplane against this machine's kernel: one endpoint more, a thousand at once, and the netlink below, against pyroute2."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from pyroute2 import IPRoute

from tests.bench.figures import Figure
from tests.kernel.dataplane_world import RETURN, default_ipsets, ipset_deltas
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.settings import NODE, SETTINGS
from tortie.desired.table import Delta, Flush
from tortie.host.routes import Route
from tortie.kernel import netns
from tortie.kernel.conntrack import ConntrackSocket
from tortie.kernel.rtnetlink import RouteSocket
from tortie.kernel.rtnetlink_codec import VethEnd, new_route
from tortie.net.addresses import Address, Prefix

ENDPOINT_COUNT = 1000
RUNS = 50
ROUTE_COUNT = 1000


async def run() -> list[Figure]:
    name = f"bench-{os.getpid()}"
    netns.create(name)
    try:
        return [*await _endpoints(name), *_routes(name)]
    finally:
        netns.delete(name)


def _rows(number: int) -> tuple[dict[EndpointKey, EndpointRow], dict[Prefix, RouteRow]]:
    interface = f"cali{number:x}"
    addresses = (
        Address(4, Address.parse("10.65.0.0").value + number),
        Address(6, Address.parse("fd65::").value + number),
    )
    row = EndpointRow(interface=interface, addresses=addresses, revision="1")
    route = RouteRow(kind="local-workload", interface=interface)
    return {EndpointKey("default", interface): row}, {address.prefix: route for address in addresses}


async def _endpoints(name: str) -> list[Figure]:
    flushes: list[Flush] = []
    with RouteSocket(name) as routes, ConntrackSocket(name) as conntrack:
        routes.set_link(1, up=True)
        for number in range(ENDPOINT_COUNT + RUNS):
            near = VethEnd(name=f"cali{number:x}", mac="ee:ee:ee:ee:ee:ee", up=True)
            routes.create_veth(near, VethEnd(name=f"p{number:x}"))
            rows, leads = _rows(number)
            flushes.append(Flush(number, (Delta(ENDPOINTS, rows), Delta(ROUTES, leads)), in_sync=True))
        plane = LinuxDataplane(namespace=name)
        await plane.start()
        first = _merged(flushes[:ENDPOINT_COUNT])
        load = await _seconds(plane, first)
        writes = plane.kernel_writes
        again = await _seconds(plane, first)
        assert plane.kernel_writes == writes
        adds = [await _seconds(plane, flush) for flush in flushes[ENDPOINT_COUNT:]]
        removals = [await _seconds(plane, _reverse(flush)) for flush in flushes[ENDPOINT_COUNT:]]
        await plane.close()
        successor = LinuxDataplane(namespace=name)
        await successor.start()
        adoption = await _seconds(successor, dataclasses.replace(first, generation=2))
        rewritten = successor.kernel_writes
        await successor.close()
        flows = [_timed(lambda: conntrack.flows(4)) for _ in range(20)]
    many = f"{ENDPOINT_COUNT:,} endpoints of two addresses"
    return [
        Figure(subject="dataplane", what=f"load {many}, sysctls included", value=f"{load:.2f} s", runs="1"),
        Figure(
            subject="dataplane",
            what=f"apply them again ({writes:,} writes before, none now)",
            value=_ms([again]),
            runs="1",
        ),
        Figure(
            subject="dataplane",
            what=f"a new agent adopts them ({rewritten} writes)",
            value=f"{adoption:.2f} s",
            runs="1",
            target="0 writes",
            met=rewritten == 0,
        ),
        Figure(
            subject="dataplane",
            what=f"one endpoint more, beside {ENDPOINT_COUNT:,}",
            value=_ms(adds),
            runs=str(RUNS),
        ),
        Figure(subject="dataplane", what="one endpoint less", value=_ms(removals), runs=str(RUNS)),
        Figure(subject="dataplane", what="read conntrack when it is empty", value=_ms(flows), runs="20"),
    ]


def _merged(flushes: list[Flush]) -> Flush:
    endpoints = {key: row for flush in flushes for key, row in flush.deltas[0].put.items()}
    routes = {key: row for flush in flushes for key, row in flush.deltas[1].put.items()}
    deltas = (
        Delta(SETTINGS, {NODE: RETURN}),
        *ipset_deltas(default_ipsets()),
        Delta(ENDPOINTS, endpoints),
        Delta(ROUTES, routes),
    )
    return Flush(1, deltas, in_sync=True)


def _reverse(flush: Flush) -> Flush:
    deltas = tuple(Delta(delta.table, {}, frozenset(delta.put)) for delta in flush.deltas)
    return dataclasses.replace(flush, deltas=deltas)


async def _seconds(plane: LinuxDataplane, flush: Flush) -> float:
    began = time.perf_counter()
    applied = await plane.apply(flush)
    assert not applied.failed, applied.failed
    return time.perf_counter() - began


def _routes(name: str) -> list[Figure]:
    wanted = [
        Route(prefix=Prefix(4, 0x0A000000 + n, 32), kind="blackhole", protocol=80) for n in range(ROUTE_COUNT)
    ]
    with RouteSocket(name) as routes:
        ours: list[float] = []
        for _ in range(10):
            ours.append(_timed(lambda: routes.batch([new_route(route) for route in wanted])))
            for route in wanted:
                routes.delete_route(route)

    def theirs() -> float:
        other: Any = IPRoute()

        def replace_all() -> None:
            for route in wanted:
                other.route("replace", dst=str(route.prefix), type="blackhole", proto=80)

        with other:
            return _timed(replace_all)

    library = netns.run(name, theirs)
    return [
        Figure(subject="dataplane", what=f"{ROUTE_COUNT:,} routes, own netlink", value=_ms(ours), runs="10"),
        Figure(subject="dataplane", what=f"{ROUTE_COUNT:,} routes, pyroute2", value=_ms([library]), runs="1"),
    ]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    median = f"{statistics.median(ordered) * 1000:.3g} ms"
    return median if len(ordered) < 10 else f"{median}, p95 {ordered[int(len(ordered) * 0.95)] * 1000:.3g} ms"
