"""Tiers, Pass, staged policies, profiles: what ends an evaluation, and what can never change it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.verdict.rows import (
    ALLOW,
    DENY,
    LOG,
    PASS,
    applied,
    key,
    numbered,
    packet,
    policy,
    ports,
    rule,
    state,
    tier,
)
from tortie.desired.policies import Action, AppliedPolicies, PolicyRow, ProfileRow, RuleRow
from tortie.verdict.engine import Outcome, Place, asking, evaluate
from tortie.verdict.state import State
from tortie.verdict.steps import Step

ON_80, ON_443 = rule(destination=ports(80)), rule(destination=ports(443))
NAMES = ("a", "b", "c", "d")


def outcome(
    policies: dict[str, PolicyRow], where: AppliedPolicies, profile: RuleRow | None = None
) -> Outcome:
    profiles = {"kns.shop": ProfileRow(ingress=(profile,))} if profile else {}
    rows = state(policies=policies, profiles=profiles)
    return evaluate(rows, where, "ingress", asking(packet(), rows))


@pytest.mark.parametrize(
    ("policies", "where", "expected"),
    [
        ({}, applied(), (None, None)),
        ({"a": policy(ON_80)}, applied(tier("a")), ("allow", "rule")),
        ({"a": policy(ON_443)}, applied(tier("a")), ("deny", "tier-end")),
        ({"a": policy()}, applied(tier("a")), ("deny", "tier-end")),
        ({"a": policy(DENY, ALLOW)}, applied(tier("a")), ("deny", "rule")),
        ({"a": policy(LOG, ALLOW)}, applied(tier("a")), ("allow", "rule")),
        ({"a": policy(LOG)}, applied(tier("a")), ("deny", "tier-end")),
        ({"a": policy(ON_443), "b": policy(ALLOW)}, applied(tier("a", "b")), ("allow", "rule")),
        ({"a": policy(PASS), "b": policy(ALLOW)}, applied(tier("a", "b")), (None, None)),
        (
            {"a": policy(PASS), "b": policy(DENY), "c": policy(ALLOW)},
            applied(tier("a", "b"), tier("c", name="later")),
            ("allow", "rule"),
        ),
        ({"a": policy(ON_443)}, applied(tier("a", default="Pass")), (None, None)),
        ({"a": policy(DENY, staged=True)}, applied(tier("a", default="Pass")), (None, None)),
        ({"a": policy(DENY, staged=True), "b": policy(ALLOW)}, applied(tier("a", "b")), ("allow", "rule")),
        ({"a": policy(PASS, staged=True), "b": policy(ALLOW)}, applied(tier("a", "b")), ("allow", "rule")),
        ({}, applied(tier("a")), ("deny", "rule")),
    ],
)
def test_how_it_ends(
    policies: dict[str, PolicyRow], where: AppliedPolicies, expected: tuple[str | None, str | None]
) -> None:
    assert outcome(policies, where) == expected


@pytest.mark.parametrize(
    ("rule_of_profile", "expected"),
    [
        (ALLOW, ("allow", "profile")),
        (DENY, ("deny", "profile")),
        (PASS, (None, None)),
        (ON_443, (None, None)),
    ],
)
def test_profiles_come_after_the_tiers(
    rule_of_profile: RuleRow, expected: tuple[str | None, str | None]
) -> None:
    where = applied(tier("a", default="Pass"), profiles=("kns.shop",))
    assert outcome({"a": policy(ON_443)}, where, rule_of_profile) == expected
    assert outcome({"a": policy(DENY)}, where, rule_of_profile) == ("deny", "rule")


def test_a_profile_that_is_not_there_denies() -> None:
    assert outcome({}, applied(profiles=("kns.unknown", "kns.shop")), ALLOW) == ("deny", "profile")


def test_a_policy_without_rules_is_a_step_too() -> None:
    rows = state(policies={"a": policy(egress=(ALLOW,))})
    steps: list[Step] = []
    evaluate(rows, applied(tier("a")), "ingress", asking(packet(), rows), steps=steps)
    assert [(step.policy, step.rule, step.matched) for step in steps] == [
        (key("a"), None, False),
        (None, None, True),
    ]


def test_the_steps_are_all_that_was_asked_and_no_more() -> None:
    rows = state(
        policies={
            "a": policy(ON_443, LOG, file="shop.yaml", line=3),
            "b": policy(DENY, staged=True),
            "c": policy(PASS, ALLOW),
        },
        profiles={"kns.shop": ProfileRow(egress=(DENY,), ingress=numbered([ON_443, ALLOW]))},
    )
    where = applied(tier("a", "b", "c"), profiles=("kns.shop",))
    steps: list[Step] = []
    place = Place(endpoint="shop/server")
    evaluate(rows, where, "ingress", asking(packet(), rows), place=place, steps=steps)
    assert [(s.policy and s.policy.name, s.rule, s.action, s.matched, s.line) for s in steps] == [
        ("a", 0, "Allow", False, 3),
        ("a", 1, "Log", True, 3),
        ("b", 0, "Deny", True, 0),
        ("c", 0, "Pass", True, 0),
        ("kns.shop", 0, "Allow", False, 0),
        ("kns.shop", 1, "Allow", True, 0),
    ]
    assert {s.endpoint for s in steps} == {"shop/server"}
    assert [s.staged for s in steps] == [False, False, True, False, False, False]


actions: st.SearchStrategy[Action] = st.sampled_from(("Allow", "Deny", "Pass", "Log"))
rules = st.lists(st.builds(replace, st.sampled_from((ON_80, ON_443, ALLOW)), action=actions), max_size=3)


def _policy(written: list[RuleRow], staged: bool) -> PolicyRow:
    return policy(*written, staged=staged)


rows_of_policies = st.fixed_dictionaries({name: st.builds(_policy, rules, st.booleans()) for name in NAMES})
defaults = st.tuples(*[st.sampled_from(("Deny", "Pass"))] * 2)


def walk(policies: dict[str, PolicyRow], default: tuple[str, str], rows: State | None = None) -> Outcome:
    rows = rows or state(policies=policies)
    where = applied(
        tier("a", "b", name="one", default=default[0]), tier("c", "d", name="two", default=default[1])
    )
    return evaluate(rows, where, "ingress", asking(packet(), rows))


@given(rows_of_policies, defaults)
def test_log_rules_and_staged_policies_decide_nothing(
    policies: dict[str, PolicyRow], default: tuple[str, str]
) -> None:
    bare = {
        name: policy() if row.staged else policy(*(r for r in row.ingress if r.action != "Log"))
        for name, row in policies.items()
    }
    assert walk(policies, default) == walk(bare, default)


@given(rows_of_policies, defaults, rules)
def test_what_comes_after_the_deciding_rule_is_never_asked(
    policies: dict[str, PolicyRow], default: tuple[str, str], more: list[RuleRow]
) -> None:
    policies["a"] = policy(*policies["a"].ingress, DENY)
    first = walk(policies, default)
    behind = {**policies, "a": policy(*policies["a"].ingress, *more), "b": policy(*more)}
    assert walk(behind, default) == first


@given(rows_of_policies, defaults)
def test_steps_and_verdict_agree(policies: dict[str, PolicyRow], default: tuple[str, str]) -> None:
    rows = state(policies=policies)
    where = applied(
        tier("a", "b", name="one", default=default[0]), tier("c", "d", name="two", default=default[1])
    )
    steps: list[Step] = []
    found = evaluate(rows, where, "ingress", asking(packet(), rows), steps=steps)
    assert found == walk(policies, default, rows)
    if found.verdict is None:
        assert steps[-1].action == "Pass"
        return
    last = steps[-1]
    assert last.matched
    assert not last.staged
    assert last.action == ("Allow" if found.verdict == "allow" else "Deny")
    assert (last.policy is None) is (found.decided_by == "tier-end")
    if last.policy is not None:
        row = rows.policies[last.policy]
        assert row.ingress[last.rule or 0] is last.row
        assert last.policy in {key(name) for name in NAMES}
