"""Groups, tiers and stretches are named by who shares them: whatever came before, a new agent finds what it wants."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.dispatch import DispatchManager
from tortie.dataplane.linux.managers.frame import FrameManager
from tortie.dataplane.linux.managers.groups import GroupManager
from tortie.dataplane.linux.managers.ipsets import IPSetManager
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.managers.stretches import StretchManager
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.elements import group_key
from tortie.dataplane.linux.rules.policies import Part
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.policies import POLICIES, AppliedPolicies, PolicyKey, PolicyRow, RuleRow, TierRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import KernelError
from tortie.host.nft import Chain, ChainKey, CountBy, ElementKey, NftKey, NftValue, Rule, Verdict
from tortie.net.addresses import Address

World = dict[int, tuple[tuple[int, ...], tuple[int, ...]]]
"""Endpoint to the policies of its two tiers."""
Versions = dict[int, tuple[int, ...]]
"""Of which an endpoint has an address; IPv4 where nothing is said."""


class Rig:
    """The managers that take part, over one tracker."""

    def __init__(self) -> None:
        self.tracker: DeltaTracker[NftKey, NftValue] = DeltaTracker()
        ipsets = IPSetManager(self.tracker)
        policies = PolicyManager(self.tracker, ipsets)
        stretches = StretchManager(self.tracker, policies)
        groups = GroupManager(self.tracker, policies, stretches)
        dispatch = DispatchManager(self.tracker, FrameManager(self.tracker), groups)
        self.managers = (dispatch, groups, policies, stretches)
        self.known: World = {}

    def want(self, world: World, rules: dict[int, RuleRow], versions: Versions | None = None) -> None:
        gone = frozenset(endpoint(number) for number in self.known if number not in world)
        rows = {
            endpoint(number): row(number, *tiers, (versions or {}).get(number, (4,)))
            for number, tiers in world.items()
        }
        policies = {
            policy(number): PolicyRow(tier="one", ingress=(rule,), egress=())
            for number, rule in rules.items()
        }
        for manager in self.managers:
            manager.on_delta(Delta(POLICIES, policies))
            manager.on_delta(Delta(ENDPOINTS, rows, gone))
        for manager in self.managers:
            manager.settle()
        self.known = world


def endpoint(number: int) -> EndpointKey:
    return EndpointKey("default", f"e{number}")


def policy(number: int) -> PolicyKey:
    return PolicyKey("GlobalNetworkPolicy", "", f"p{number}")


def row(
    number: int, first: tuple[int, ...], second: tuple[int, ...], versions: tuple[int, ...]
) -> EndpointRow:
    tiers = tuple(
        TierRow(name=name, default_action="Deny", policies=tuple(policy(each) for each in policies))
        for name, policies in (("one", first), ("two", second))
        if policies
    )
    return EndpointRow(
        interface=f"cali{number}",
        addresses=tuple(
            Address.parse(f"10.0.0.{number}" if version == 4 else f"fd00::{number}") for version in versions
        ),
        ingress=AppliedPolicies(tiers=tiers, profiles=("kns.default",)),
        egress=AppliedPolicies(profiles=(f"kns.{number % 2}",)),
    )


LONG = tuple(range(40))
walks = st.sampled_from([(), (1,), (1, 2), LONG[:18], LONG, LONG[3:], (*LONG, 41), (50, *LONG), LONG[::2]])
others = st.sampled_from([(), (101,), tuple(range(100, 130)), tuple(range(100, 131))])
worlds = st.dictionaries(st.integers(1, 6), st.tuples(walks, others), max_size=6)
several_versions = st.dictionaries(st.integers(1, 6), st.sampled_from([(4,), (6,), (4, 6), ()]), max_size=6)
several_rules = st.dictionaries(
    st.integers(0, 41),
    st.sampled_from(
        [
            RuleRow(action="Allow"),
            RuleRow(action="Pass"),
            RuleRow(action="Allow", protocol=6),
            RuleRow(action="Deny"),
        ]
    ),
    max_size=20,
)


@given(st.lists(st.tuples(worlds, several_rules, several_versions), min_size=1, max_size=5))
def test_what_is_wanted_does_not_depend_on_what_came_before(
    history: list[tuple[World, dict[int, RuleRow], Versions]],
) -> None:
    old, new = Rig(), Rig()
    rules: dict[int, RuleRow] = {}
    for world, changed, versions in history:
        old.want(world, changed, versions)
        rules |= changed
    world, _, versions = history[-1]
    new.want(world, rules, versions)
    assert dict(old.tracker.wanted) == dict(new.tracker.wanted)
    old.want({}, {})
    assert not old.tracker.wanted


def test_a_policy_for_everybody_leaves_groups_and_elements_as_they_are() -> None:
    rig = Rig()
    world: World = {number: (LONG if number < 4 else LONG[1:], ()) for number in range(1, 7)}
    rig.want(world, {})
    pending = rig.tracker.take()
    rig.tracker.did(pending.put, pending.gone)
    rig.want({number: ((50, *first), second) for number, (first, second) in world.items()}, {})
    pending = rig.tracker.take()
    assert not any(isinstance(key, ElementKey) for key in (*pending.put, *pending.gone))
    assert not any("/group/" in key.name for key in pending.put if isinstance(key, ChainKey))
    changed = [key for key in pending.put if isinstance(key, ChainKey) and "/stretch/" in key.name]
    assert 0 < len(changed) <= 2, "the first stretch of two tiers"
    assert not pending.gone


def test_a_group_that_parts_leaves_its_name_to_one_half() -> None:
    rig = Rig()
    rig.want({1: ((1,), ()), 2: ((1,), ()), 3: ((1,), ())}, {})
    together = leads(rig)
    assert len(set(together.values())) == 1
    rig.want({1: ((1,), ()), 2: ((1, 2), ()), 3: ((1,), ())}, {})
    apart = leads(rig)
    assert apart["cali1"] == apart["cali3"] != apart["cali2"]
    assert together["cali1"] in apart.values()


def test_policy_stands_in_the_tables_of_the_addresses_that_it_guards() -> None:
    rig = Rig()
    rig.want({1: ((1,), ())}, {}, {1: (4,)})
    assert chains(rig, "ip")
    assert not chains(rig, "ip6")
    rig.want({1: ((1,), ()), 2: ((1,), ())}, {}, {1: (4, 6), 2: (4, 6)})
    assert chains(rig, "ip6") == chains(rig, "ip"), "of the same names"
    assert leads(rig, "ip6") == leads(rig, "ip")
    rig.want({1: ((1,), ())}, {}, {1: (6,)})
    assert chains(rig, "ip6")
    assert not chains(rig, "ip")


PART = Part(policy(3), "ingress")
WALKED = {number: RuleRow(action="Allow", protocol=6) for number in range(60)}


def test_a_policy_that_one_stretch_alone_leads_to_has_no_chain_of_its_own() -> None:
    rig = Rig()
    rig.want({1: (LONG, ()), 2: (LONG, ())}, WALKED)
    assert PART.chain not in chains(rig, "ip")
    assert counted(rig, "cali1") == [f"p{number}" for number in LONG]
    # Another tier has another stretch around it.
    other = tuple(number for number in LONG if number not in (2, 4))
    rig.want({1: (LONG, ()), 2: (other, ())}, {})
    assert PART.chain in chains(rig, "ip")
    assert counted(rig, "cali1") == [f"p{number}" for number in LONG]
    assert counted(rig, "cali2") == [f"p{number}" for number in other]
    rig.want({2: (other, ())}, {})
    assert PART.chain not in chains(rig, "ip")
    # A short tier walks its policies one by one.
    rig.want({2: (other, ()), 3: ((3,), ())}, {})
    assert PART.chain in chains(rig, "ip")


@given(st.lists(st.tuples(worlds, several_rules), min_size=1, max_size=3))
def test_every_rule_is_met_in_its_place_wherever_it_stands(
    history: list[tuple[World, dict[int, RuleRow]]],
) -> None:
    rig = Rig()
    known: set[int] = set()
    for world, rules in history:
        rig.want(world, rules)
        known |= rules.keys()
    for number, tiers in rig.known.items():
        expected = [f"p{policy}" for tier in tiers for policy in tier if policy in known]
        assert counted(rig, f"cali{number}") == expected


def test_what_the_kernel_refuses_gets_a_chain_of_its_own_until_its_policy_changes() -> None:
    rig = Rig()
    rig.want({1: (LONG, ())}, WALKED)
    stands = next(
        key
        for key, value in rig.tracker.wanted.items()
        if isinstance(value, Chain)
        and any(PART.chain in name for rule in value.rules for name in counters_of(rule))
    )
    memory, missing = (
        KernelError(number, "add a rule to the chain", "x") for number in (errno.ENOBUFS, errno.ENOENT)
    )
    assert DesiredKey(POLICIES.name, policy(3)) in blamed(rig, stands, memory)
    rig.want(rig.known, {})
    assert PART.chain not in chains(rig, "ip"), "another time there may be room"
    assert DesiredKey(POLICIES.name, policy(3)) in blamed(rig, stands, missing)
    rig.want(rig.known, {})
    assert PART.chain in chains(rig, "ip")
    assert counted(rig, "cali1") == [f"p{number}" for number in LONG]
    rig.want(rig.known, {3: RuleRow(action="Deny", protocol=6)})
    assert PART.chain not in chains(rig, "ip")


def blamed(rig: Rig, key: NftKey, error: KernelError) -> set[DesiredKey]:
    return {row for manager in rig.managers for row in manager.blame({key: error})}


def counted(rig: Rig, interface: str) -> list[str]:
    """The policies whose rules a packet to it meets that nobody decides on, in their order."""
    groups = {group_key(name): name for name in chains(rig, "ip") if name.startswith("ingress/group/")}
    found: list[str] = []

    def walk(name: str) -> None:
        chain = rig.tracker.wanted[ChainKey("ip", name)]
        assert isinstance(chain, Chain)
        for rule in chain.rules:
            found.extend(name.split("/")[2] for name in counters_of(rule))
            for each in rule.expressions:
                if isinstance(each, Verdict) and each.kind == "jump":
                    walk(each.chain)

    leader = leads(rig)[interface]
    assert isinstance(leader, bytes)
    walk(groups[leader])
    return found


def counters_of(rule: Rule) -> list[str]:
    counters = [each.name for each in rule.expressions if isinstance(each, CountBy)]
    return [name for name in counters if "/GlobalNetworkPolicy/" in name]


def chains(rig: Rig, family: str) -> set[str]:
    return {key.name for key in rig.tracker.wanted if isinstance(key, ChainKey) and key.family == family}


def leads(rig: Rig, family: str = "ip") -> dict[str, object]:
    return {
        key.key.rstrip(b"\0").decode(): value
        for key, value in rig.tracker.wanted.items()
        if isinstance(key, ElementKey) and key.set_name == names.TO_MAP and key.family == family
    }
