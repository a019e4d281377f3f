"""What events say of drift, and what they do not."""

from __future__ import annotations

import pytest

from tortie.dataplane.linux.drift import DriftWatch
from tortie.dataplane.linux.drivers.links import GATEWAY_V6
from tortie.dataplane.linux.managers.links import LinkKey
from tortie.dataplane.linux.managers.node import FORWARD_V4, FORWARD_V6, NOT_STRICT, REVERSE_PATH
from tortie.host.links import Link, LinkAddress
from tortie.host.routes import Route, RouteKey
from tortie.kernel.monitor import AddressEvent, Event, EventsLost, LinkEvent, RouteEvent, SwitchEvent
from tortie.net.addresses import Interface, Prefix

OWN, OTHER = 17, 18
PREFIX = Prefix.parse("10.0.0.1/32")
WANTED = Route(prefix=PREFIX, interface="cali1", scope="link", metric=1024)
BLACKHOLE = Route(prefix=Prefix.parse("10.0.0.0/26"), kind="blackhole", protocol=80)
THERE, LATER, NO = (True, False), (False, True), (False, False)


def link(name: str = "cali1", index: int = 3, *, up: bool = True) -> Link:
    return Link(name=name, index=index, up=up)


@pytest.fixture
def links() -> dict[str, Link]:
    return {"cali1": link()}


EXPECTING: list[str] = []
"""HostEndpoints that are known by addresses alone."""


@pytest.fixture
def watch(links: dict[str, Link]) -> DriftWatch:
    def owns(route: Route, interface: str) -> bool:
        return interface.startswith("cali") or (route.kind == "blackhole" and route.protocol == 80)

    made = DriftWatch(
        links=links,
        wanted_interfaces=lambda: {"cali1", "cali2"},
        wanted_aspects={LinkKey("cali1", "ipv4"), LinkKey("cali2", "ipv6")},
        wanted_routes={WANTED.key: WANTED, BLACKHOLE.key: BLACKHOLE},
        wanted_switches={FORWARD_V4: "1", REVERSE_PATH: NOT_STRICT},
        wants_addresses=lambda: bool(EXPECTING),
        own_port=OWN,
        owns=owns,
    )
    made.learn({3: "cali1", 9: "eth0"})
    return made


def seen(watch: DriftWatch, *events: Event) -> tuple[tuple[bool, bool], set[str], set[RouteKey]]:
    answer = watch.hear(events)
    return answer, watch.hints.interfaces, set(watch.hints.routes)


def test_what_we_know_already_is_no_drift(watch: DriftWatch) -> None:
    assert seen(watch, LinkEvent(link())) == (NO, set(), set())
    assert seen(watch, LinkEvent(link("eth0", 9, up=False))) == (NO, set(), set())
    assert not watch.hints


def test_an_interface_goes_down_comes_and_changes_its_index(watch: DriftWatch) -> None:
    assert seen(watch, LinkEvent(link(up=False))) == (THERE, {"cali1"}, set())
    assert watch.take().interfaces == {"cali1"}
    assert not watch.hints
    assert seen(watch, LinkEvent(link("cali2", 5))) == (THERE, {"cali2"}, set())
    watch.take()
    assert seen(watch, LinkEvent(link(index=7))) == (THERE, {"cali1"}, set())


def test_only_how_it_is_in_the_end_counts(watch: DriftWatch) -> None:
    assert seen(watch, LinkEvent(link(up=False)), LinkEvent(link())) == (NO, set(), set())
    assert seen(watch, LinkEvent(link("cali2", 5)), LinkEvent(link("cali2", 5), gone=True)) == (
        LATER,
        {"cali2"},
        set(),
    )


def test_one_that_vanishes_can_wait_for_its_endpoint(watch: DriftWatch) -> None:
    assert seen(watch, LinkEvent(link(), gone=True)) == (LATER, {"cali1"}, set())
    watch.hints.interfaces.add("cali9")
    watch.forget_unwanted()
    assert watch.hints.interfaces == {"cali1"}


def test_one_that_is_renamed(watch: DriftWatch) -> None:
    assert seen(watch, LinkEvent(link("elsewhere", 3))) == (THERE, {"cali1"}, set())
    watch.take()
    assert seen(watch, LinkEvent(link("cali2", 3))) == (THERE, {"cali2"}, set())


def test_one_that_is_renamed_as_soon_as_it_is_there(watch: DriftWatch) -> None:
    events = (LinkEvent(link("cali2", 5)), LinkEvent(link("elsewhere", 5)))
    assert seen(watch, *events) == (THERE, {"cali2"}, set())


def test_our_own_changes_of_routes_are_no_drift(watch: DriftWatch) -> None:
    assert seen(watch, RouteEvent(WANTED, True, OWN)) == (NO, set(), set())


