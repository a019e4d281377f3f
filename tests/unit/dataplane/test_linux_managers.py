"""Managers turn rows into what the kernel should hold; the sum of small steps equals one big one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.dispatch import DispatchManager
from tortie.dataplane.linux.managers.frame import FrameManager
from tortie.dataplane.linux.managers.groups import GroupManager
from tortie.dataplane.linux.managers.ipsets import IPSetManager
from tortie.dataplane.linux.managers.leaders import Tokens
from tortie.dataplane.linux.managers.links import LinkKey, LinkManager
from tortie.dataplane.linux.managers.node import NodeManager
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.managers.routes import RouteManager, to_route
from tortie.dataplane.linux.managers.stretches import StretchManager
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.elements import group_key, merged, of_interval, of_member
from tortie.dataplane.linux.rules.groups import WORKLOAD, group_name
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import KernelError
from tortie.host.nft import ChainKey, ElementKey, NftKey, NftValue, SetKey, interface_key
from tortie.host.routes import RouteKey
from tortie.net.addresses import Address, Prefix

KEYS = st.integers(0, 4)
WISHES = st.dictionaries(KEYS, st.integers(0, 2), max_size=4)


@given(st.lists(st.tuples(st.sampled_from("abc"), WISHES)))
def test_claims_are_the_union_of_what_rows_want(steps: list[tuple[str, dict[int, int]]]) -> None:
    tracker: DeltaTracker[int, int] = DeltaTracker()
    claims: Claims[str, int, int] = Claims("things", tracker)
    rows: dict[str, dict[int, int]] = {}
    for owner, wishes in steps:
        rows[owner] = wishes
        claims.set(owner, wishes)
        assert tracker.wanted.keys() == {key for wanted in rows.values() for key in wanted}
        for key, value in tracker.wanted.items():
            owners = [name for name, wanted in rows.items() if key in wanted]
            assert value in [rows[name][key] for name in owners]
            assert sorted(claims.owners_of(key)) == sorted(owners)
            error = KernelError(5, "x")
            assert claims.blame({key: error}) == {DesiredKey("things", owner): error for owner in owners}


def _around(value: int, length: int) -> Prefix:
    return Prefix(4, value, 32).supernet(length)


PREFIXES = st.builds(
    _around, st.integers(0, 255) | st.integers((1 << 32) - 256, (1 << 32) - 1), st.integers(24, 32)
)


@given(st.lists(PREFIXES))
def test_merged_intervals_hold_the_same_addresses_and_never_touch(prefixes: list[Prefix]) -> None:
    intervals = merged(prefixes)
    assert {a for low, high in intervals for a in range(low, high + 1)} == {
        a for p in prefixes for a in range(p.value, p.last + 1)
    }
    assert all(before[1] + 1 < after[0] for before, after in pairwise(intervals))


def wanted(tracker: DeltaTracker[NftKey, NftValue]) -> dict[NftKey, NftValue]:
    return dict(tracker.wanted)


@given(st.lists(st.frozensets(PREFIXES, max_size=5), min_size=1))
def test_ipsets_step_by_step_are_what_the_last_step_says(steps: list[frozenset[Prefix]]) -> None:
    tracker: DeltaTracker[NftKey, NftValue] = DeltaTracker()
    manager = IPSetManager(tracker)
    manager.on_delta(Delta(IPSETS, {"some": IPSetRow()}))
    before: frozenset[Prefix] = frozenset()
    for members in steps:
        put = {Member("some", prefix): PRESENT for prefix in members - before}
        manager.on_delta(Delta(MEMBERS, put, frozenset(Member("some", gone) for gone in before - members)))
        manager.settle()
        before = members
    elements = {key: value for key, value in wanted(tracker).items() if isinstance(key, ElementKey)}
    if all(prefix.is_single for prefix in steps[-1]):
        name = "some"
        assert elements.keys() == {of_member("ip", name, Member("some", prefix)) for prefix in steps[-1]}
    else:
        name = "some.nets"
        assert elements.keys() == {of_interval("ip", name, interval) for interval in merged(steps[-1])}
    assert manager.name_of("ip", "some") == name
    assert {key for key in tracker.wanted if isinstance(key, SetKey)} == {
        SetKey("ip", name),
        SetKey("ip6", "some"),
    }
    manager.on_delta(Delta(IPSETS, {}, frozenset({"some"})))
    manager.settle()
    assert not tracker.wanted


def test_the_frame_owns_the_sets_that_its_rules_refer_to() -> None:
    tracker: DeltaTracker[NftKey, NftValue] = DeltaTracker()
    frame, ipsets = FrameManager(tracker), IPSetManager(tracker)
    frame.settle()
    for name in names.BUILT_IN_IPSETS:
        ipsets.on_delta(Delta(IPSETS, {name: IPSetRow()}))
    ipsets.settle()
    ipsets.on_delta(Delta(IPSETS, {}, frozenset(names.BUILT_IN_IPSETS)))
    ipsets.settle()
    assert {SetKey("ip", name) for name in names.BUILT_IN_IPSETS} <= tracker.wanted.keys()


def changed_by(settings: SettingsRow) -> set[NftKey]:
    tracker: DeltaTracker[NftKey, NftValue] = DeltaTracker()
    frame = FrameManager(tracker)
    frame.settle()
    tracker.saw(dict(tracker.wanted))
    frame.on_delta(Delta(SETTINGS, {NODE: settings}))
    frame.settle()
    pending = tracker.take()
    return {*pending.put, *pending.gone}


def test_settings_change_only_the_chains_that_depend_on_them() -> None:
    assert not changed_by(SettingsRow())
    assert not changed_by(SettingsRow(route_priority=7))
    assert changed_by(SettingsRow(endpoint_to_host_action="Accept")) == {
        ChainKey("ip", names.TO_HOST_ACTION),
        ChainKey("ip6", names.TO_HOST_ACTION),
    }
    assert changed_by(SettingsRow(nat_outgoing_address="192.0.2.1")) == {ChainKey("ip", names.POSTROUTING)}
    assert {
        key.name
        for key in changed_by(SettingsRow(interface_prefixes=("cali", "tap")))
        if isinstance(key, ChainKey)
    } == {
        names.ARP_INPUT,
        names.RAW_PREROUTING,
        names.FORWARD_FROM,
        names.FORWARD_TO,
        names.INPUT_FROM,
        names.INPUT_TO_HOST,
    }


KEY = EndpointKey("default", "a")
ROW = EndpointRow(
    interface="cali1",
    addresses=(Address.parse("10.0.0.1"), Address.parse("fd00::1")),
    allowed_sources=(Prefix.parse("203.0.113.0/24"),),
    revision="1",
)


def dispatch() -> tuple[DispatchManager, DeltaTracker[NftKey, NftValue], FrameManager]:
    tracker: DeltaTracker[NftKey, NftValue] = DeltaTracker()
    frame = FrameManager(tracker)
    policies = PolicyManager(tracker, IPSetManager(tracker))
    groups = GroupManager(tracker, policies, StretchManager(tracker, policies))
    return DispatchManager(tracker, frame, groups), tracker, frame


def test_an_endpoint_becomes_elements_and_they_go_with_it() -> None:
    manager, tracker, _ = dispatch()
    manager.on_delta(Delta(ENDPOINTS, {KEY: ROW}))
    manager.settle()
    name = interface_key("cali1")
    group = tracker.wanted[ElementKey("ip", names.FROM_MAP, name)]
    assert group == group_key(group_name(WORKLOAD["egress"], Tokens().take(KEY, ""))), (
        "it is named after who is in it"
    )
    assert ElementKey("ip", names.ADDRESSES, name + bytes([10, 0, 0, 1])) in tracker.wanted
    assert not any(key.set_name == names.PREFIXES for key in tracker.wanted if isinstance(key, ElementKey))
    manager.on_delta(Delta(SETTINGS, {NODE: SettingsRow(source_spoofing="Any")}))
    manager.settle()
    low, high = bytes([203, 0, 113, 0]), bytes([203, 0, 113, 255])
    assert ElementKey("ip", names.PREFIXES, name + low, name + high) in tracker.wanted
    four = EndpointRow(interface="cali1", addresses=ROW.addresses[:1])
    manager.on_delta(Delta(ENDPOINTS, {KEY: four}))
    manager.settle()
    assert ElementKey("ip", names.TO_MAP, name) in tracker.wanted
    assert ElementKey("ip6", names.TO_MAP, name) not in tracker.wanted, "it has no address there"
    manager.on_delta(Delta(ENDPOINTS, {KEY: EndpointRow(interface="cali1", addresses=(), up=False)}))
    manager.settle()
    assert ElementKey("ip", names.TO_MAP, name) not in tracker.wanted
    assert ElementKey("ip", names.INTERFACES, name) in tracker.wanted
    manager.on_delta(Delta(ENDPOINTS, {}, frozenset([KEY])))
    manager.settle()
    assert not tracker.wanted


def test_a_broken_frame_makes_every_endpoint_unreal_and_an_element_its_own() -> None:
    manager, _, frame = dispatch()
    other = EndpointKey("default", "b")
    frame.settle()
    manager.on_delta(Delta(ENDPOINTS, {KEY: ROW, other: EndpointRow(interface="cali2", addresses=())}))
    manager.settle()
    error = KernelError(28, "add an element")
    element = ElementKey("ip", names.INTERFACES, interface_key("cali2"))
    assert manager.blame({element: error}) == {DesiredKey(ENDPOINTS.name, other): error}
    assert set(manager.blame({ChainKey("ip", names.FORWARD_FROM): error})) == {
        DesiredKey(ENDPOINTS.name, KEY),
        DesiredKey(ENDPOINTS.name, other),
    }
    assert frame.blame({ChainKey("ip", names.FORWARD_FROM): error}) == {
        DesiredKey(SETTINGS.name, NODE): error
    }
    assert not frame.blame({element: error})


def test_links_are_wanted_for_the_versions_that_have_addresses() -> None:
    tracker: DeltaTracker[LinkKey, bool] = DeltaTracker()
    manager = LinkManager(tracker)
    four = EndpointRow(interface="cali4", addresses=(Address.parse("10.0.0.1"),))
    shut = EndpointRow(interface="cali0", addresses=(), up=False)
    manager.on_delta(Delta(ENDPOINTS, {KEY: four, EndpointKey("default", "b"): shut}))
    manager.settle()
    assert tracker.wanted == {
        LinkKey("cali4", "ipv4"): True,
        LinkKey("cali4", "up"): True,
        LinkKey("cali0", "up"): False,
    }
    assert set(manager.interfaces) == {"cali4", "cali0"}
    manager.on_delta(Delta(ENDPOINTS, {KEY: EndpointRow(interface="cali5", addresses=())}))
    manager.settle()
    assert set(manager.interfaces) == {"cali5", "cali0"}


@pytest.mark.parametrize("names_", [("a", "b"), ("b", "a")])
def test_of_two_on_one_interface_the_one_with_an_address_has_it(names_: tuple[str, str]) -> None:
    """As when a workload comes under another name before it has left under its old one."""
    keys = [EndpointKey("default", name) for name in names_]
    address = Address.parse("10.65.0.1")
    holds = EndpointRow(interface="cali1", addresses=(address,))
    bare = EndpointRow(interface="cali1", addresses=(), up=False)
    links: DeltaTracker[LinkKey, bool] = DeltaTracker()
    link_manager = LinkManager(links)
    dispatched, tracker, frame = dispatch()
    frame.settle()
    for manager in (link_manager, dispatched):
        manager.on_delta(Delta(ENDPOINTS, {keys[0]: holds}))
        manager.settle()
        manager.on_delta(Delta(ENDPOINTS, dict.fromkeys(sorted(keys), bare) | {keys[1]: holds}))
        manager.settle()
    assert links.wanted[LinkKey("cali1", "up")]
    assert ElementKey("ip", names.FROM_MAP, interface_key("cali1")) in tracker.wanted


def test_routes() -> None:
    settings = SettingsRow(route_protocol=99, route_priority=512)
    local = RouteRow(kind="local-workload", interface="cali1")
    four, six = Prefix.parse("10.0.0.1/32"), Prefix.parse("fd00::1/128")
    route = to_route(four, local, settings)
    assert route is not None
    assert (route.scope, route.metric, route.protocol, route.interface) == ("link", 512, 99, "cali1")
    route = to_route(six, RouteRow(kind="local-workload", interface="cali1", advertised=True), settings)
    assert route is not None
    assert (route.scope, route.protocol) == ("global", 80)
    assert to_route(four, RouteRow(kind="blackhole"), settings) is None
    block = to_route(Prefix.parse("fd00::/122"), RouteRow(kind="blackhole", advertised=True), settings)
    assert block is not None
    assert block.key == RouteKey(Prefix.parse("fd00::/122"), 1024)


def fold(manager: RouteManager, *deltas: Delta[Any, Any]) -> None:
    for delta in deltas:
        manager.on_delta(delta)
    manager.settle()


def test_routes_follow_the_settings() -> None:
    tracker: DeltaTracker[RouteKey, Any] = DeltaTracker()
    manager = RouteManager(tracker)
    prefix = Prefix.parse("10.0.0.1/32")
    fold(manager, Delta(ROUTES, {prefix: RouteRow(kind="local-workload", interface="cali1")}))
    assert [key.metric for key in tracker.wanted] == [1024]
    fold(manager, Delta(SETTINGS, {NODE: SettingsRow(route_priority=512)}))
    assert [key.metric for key in tracker.wanted] == [512]
    fold(manager, Delta(SETTINGS, {NODE: SettingsRow(route_sync=False)}))
    assert not tracker.wanted
    fold(manager, Delta(SETTINGS, {}, frozenset([NODE])))
    assert [key.metric for key in tracker.wanted] == [1024]


def test_without_ip_forwarding_the_node_is_left_alone() -> None:
    tracker: DeltaTracker[str, str] = DeltaTracker()
    manager = NodeManager(tracker)
    manager.settle()
    assert len(tracker.wanted) == 3
    manager.on_delta(Delta(SETTINGS, {NODE: SettingsRow(ip_forwarding=False)}))
    manager.settle()
    assert not tracker.wanted
    none: Mapping[str, KernelError] = {}
    assert not manager.blame(none)
