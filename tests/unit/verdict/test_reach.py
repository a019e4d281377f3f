"""All pairs at once must be what each pair by itself is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.verdict.rows import key, policy, state
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.ipsets import Member
from tortie.desired.policies import (
    Action,
    AppliedPolicies,
    EntityMatch,
    PolicyKey,
    PolicyRow,
    PortRange,
    ProfileRow,
    RuleRow,
    TierRow,
)
from tortie.net.addresses import Address, Prefix
from tortie.verdict.journey import Traveller, Whereabouts
from tortie.verdict.packet import TCP, UDP, Packet
from tortie.verdict.reach import Reach
from tortie.verdict.state import State

COUNT = 7
ADDRESSES = [Address(4, 0x0A000000 + number) for number in range(COUNT)]
PODS = [EndpointKey("shop", f"pod-{number}") for number in range(COUNT)]
NAMES = ("a", "b", "c")

nets = st.sampled_from(
    [Prefix.parse(text) for text in ("10.0.0.0/31", "10.0.0.4/30", "10.0.0.0/29", "0.0.0.0/0")]
)
sets = st.lists(st.sampled_from(("s1", "s2", "s3")), max_size=2).map(tuple)
named = st.lists(st.sampled_from(("p1", "p2")), max_size=1).map(tuple)
port_ranges = st.lists(
    st.sampled_from((PortRange(80, 80), PortRange(1, 79), PortRange(81, 443))), max_size=2
).map(tuple)
entities = st.builds(
    EntityMatch,
    nets=st.none() | st.lists(nets, max_size=2).map(tuple),
    not_nets=st.lists(nets, max_size=1).map(tuple),
    sets=sets,
    not_sets=sets,
    ports=port_ranges,
    named_ports=named,
    not_named_ports=named,
)
any_entity = st.just(EntityMatch()) | entities
actions: st.SearchStrategy[Action] = st.sampled_from(("Allow", "Allow", "Deny", "Pass", "Log"))
rules = st.builds(
    RuleRow,
    action=actions,
    protocol=st.sampled_from((None, TCP, UDP)),
    source=any_entity,
    destination=any_entity,
)


def _policy(ingress: list[RuleRow], egress: list[RuleRow], staged: bool) -> PolicyRow:
    return policy(*ingress, egress=egress, staged=staged)


policies = st.fixed_dictionaries(
    {
        name: st.builds(_policy, st.lists(rules, max_size=3), st.lists(rules, max_size=3), st.booleans())
        for name in NAMES
    }
)
default_actions: st.SearchStrategy[Any] = st.sampled_from(("Deny", "Pass"))


def _keys(names: Sequence[str]) -> tuple[PolicyKey, ...]:
    return tuple(key(name) for name in names)


tiers = st.builds(
    TierRow,
    name=st.just("t"),
    default_action=default_actions,
    policies=st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(_keys),
)
holding = st.builds(
    AppliedPolicies, tiers=st.lists(tiers, max_size=2).map(tuple), profiles=st.just(("open",))
)


guarded = st.builds(
    HostEndpointRow, interface=st.just("*"), forward_egress=holding, forward_ingress=holding, pre_dnat=holding
)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[State, Whereabouts]:
    kinds = [draw(holding) for _ in range(3)]
    rows = {
        pod: EndpointRow(
            interface=f"cali{number}",
            addresses=(ADDRESSES[number],),
            ingress=draw(st.sampled_from(kinds)),
            egress=draw(st.sampled_from(kinds)),
        )
        for number, pod in enumerate(PODS)
    }
    host = draw(st.none() | guarded)
    some = st.lists(st.sampled_from(ADDRESSES), unique=True)
    members = {name: draw(some) for name in ("s1", "s2", "s3")}
    ports = [
        Member(name, address.prefix, TCP, draw(st.sampled_from((80, 81))))
        for name in ("p1", "p2")
        for address in draw(some)
    ]
    allow = (RuleRow(action="Allow"),)
    found = state(
        policies=draw(policies),
        profiles={"open": ProfileRow(ingress=allow, egress=allow)},
        endpoints=rows,
        hosts={} if host is None else {"h": host},
        sets={name: [str(address.prefix) for address in addresses] for name, addresses in members.items()},
        ports=ports,
    )
    where = Whereabouts(
        pods={pod: draw(st.sampled_from(("one", "two"))) for pod in PODS},
        host_endpoints={} if host is None else {"h": "one"},
        nodes={"one": (), "two": ()},
    )
    return found, where


def make(source: Address, destination: Address) -> Packet:
    return Packet(source, destination, TCP, 40000, 80)


@settings(max_examples=300, deadline=None)
@given(clusters())
def test_every_pair_is_what_it_is_alone(cluster: tuple[State, Whereabouts]) -> None:
    rows, where = cluster
    traveller = Traveller(rows, where)
    found = Reach(rows, Traveller(rows, where, brief=True), ADDRESSES).rows(make)
    alone = [
        [traveller.journey(make(source, destination)).verdict == "allow" for destination in ADDRESSES]
        for source in ADDRESSES
    ]
    assert [[bool(row >> number & 1) for number in range(COUNT)] for row in found] == alone


@settings(max_examples=100, deadline=None)
@given(clusters())
def test_those_of_one_kind_reach_the_same_others(cluster: tuple[State, Whereabouts]) -> None:
    rows, where = cluster
    reach = Reach(rows, Traveller(rows, where, brief=True), ADDRESSES)
    found = reach.rows(make)
    kinds = reach.kinds(make)
    assert sum(kinds) == (1 << COUNT) - 1
    for kind in kinds:
        members = [number for number in range(COUNT) if kind >> number & 1]
        for one in members:
            for other in members:
                rest = ~(1 << one | 1 << other)
                assert found[one] & rest == found[other] & rest


def test_nobody_reaches_nobody() -> None:
    rows = state()
    assert Reach(rows, Traveller(rows, Whereabouts(), brief=True), []).rows(make) == []