def told(route: Route, ifindex: int) -> Route:
    """As an event tells it: by index alone."""
    return Route(
        prefix=route.prefix,
        kind=route.kind,
        ifindex=ifindex,
        scope=route.scope,
        metric=route.metric,
        protocol=route.protocol,
    )


def test_routes_that_others_changed(watch: DriftWatch) -> None:
    assert seen(watch, RouteEvent(told(WANTED, 3), True, OTHER)) == (THERE, set(), {WANTED.key})
    assert watch.hints.routes[WANTED.key] is None
    # It came back as it should be: nothing to do any more.
    assert seen(watch, RouteEvent(told(WANTED, 3), False, OTHER)) == (NO, set(), set())
    assert seen(watch, RouteEvent(told(WANTED, 9), False, OTHER)) == (THERE, set(), {WANTED.key})
    watch.take()
    assert seen(watch, RouteEvent(told(BLACKHOLE, 0), True, 0)) == (THERE, set(), {BLACKHOLE.key})


def test_routes_that_nobody_wants(watch: DriftWatch) -> None:
    unwanted = Route(prefix=Prefix.parse("203.0.113.1/32"), ifindex=3)
    assert seen(watch, RouteEvent(unwanted, False, OTHER)) == (THERE, set(), {unwanted.key})
    watch.take()
    foreign = Route(prefix=Prefix.parse("203.0.113.2/32"), ifindex=9)
    assert seen(watch, RouteEvent(foreign, False, OTHER)) == (NO, set(), set())


def test_lost_events(watch: DriftWatch) -> None:
    assert seen(watch, EventsLost())[0] == THERE
    assert watch.take().everything


def test_addresses_count_only_while_a_host_endpoint_expects_some(watch: DriftWatch) -> None:
    def carried(index: int) -> AddressEvent:
        return AddressEvent(LinkAddress(index=index, interface=Interface.parse("192.0.2.7/24")))

    assert watch.hear([carried(9)]) == (False, False)
    EXPECTING.append("expecting")
    try:
        assert watch.hear([carried(3)]) == (False, False), "a workload's"
        assert watch.hear([carried(9)]) == (True, False)
        assert watch.take().addresses
    finally:
        EXPECTING.clear()


@pytest.mark.parametrize(
    ("name", "value", "drifted"),
    [
        (FORWARD_V4, "0", True),
        (FORWARD_V4, "1", False),
        (FORWARD_V6, "0", False),  # not wanted here
        (REVERSE_PATH, "1", True),
        (REVERSE_PATH, "0", False),
        (REVERSE_PATH, "2", False),
    ],
)
def test_a_switch_that_is_not_as_wanted(watch: DriftWatch, name: str, value: str, drifted: bool) -> None:
    assert watch.hear([SwitchEvent(name, value)]) == (drifted, False)
    assert watch.hints.switches is bool(watch.hints) is drifted


@pytest.mark.parametrize(
    ("index", "name", "value", "drifted"),
    [
        (3, "ipv4/proxy_arp", "0", True),
        (3, "ipv4/proxy_arp", "1", False),
        (3, "ipv4/rp_filter", "2", True),
        (3, "ipv6/forwarding", "0", False),  # no address of that version
        (9, "ipv4/forwarding", "0", False),  # no workload's
        (77, "ipv4/forwarding", "0", False),  # nobody that we know
    ],
)
def test_a_switch_of_an_interface_that_is_not_as_wanted(
    watch: DriftWatch, index: int, name: str, value: str, drifted: bool
) -> None:
    answer = watch.hear([SwitchEvent(name, value, index)])
    assert (answer, watch.hints.interfaces) == ((drifted, False), {"cali1"} if drifted else set())
    assert not watch.hints.switches


def test_a_switch_that_was_another_for_a_moment(watch: DriftWatch) -> None:
    first, then = (SwitchEvent("ipv4/proxy_arp", value, 3) for value in ("0", "1"))
    assert seen(watch, first, then) == (NO, set(), set())


def test_a_workload_whose_gateway_goes_is_looked_at(watch: DriftWatch) -> None:
    watch.learn({4: "cali2"})

    def gone(index: int, interface: Interface = GATEWAY_V6) -> AddressEvent:
        return AddressEvent(LinkAddress(index=index, interface=interface), gone=True)

    assert seen(watch, gone(3), gone(9)) == (NO, set(), set()), "no IPv6 there"
    assert seen(watch, gone(4, Interface.parse("fe80::1/64"))) == (NO, set(), set())
    there = AddressEvent(LinkAddress(index=4, interface=GATEWAY_V6))
    assert seen(watch, gone(4), there) == (NO, set(), set())
    assert seen(watch, gone(4)) == (LATER, {"cali2"}, set())
