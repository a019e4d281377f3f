"""Which rule decides: tiers, policies and rules in their order, Pass, default actions, profiles, staged policies."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from tests.kernel.dataplane_world import RETURN, UNPOLICED, applied
from tests.kernel.policy_world import TCP, UDP, Packet, PolicyWorld, port_set
from tortie.desired.policies import (
    ANYWHERE,
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

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")


def key(name: str, kind: str = "GlobalNetworkPolicy") -> PolicyKey:
    return PolicyKey(kind, "", name)


def on(action: Action, port: int | None = None, index: int = 0) -> RuleRow:
    """A rule for one UDP port, or for everything."""
    if port is None:
        return RuleRow(action=action, index=index)
    to = EntityMatch(ports=(PortRange(port, port),))
    return RuleRow(action=action, protocol=UDP, source=ANYWHERE, destination=to, index=index)


def tier(name: str, *policies: str | PolicyKey, default: Literal["Deny", "Pass"] = "Deny") -> TierRow:
    keys = tuple(each if isinstance(each, PolicyKey) else key(each) for each in policies)
    return TierRow(name=name, default_action=default, policies=keys)


def row(tier: str, *rules: RuleRow, staged: bool = False) -> PolicyRow:
    return PolicyRow(tier=tier, ingress=rules, egress=rules, staged=staged)


def to(port: int, version: int = 4) -> Packet:
    return Packet(UDP, (40001, port), version)


@pytest.mark.parametrize("version", [4, 6])
async def test_the_first_rule_that_matches_decides(policy: PolicyWorld, version: int) -> None:
    await policy.one(on("Allow", 80), on("Deny", 80), on("Deny", 81), on("Allow", 81), on("Allow", 82))
    assert await policy.passes(to(80, version))
    assert not await policy.passes(to(81, version))
    assert await policy.passes(to(82, version))
    assert not await policy.passes(to(83, version)), "the tier's end"
    assert not await policy.passes(Packet(TCP, (1, 80), version))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
async def test_policies_and_tiers_in_their_order(policy: PolicyWorld, direction: str, version: int) -> None:
    rows = {
        key("a"): row("first", on("Deny", 80), on("Pass", 81), on("Pass", 85)),
        key("b"): row("first", on("Allow", 80), on("Deny", 81), on("Allow", 82), on("Pass", 86)),
        key("c"): row("second", on("Allow", 81), on("Deny", 82), on("Allow", 83), on("Pass", 85)),
        key("d"): row("third", on("Allow", 84), on("Deny", 85)),
    }
    tiers = (
        tier("first", "a", "b", default="Pass"),
        tier("second", "c", default="Pass"),
        tier("third", "d", default="Deny"),
    )
    walk = AppliedPolicies(tiers=tiers, profiles=UNPOLICED.profiles)

    async def enforce(applied: AppliedPolicies, rows: dict[PolicyKey, PolicyRow]) -> None:
        one, other = (applied, None) if direction == "ingress" else (None, applied)
        await policy.enforce(one, other, rows)

    await enforce(walk, rows)
    for port, passes in (
        (80, False),
        (81, True),
        (82, True),
        (83, True),
        (84, True),
        (85, False),
        (86, False),
    ):
        assert await policy.passes(to(port, version)) == passes, port
    other_order = (tier("first", "b", "a", default="Pass"), *tiers[1:])
    await enforce(AppliedPolicies(tiers=other_order), {})
    for port, passes in ((80, True), (81, False), (82, True), (85, False)):
        assert await policy.passes(to(port, version)) == passes, port


async def test_a_pass_of_the_last_tier_and_its_default_lead_to_the_profiles(policy: PolicyWorld) -> None:
    rows = {key("a"): row("only", on("Pass", 80), on("Deny", 81))}
    profiles = {
        "none": ProfileRow(),
        "p": ProfileRow(ingress=(on("Allow", 80), on("Deny", 82), on("Pass", 83))),
        "q": ProfileRow(ingress=(on("Deny", 80), on("Allow", 82), on("Allow", 83))),
    }
    order = ("none", "unknown", "p", "q")
    walk = AppliedPolicies(tiers=(tier("only", "a", default="Pass"),), profiles=order)
    await policy.enforce(walk, policies=rows, profiles=profiles)
    for port, passes in ((80, True), (81, False), (82, False), (84, False)):
        assert await policy.passes(to(port)) == passes, port
    await policy.enforce(AppliedPolicies(tiers=(tier("only", "a"),), profiles=order))
    assert await policy.passes(to(80))
    assert not await policy.passes(to(84)), "the tier denies at its end"


async def test_without_any_profile_nothing_passes(policy: PolicyWorld) -> None:
    await policy.enforce(AppliedPolicies())
    assert not await policy.passes(to(80))
    assert not await policy.passes(to(80, 6))
    rows = {count.decided_by: count.packets for count in await policy.plane.policy_counts()}
    assert rows["no-profile"] == 2


async def test_egress_and_ingress_are_asked_both(policy: PolicyWorld) -> None:
    rows = {
        key("out"): PolicyRow(tier="t", egress=(on("Allow", 80), on("Allow", 81))),
        key("in"): PolicyRow(tier="t", ingress=(on("Allow", 81), on("Allow", 82))),
    }
    await policy.enforce(
        AppliedPolicies(tiers=(tier("t", "in"),)), AppliedPolicies(tiers=(tier("t", "out"),)), rows
    )
    for port, passes in ((80, False), (81, True), (82, False)):
        assert await policy.passes(to(port)) == passes, port
    # The client's egress holds for every destination, the server's ingress for every source.
    assert await policy.passes(to(80), policy.client, policy.outside)
    assert not await policy.passes(to(82), policy.client, policy.outside)
    assert await policy.passes(to(82), policy.outside, policy.server)
    assert not await policy.passes(to(80), policy.outside, policy.server)
    assert await policy.passes(to(80), policy.client, policy.node)
    assert not await policy.passes(to(82), policy.client, policy.node)
    assert await policy.passes(to(80), policy.node, policy.server), "the node reaches its own pods"


async def test_a_staged_policy_counts_and_decides_nothing(policy: PolicyWorld) -> None:
    staged = PolicyKey("StagedGlobalNetworkPolicy", "", "s")
    rows = {
        staged: row(
            "t", on("Deny", 80, 0), on("Log", 81, 1), on("Pass", 81, 2), on("Deny", 81, 3), staged=True
        ),
        key("real"): row("t", on("Allow", 80), on("Allow", 81), on("Deny", 82)),
    }
    await policy.enforce(AppliedPolicies(tiers=(tier("t", staged, "real"),)), policies=rows)
    for port, passes in ((80, True), (81, True), (82, False)):
        assert await policy.passes(to(port)) == passes, port
    assert [await policy.counted(rule, "s") for rule in range(4)] == [1, 1, 1, 0]
    ends = [count for count in await policy.plane.policy_counts() if count.name == "s" and count.rule is None]
    assert [(end.action, end.decided_by, end.staged, end.packets) for end in ends] == [
        ("NoMatch", "tier-end", True, 1)
    ]
    only = AppliedPolicies(tiers=(tier("t", staged, default="Pass"),), profiles=UNPOLICED.profiles)
    await policy.enforce(only)
    assert await policy.passes(to(80)), "a tier whose policies are all staged denies nothing"


async def test_a_flow_that_was_allowed_goes_on(policy: PolicyWorld) -> None:
    """Established first: only new flows are judged."""
    request, answer = Packet(UDP, (5000, 80)), Packet(UDP, (80, 5000))
    await policy.enforce()
    assert await policy.passes(request)
    assert await policy.passes(answer, policy.server, policy.client, new_flow=False)
    await policy.one(on("Deny"))
    assert await policy.passes(request, new_flow=False)
    assert not await policy.passes(request)
    assert not await policy.passes(Packet(UDP, (5001, 80)))


async def test_answers_need_no_rule(policy: PolicyWorld) -> None:
    closed = AppliedPolicies(tiers=(tier("t", "closed"),))
    rows = {key("closed"): row("t")}
    endpoints = {policy.client.key: policy.client.row(ingress=closed)}
    await applied(policy.plane, policy.world.flush(endpoints=endpoints, policies=rows))
    assert await policy.passes(Packet(UDP, (5002, 80)))
    assert await policy.passes(Packet(UDP, (80, 5002)), policy.server, policy.client, new_flow=False)
    assert not await policy.passes(Packet(UDP, (80, 5003)), policy.server, policy.client)


async def test_a_policy_that_has_no_row_lets_nothing_pass(policy: PolicyWorld) -> None:
    await policy.enforce(AppliedPolicies(tiers=(tier("t", "unknown", default="Pass"),)))
    assert not await policy.passes(to(80))


async def test_what_is_denied_may_be_answered(policy: PolicyWorld) -> None:
    """nftablesFilterDenyAction: Reject."""
    await policy.one(on("Deny", 80), settings=dataclasses.replace(RETURN, deny_action="Reject"))
    for version in (4, 6):
        assert not await policy.passes(to(80, version))
        assert not await policy.passes(to(81, version))
        assert await policy.refused(version)


async def test_rules_that_log_go_on(policy: PolicyWorld) -> None:
    named = RuleRow(
        action="Log",
        protocol=UDP,
        destination=EntityMatch(ports=(PortRange(80, 80),), named_ports=("all",)),
        index=0,
    )
    sets = port_set("all", (policy.server.v4, UDP, 80), (policy.server.v4, UDP, 81))
    await policy.one(named, on("Log", index=1), on("Allow", 80, 2), on("Deny", 81, 3), sets=sets)
    assert await policy.passes(to(80))
    assert not await policy.passes(to(81))
    assert not await policy.passes(to(82))
    assert [await policy.counted(rule) for rule in range(4)] == [2, 3, 1, 1], "once a packet"


async def test_in_a_long_tier_a_staged_policy_counts_what_no_other_could_decide_on(
    policy: PolicyWorld,
) -> None:
    names = [f"p{number:02}" for number in range(20)]
    rows = {key(name): row("t", on("Allow", 1000 + place)) for place, name in enumerate(names)}
    rows[key("p10")] = row("t", on("Allow", 80), on("Deny", 81, 1), staged=True)
    ingress = AppliedPolicies(tiers=(tier("t", *names),))
    await policy.enforce(ingress, policies=rows)
    assert not await policy.passes(to(80))
    assert not await policy.passes(to(5000))
    assert not await policy.passes(Packet(TCP, (1, 80)))
    told = [count for count in await policy.plane.policy_counts() if count.name == "p10"]
    assert [(count.rule, count.action, count.packets) for count in told if count.direction == "ingress"] == [
        (0, "Allow", 1),
        (1, "Deny", 0),
        (None, "NoMatch", 2),
    ]


async def test_a_long_tier_is_walked_in_stretches_and_in_order(policy: PolicyWorld) -> None:
    """Forty policies of one tier: where each stands counts, a Pass in their midst too, also when one comes before them."""
    names = [f"p{number:02}" for number in range(40)]
    rows = {key(name): row("first", on("Allow", 1000 + place)) for place, name in enumerate(names)}
    rows[key("p20")] = row("first", on("Pass", 80), on("Deny", 1030))
    rows[key("p35")] = row("first", on("Deny", 80))
    rows[key("after")] = row("second", on("Allow", 80), on("Allow", 1030))
    second = tier("second", "after")
    await policy.enforce(AppliedPolicies(tiers=(tier("first", *names), second)), policies=rows)
    assert "/stretch/" in policy.world.ruleset()
    expected = {1000: True, 1019: True, 1030: False, 1039: True, 80: True, 81: False}
    for port, passes in expected.items():
        assert await policy.passes(to(port)) == passes, port
    before = policy.plane.kernel_writes
    newer = {key("p00a"): row("first", on("Deny", 1019)), key("p20"): row("first", on("Allow", 1030))}
    with_one = ("p00a", *names)
    await policy.enforce(AppliedPolicies(tiers=(tier("first", *with_one), second)), policies=newer)
    assert policy.plane.kernel_writes == before + 1, "one batch"
    for port, passes in {**expected, 1019: False, 1030: True, 80: False}.items():
        assert await policy.passes(to(port)) == passes, port
