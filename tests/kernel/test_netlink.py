"""The kernel door against the kernel: links, addresses, routes, namespaces, events, flows."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tortie.errors import KernelError, NamespaceGone
from tortie.host.links import Neighbour, SegmentSizes
from tortie.host.routes import PROTOCOL_BIRD, Route, RouteKey
from tortie.kernel import api, netns, sysctl
from tortie.kernel import netlink as nl
from tortie.kernel import rtnetlink_codec as codec
from tortie.kernel.conntrack import ConntrackSocket
from tortie.kernel.monitor import EventsLost, LinkEvent, RouteEvent, RouteMonitor, SwitchEvent
from tortie.kernel.nft import NftSocket
from tortie.kernel.rtnetlink import RouteSocket
from tortie.kernel.rtnetlink_codec import VethEnd
from tortie.net.addresses import Address, Interface, Prefix

pytestmark = pytest.mark.needs("veth")


@pytest.fixture
def namespace(netns: Callable[[], str]) -> str:
    return netns()


@pytest.fixture
def routes(namespace: str) -> Iterator[RouteSocket]:
    with RouteSocket(namespace) as socket:
        yield socket


def pair(routes: RouteSocket, name: str = "cali1") -> int:
    """A veth pair in the namespace, both ends up; the index of the named one."""
    routes.create_veth(
        VethEnd(name=name, up=True, mtu=1400, mac="02:00:00:00:00:01"), VethEnd(name=f"{name}p")
    )
    routes.set_link(routes.need_link(f"{name}p").index, up=True)
    return routes.need_link(name).index


# Links and addresses


def test_a_veth_pair_across_namespaces(netns: Callable[[], str]) -> None:
    from tortie.kernel import netns as door

    near, far = netns(), netns()
    descriptor = door.open_namespace(far)
    with RouteSocket(near) as here, RouteSocket(far) as there:
        here.create_veth(
            VethEnd(name="cali1", mac="ee:ee:ee:ee:ee:ee", mtu=1440, up=True, queues=2),
            VethEnd(name="eth0", mac="02:00:00:00:00:07", mtu=1440, namespace=descriptor),
        )
        link, peer = here.need_link("cali1"), there.need_link("eth0")
        assert (link.kind, link.mac, link.mtu, link.up) == ("veth", "ee:ee:ee:ee:ee:ee", 1440, True)
        assert (peer.mac, peer.mtu, peer.up) == ("02:00:00:00:00:07", 1440, False)
        assert link.peer == peer.index
        assert link.peer_namespace >= 0
        assert here.link_by_index(link.index) == link
        assert here.names()[link.index] == "cali1"
        with pytest.raises(KernelError, match="cannot make the veth pair cali1 and x: File exists"):
            here.create_veth(VethEnd(name="cali1"), VethEnd(name="x"))
        there.set_link(peer.index, up=True, name="eth9", mtu=1300)
        assert there.link("eth0") is None
        assert there.need_link("eth9").mtu == 1300
        assert here.delete_link("cali1")
        assert not here.delete_link("cali1"), "gone already"
        assert there.link("eth9") is None
    os.close(descriptor)


@pytest.mark.parametrize("sizes", [SegmentSizes(32768, 32768), SegmentSizes(196608, 65536)])
def test_how_large_packets_are_that_a_veth_pair_takes(routes: RouteSocket, sizes: SegmentSizes) -> None:
    routes.create_veth(VethEnd(name="uplink"), VethEnd(name="line"))
    routes.set_link(routes.need_link("uplink").index, segments=sizes)
    taken = routes.need_link("uplink").segments
    # A kernel before 6.3 has one size for both.
    assert taken in (sizes, SegmentSizes(sizes.ipv6, sizes.ipv6))
    routes.create_veth(VethEnd(name="cali1", segments=taken), VethEnd(name="cali1p", segments=taken))
    routes.create_veth(VethEnd(name="cali2"), VethEnd(name="cali2p"))
    for name in ("cali1", "cali1p"):
        assert routes.need_link(name).segments == taken
    for name in ("cali2", "cali2p"):
        assert routes.need_link(name).segments == SegmentSizes(65536, 65536)


def test_a_missing_interface(routes: RouteSocket) -> None:
    assert routes.link("nope") is None
    assert routes.link_by_index(999) is None
    with pytest.raises(KernelError) as raised:
        routes.need_link("nope")
    assert (raised.value.errno, str(raised.value)) == (
        errno.ENODEV,
        "cannot find the interface nope: No such device",
    )


def test_addresses(routes: RouteSocket) -> None:
    index = pair(routes)
    for text in ("10.0.0.1/24", "fd00::1/64"):
        routes.add_address(index, Interface.parse(text), no_dad=True)
        routes.add_address(index, Interface.parse(text), no_dad=True)
    seen = {str(address.interface): address for address in routes.addresses(index)}
    assert {"10.0.0.1/24", "fd00::1/64"} <= seen.keys()
    assert seen["fd00::1/64"].permanent
    assert not seen["fd00::1/64"].tentative
    assert routes.delete_address(index, Interface.parse("10.0.0.1/24"))
    assert not routes.delete_address(index, Interface.parse("10.0.0.1/24"))


def test_switches_are_told_by_netlink_as_they_stand_in_proc(routes: RouteSocket, namespace: str) -> None:
    pair(routes)

    def read() -> dict[str, int]:
        names = [("ipv4", name) for name in codec.IPV4_SWITCHES] + [
            ("ipv6", name) for name in codec.IPV6_SWITCHES
        ]
        sysctl.write("net/ipv4/conf/cali1/route_localnet", "1")
        sysctl.write("net/ipv4/conf/cali1/rp_filter", "2")
        sysctl.write("net/ipv6/conf/cali1/accept_dad", "0")
        sysctl.write("net/ipv6/conf/cali1/proxy_ndp", "1")
        assert not sysctl.ensure("net/ipv6/conf/cali1/proxy_ndp", "1")
        return {
            f"{version}/{name}": int(sysctl.read(f"net/{version}/conf/cali1/{name}"))
            for version, name in names
        }

    told = netns.run(namespace, read)
    seen = routes.link_with_switches("cali1")
    assert seen is not None
    assert seen[1] == told
    assert {link.name: switches for link, switches in routes.links_with_switches()}["cali1"] == told
    wanted = {name: int(not value) for name, value in told.items() if name.startswith("ipv4/")}
    routes.set_link(seen[0].index, switches=wanted)
    changed = routes.link_with_switches("cali1")
    assert changed is not None
    assert changed[1] == {**told, **wanted}
    with pytest.raises(
        KernelError, match=r"cannot read the switch net/ipv4/conf/nope/proxy_arp: No such file"
    ):
        sysctl.read("net/ipv4/conf/nope/proxy_arp")


def test_neighbours(routes: RouteSocket) -> None:
    index = pair(routes)
    entry = Neighbour(index=index, address=Address.parse("10.9.9.9"), mac="02:00:00:00:00:09", permanent=True)
    routes.replace_neighbour(entry)
    assert entry in routes.neighbours(4, index)
    assert routes.delete_neighbour(entry)
    limit = routes.neighbour_limit(4)
    assert limit is not None
    assert limit >= 1


# Routes


@pytest.mark.parametrize("version", [4, 6])
def test_routes_are_read_back_as_they_were_set(routes: RouteSocket, version: int) -> None:
    index = pair(routes)
    single = Prefix.parse("10.0.0.9/32" if version == 4 else "fd00::9/128")
    block = Prefix.parse("10.0.1.0/26" if version == 4 else "fd00:1::/122")
    via = Address.parse("10.77.0.1" if version == 4 else "fd77::1")
    metric = 0 if version == 4 else 1024
    wanted = [
        Route(
            prefix=single,
            interface="cali1",
            ifindex=index,
            scope="link" if version == 4 else "global",
            metric=512,
            protocol=3,
        ),
        Route(prefix=block, kind="blackhole", metric=metric, protocol=80),
        Route(
            prefix=Prefix.parse("10.0.2.0/26" if version == 4 else "fd00:2::/122"),
            interface="cali1",
            ifindex=index,
            gateway=via,
            onlink=True,
            metric=7,
            protocol=80,
        ),
    ]
    assert not routes.batch([codec.new_route(route) for route in wanted])
    names = routes.names()
    seen = {route.key: route for route in routes.routes(version, table=254, names=names)}
    for route in wanted:
        assert seen[route.key] == route
    assert {route.prefix for route in routes.routes(version, table=254, protocol=80)} == {
        wanted[1].prefix,
        wanted[2].prefix,
    }
    with pytest.raises(KernelError) as raised:
        routes.add_route(wanted[1])
    assert raised.value.errno == errno.EEXIST
    for route in wanted:
        assert routes.delete_route(route)
        assert not routes.delete_route(route)


@pytest.mark.parametrize("version", [4, 6])
def test_replacing_keeps_routes_of_another_metric(routes: RouteSocket, version: int) -> None:
    """The metric is part of a route's key: replacing with another one adds a second route."""
    first, second = pair(routes), pair(routes, "cali2")
    prefix = Prefix.parse("10.0.0.9/32" if version == 4 else "fd00::9/128")

    def seen() -> set[tuple[int, int, str]]:
        found = routes.routes(version, table=254)
        return {(route.metric, route.ifindex, route.kind) for route in found if route.prefix == prefix}

    routes.replace_route(Route(prefix=prefix, ifindex=first, metric=1024, scope="link"))
    routes.replace_route(Route(prefix=prefix, ifindex=second, metric=1024, scope="link"))
    assert seen() == {(1024, second, "unicast")}
    routes.replace_route(Route(prefix=prefix, ifindex=first, metric=512, scope="link"))
    assert seen() == {(1024, second, "unicast"), (512, first, "unicast")}
    routes.replace_route(Route(prefix=prefix, kind="blackhole", metric=512, protocol=80))
    assert seen() == {(1024, second, "unicast"), (512, 0, "blackhole")}
    assert routes.delete_route(Route(prefix=prefix, kind="blackhole", metric=512, protocol=80))
    assert seen() == {(1024, second, "unicast")}


def test_many_at_once_and_each_refusal_has_its_place(routes: RouteSocket) -> None:
    index = pair(routes)
    count = 1000
    wanted = [
        Route(prefix=Prefix(4, 0x0A000000 + number, 32), ifindex=index, scope="link")
        for number in range(count)
    ]
    requests = [codec.new_route(route) for route in wanted]
    requests[333] = codec.delete_route(Route(prefix=Prefix.parse("203.0.113.0/24"), ifindex=index))
    requests[777] = codec.new_route(Route(prefix=Prefix.parse("203.0.113.0/24"), ifindex=9999))
    failed = routes.batch(requests)
    assert {place: error.errno for place, error in failed.items()} == {333: errno.ESRCH, 777: errno.ENODEV}
    assert "203.0.113.0/24" in str(failed[777])
    assert len(routes.routes(4, table=254)) == count - 2


def test_the_kernels_own_words_reach_the_error(routes: RouteSocket) -> None:
    index = pair(routes)
    with pytest.raises(KernelError, match="Nexthop has invalid gateway") as raised:
        routes.replace_route(
            Route(prefix=Prefix.parse("10.0.0.0/24"), gateway=Address.parse("198.51.100.1"), ifindex=index)
        )
    assert raised.value.operation == "add the route"


# Namespaces


def test_a_visit_leaves_the_caller_at_home(namespace: str) -> None:
    def where() -> tuple[str, str]:
        return str(Path("/proc/thread-self/ns/net").readlink()), threading.current_thread().name

    home = where()
    inside = netns.run(namespace, where)
    assert inside[0] != home[0]
    assert where() == home
    assert netns.run(namespace, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        netns.run(namespace, lambda: 1 // 0)
    descriptor = netns.open_namespace(namespace)
    assert netns.run(descriptor, where)[0] == netns.run(f"/run/netns/{namespace}", where)[0] == inside[0]
    os.close(descriptor)


async def test_a_visit_from_the_event_loop(namespace: str) -> None:
    assert await asyncio.wrap_future(netns.submit(namespace, lambda: 8)) == 8


def test_namespaces_that_are_gone(tmp_path: Path, namespace: str) -> None:
    with pytest.raises(NamespaceGone, match="cannot open the network namespace /run/netns/no-such"):
        netns.run("no-such", lambda: None)
    no_namespace = tmp_path / "file"
    no_namespace.touch()
    with pytest.raises(NamespaceGone):
        netns.run(no_namespace, lambda: None)
    assert netns.run(namespace, lambda: 1) == 1, "the visitor is still at its place"


def test_named_namespaces(unique_name: Callable[[], str]) -> None:
    name = unique_name()
    netns.create(name)
    try:
        with RouteSocket(name) as inside:
            assert [link.name for link in inside.links()] == ["lo"]
        with pytest.raises(KernelError) as raised:
            netns.create(name)
        assert raised.value.errno == errno.EEXIST
    finally:
        netns.delete(name)
    netns.delete(name)
    with pytest.raises(NamespaceGone):
        RouteSocket(name)


# Events


def test_events_say_who_caused_them(namespace: str, routes: RouteSocket) -> None:
    with RouteMonitor(namespace) as monitor, RouteSocket(namespace) as other:
        index = pair(routes)
        route = Route(prefix=Prefix.parse("10.0.0.9/32"), ifindex=index, scope="link")
        routes.replace_route(route)
        other.replace_route(Route(prefix=Prefix.parse("10.1.0.0/26"), kind="blackhole", protocol=80))
        other.replace_route(
            Route(prefix=Prefix.parse("10.2.0.0/26"), kind="blackhole", protocol=PROTOCOL_BIRD)
        )
        routes.delete_route(route)
        routes.delete_link("cali1")
        events = monitor.read(1000)
    told = [(event.route.key, event.gone, event.port) for event in events if isinstance(event, RouteEvent)]
    own, foreign = routes.netlink.port, [port for _, _, port in told if port not in (0, routes.netlink.port)]
    assert (RouteKey(Prefix.parse("10.0.0.9/32")), False, own) in told
    assert (RouteKey(Prefix.parse("10.0.0.9/32")), True, own) in told
    assert len(foreign) == 1, "BIRD's route is not told of"
    links = [(event.link.name, event.gone) for event in events if isinstance(event, LinkEvent)]
    assert links[0][0] in ("cali1", "cali1p")
    assert ("cali1", True) in links


def test_switches_are_told_of(namespace: str) -> None:
    names = ("net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv6/conf/all/forwarding")
    others = ("net/ipv4/conf/default/rp_filter", "net/ipv6/conf/default/forwarding")
    of_one = ("ipv4/forwarding", "ipv4/rp_filter", "ipv4/proxy_arp", "ipv6/forwarding", "ipv6/proxy_ndp")

    def toggle(name: str) -> str:
        value = str(1 - (sysctl.read(name) == "1"))
        sysctl.write(name, value)
        return value

    with RouteMonitor(namespace, switches=True) as monitor:
        for name in others:
            netns.run(namespace, partial(toggle, name))
        expected: list[SwitchEvent] = []
        for name in of_one:  # of the loopback interface, the first
            version, _, switch = name.partition("/")
            value = netns.run(namespace, partial(toggle, f"net/{version}/conf/lo/{switch}"))
            expected.append(SwitchEvent(name, value, 1))
        told = [event for event in monitor.read() if isinstance(event, SwitchEvent)]
        assert told == expected
        expected = [SwitchEvent(name, netns.run(namespace, partial(toggle, name))) for name in names]
        told = [event for event in monitor.read() if isinstance(event, SwitchEvent)]
        assert [event for event in told if not event.index] == expected
        assert SwitchEvent("ipv4/forwarding", expected[0].value, 1) in told, "the node's is everybody's"


def test_what_an_interface_begins_with_is_no_change(namespace: str, routes: RouteSocket) -> None:
    with RouteMonitor(namespace, switches=True) as monitor:
        pair(routes)
        netns.run(namespace, partial(sysctl.write, "net/ipv4/conf/cali1/proxy_arp", "1"))
        told = [event for event in monitor.read() if isinstance(event, SwitchEvent)]
        index = routes.need_link("cali1").index
        assert told == [SwitchEvent("ipv4/proxy_arp", "1", index)]


def test_lost_events_are_told_of(namespace: str, routes: RouteSocket) -> None:
    with RouteMonitor(namespace) as monitor:
        monitor._netlink._socket.setsockopt(1, 33, 4096)  # SO_RCVBUFFORCE
        wanted = [
            codec.new_route(
                Route(prefix=Prefix(4, 0x0A000000 + number * 256, 24), kind="blackhole", protocol=80)
            )
            for number in range(500)
        ]
        assert not routes.batch(wanted)
        assert any(isinstance(event, EventsLost) for event in monitor.read(1000))
        assert not any(isinstance(event, EventsLost) for event in monitor.read(1000))


async def test_events_as_a_stream(namespace: str, routes: RouteSocket) -> None:
    with RouteMonitor(namespace) as monitor:

        async def first() -> list[object]:
            async for events in monitor.events():
                return list(events)
            return []

        waiting = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        routes.replace_route(Route(prefix=Prefix.parse("10.1.0.0/26"), kind="blackhole", protocol=80))
        events = await asyncio.wait_for(waiting, 5)
    assert isinstance(events[0], RouteEvent)


# Flows


def _flow(version: int, source: str, destination: str, port: int, answered_to: str = "") -> nl.Request:
    """A UDP flow, as conntrack is told of it; ``answered_to`` is the source after translation."""

    def direction(kind: int, one: Address, other: Address, ports: tuple[int, int]) -> bytes:
        first = 1 if version == 4 else 3
        return nl.nested(
            kind,
            nl.nested(1, nl.attr(first, one.packed), nl.attr(first + 1, other.packed)),
            nl.nested(2, nl.u8(1, 17), nl.be16(2, ports[0]), nl.be16(3, ports[1])),
        )

    one, other = Address.parse(source), Address.parse(destination)
    back = Address.parse(answered_to or source)
    body = struct.pack("=BBH", 2 if version == 4 else 10, 0, 0)
    body += direction(1, one, other, (port, 53)) + direction(2, other, back, (53, port))
    return nl.Request(0x100, nl.CREATE, body + nl.be32(3, 0xE) + nl.be32(7, 600), "make a flow")


FLOWS = [
    _flow(4, "10.0.0.1", "10.0.0.2", 1),
    _flow(4, "10.0.0.3", "10.0.0.1", 2),
    _flow(4, "10.0.0.4", "198.51.100.1", 3, "10.0.0.1"),
    _flow(4, "10.0.0.5", "10.0.0.6", 4),
    _flow(6, "fd00::1", "fd00::2", 5),
    _flow(6, "fd00::3", "fd00::4", 6),
]


@pytest.mark.needs("conntrack")
@pytest.mark.parametrize("few", [True, False])
def test_flows_of_an_address_are_forgotten_in_every_place(
    namespace: str, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortie.kernel.conntrack._FEW_FLOWS", 1000 if few else 0)
    with ConntrackSocket(namespace) as conntrack:
        assert conntrack.flush([Address.parse("10.0.0.1")]) == 0
        assert not conntrack.netlink.batch(FLOWS)
        assert conntrack.count() == len(FLOWS)
        translated = next(flow for flow in conntrack.flows(4) if flow.original.source_port == 3)
        assert str(translated.reply.destination) == "10.0.0.1"
        assert len(translated.addresses) == 3
        assert len(conntrack.flows(4, Address.parse("10.0.0.1"))) == 3
        assert conntrack.flush([Address.parse("10.0.0.1"), Address.parse("fd00::2")]) == 4
        left = {flow.original.source_port for version in (4, 6) for flow in conntrack.flows(version)}
        assert left == {4, 6}
        assert conntrack.flush([]) == 0


@pytest.mark.needs("conntrack")
def test_many_addresses_are_forgotten_at_once(namespace: str) -> None:
    with ConntrackSocket(namespace) as conntrack:
        flows = [
            _flow(4, f"10.0.{number >> 8}.{number & 255}", "192.0.2.1", number + 1) for number in range(500)
        ]
        assert not conntrack.netlink.batch(flows)
        gone = [Address.parse(f"10.0.0.{number}") for number in range(256)]
        assert conntrack.flush(gone) == 256
        assert conntrack.count() == 244


def test_the_sockets_are_the_ports_that_drivers_speak_to(namespace: str) -> None:
    with (
        RouteSocket(namespace) as routes,
        NftSocket(namespace) as nft,
        ConntrackSocket(namespace) as conntrack,
    ):
        ports: tuple[api.Routing, api.Rules, api.Flows] = (routes, nft, conntrack)
        assert list(ports[0].names().values()) == ["lo"]
        assert ports[1].read() == {}
        assert ports[2].count() == 0
    with RouteMonitor(namespace) as monitor:
        listening: api.Monitor = monitor
        assert listening.read() == []
