"""State lists for policies: which hold for an endpoint, in which order, and what of them fails closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.scenarios.build import document, documents, pod, profile
from tests.scenarios.policies import (
    ALLOW,
    BASE,
    HERE,
    KNS,
    NONE,
    OPEN,
    applied,
    gnp,
    in_tier,
    np,
    policy,
    tier,
    web,
)
from tests.scenarios.states import EMPTY, WAYS, Run, State, Way, as_written, from_scratch
from tortie.desired.endpoints import ENDPOINTS
from tortie.desired.policies import (
    POLICIES,
    PROFILES,
    AppliedPolicies,
    PolicyKey,
    PolicyRow,
    ProfileRow,
    RuleRow,
    Written,
)
from tortie.resources.global_network_policy import GLOBAL_NETWORK_POLICY
from tortie.resources.network_policy import NETWORK_POLICY
from tortie.resources.resource import Invalid, ResourceKey
from tortie.resources.source import with_source

orders = [
    BASE.holds(POLICIES, {}).holds(PROFILES, {"kns.default": OPEN}),
    BASE.then("ingress without rules", policy("a"))
    .holds(ENDPOINTS, web(applied(in_tier("default", np("a"))), NONE))
    .holds(POLICIES, {np("a"): PolicyRow(tier="default")}),
    BASE.then(
        "types from the rules, and types that make rules inert",
        policy("a", "egress: [{action: Allow}]"),
        policy("b", "egress: [{action: Allow}], ingress: [{action: Deny}]"),
        policy("c", "types: [Egress], ingress: [{action: Deny}]"),
    )
    .holds(
        ENDPOINTS,
        web(
            applied(in_tier("default", np("b"))),
            applied(in_tier("default", np("a"), np("b"), np("c"))),
        ),
    )
    .holds(
        POLICIES,
        {
            np("a"): PolicyRow(tier="default", egress=(ALLOW,)),
            np("b"): PolicyRow(tier="default", egress=(ALLOW,), ingress=(RuleRow(action="Deny"),)),
            np("c"): PolicyRow(tier="default"),
        },
    ),
    BASE.then(
        "by order, then by name, namespace and kind",
        policy("z", "order: 5"),
        policy("y"),
        policy("x", "order: 5"),
        policy("x", "order: 5", kind="GlobalNetworkPolicy"),
        policy("x", "order: 5", kind="StagedNetworkPolicy"),
        policy("w", "order: -1.5"),
    ).holds(
        ENDPOINTS,
        web(
            applied(
                in_tier(
                    "default",
                    np("w"),
                    gnp("x"),
                    np("x"),
                    np("x", "StagedNetworkPolicy"),
                    np("z"),
                    np("y"),
                )
            ),
            NONE,
        ),
    ),
    BASE.then("another order", policy("z", "order: 5"), policy("y", "order: 4")).holds(
        ENDPOINTS, web(applied(in_tier("default", np("y"), np("z"))), NONE)
    ),
    BASE.then("other pods'", policy("a", "selector: app == 'db'"), policy("b", "selector: '!has(app)'"))
    .holds(ENDPOINTS, web(NONE, NONE))
    .holds(POLICIES, {}),
    BASE.then(
        "needed everywhere", policy("a", "selector: app == 'db', performanceHints: [AssumeNeededOnEveryNode]")
    )
    .holds(ENDPOINTS, web(NONE, NONE))
    .holds(POLICIES, {np("a"): PolicyRow(tier="default")}),
    BASE.then("cutting what runs", policy("a", **{"tortie.io/applies-to-established": "true"})).holds(
        POLICIES, {np("a"): PolicyRow(tier="default", applies_to_established=True)}
    ),
    BASE.then(
        "for hosts alone", policy("a", "doNotTrack: true, applyOnForward: true", "GlobalNetworkPolicy")
    ).holds(ENDPOINTS, web(NONE, NONE)),
]

PLATFORM = BASE.then("a tier", tier("platform", 10, "Pass"), policy("p", "tier: platform"), policy("d"))
P_ROW = in_tier("platform", np("p"), end="Pass")
D_ROW = in_tier("default", np("d"))
tiers = [
    PLATFORM.holds(ENDPOINTS, web(applied(P_ROW, D_ROW), NONE)),
    PLATFORM.then("it denies", tier("platform", 10)).holds(
        ENDPOINTS, web(applied(in_tier("platform", np("p")), D_ROW), NONE)
    ),
    PLATFORM.then("after the default tier", tier("platform", 2_000_000, "Pass")).holds(
        ENDPOINTS, web(applied(D_ROW, P_ROW), NONE)
    ),
    PLATFORM.then("without an order", tier("platform", None, "Pass")).holds(
        ENDPOINTS, web(applied(D_ROW, P_ROW), NONE)
    ),
    PLATFORM.then("it is gone", without=[tier("platform")])
    .holds(ENDPOINTS, web(applied(D_ROW, in_tier("platform", np("p"))), NONE))
    .reports("NetworkPolicy default/p: spec.tier: there is no tier platform"),
    PLATFORM.then(
        "built in",
        policy("a", "tier: kube-admin"),
        policy("b", "tier: kube-baseline"),
        without=[policy("p"), tier("platform")],
    ).holds(
        ENDPOINTS,
        web(
            applied(
                in_tier("kube-admin", np("a"), end="Pass"),
                D_ROW,
                in_tier("kube-baseline", np("b"), end="Pass"),
            ),
            NONE,
        ),
    ),
    PLATFORM.then("a stored default tier", tier("default", None, "Pass")).holds(
        ENDPOINTS, web(applied(P_ROW, in_tier("default", np("d"), end="Pass")), NONE)
    ),
    PLATFORM.then("nonsense in a tier", tier("platform", 10, "Perhaps"))
    .holds(ENDPOINTS, web(applied(D_ROW, in_tier("platform", np("p"))), NONE))
    .reports("Tier platform: spec.defaultAction", "there is no tier platform"),
    BASE.then(
        "only staged ones",
        policy("s", "types: [Ingress, Egress]", "StagedNetworkPolicy"),
        policy("g", "stagedAction: Set, order: 1", "StagedGlobalNetworkPolicy"),
        policy("i", "stagedAction: Ignore", "StagedNetworkPolicy"),
        policy("x", "stagedAction: Delete", "StagedNetworkPolicy"),
    )
    .holds(
        ENDPOINTS,
        web(
            applied(
                in_tier(
                    "default",
                    gnp("g", "StagedGlobalNetworkPolicy"),
                    np("s", "StagedNetworkPolicy"),
                    end="Pass",
                )
            ),
            applied(in_tier("default", np("s", "StagedNetworkPolicy"), end="Pass")),
        ),
    )
    .holds(
        POLICIES,
        {
            gnp("g", "StagedGlobalNetworkPolicy"): PolicyRow(tier="default", order=1, staged=True),
            np("s", "StagedNetworkPolicy"): PolicyRow(tier="default", staged=True),
        },
    ),
    BASE.then("one is enforced", policy("s", kind="StagedNetworkPolicy"), policy("a")).holds(
        ENDPOINTS,
        web(applied(in_tier("default", np("a"), np("s", "StagedNetworkPolicy"))), NONE),
    ),
]

ACCOUNT = "ksa.default.robot"
PROFILED = (*KNS, ACCOUNT)
ROBOT = EMPTY.then(
    "a pod with a service account",
    pod("n1", "web", "10.77.0.1/32", labels={"app": "web"}, account="robot"),
    profile("kns.default", {"pcns.team": "red", "pcns.projectcalico.org/name": "default"}),
    profile(ACCOUNT, {"pcsa.role": "reader"}),
)
UNSELECTED = applied(profiles=PROFILED)


def selected(*policies: PolicyKey) -> AppliedPolicies:
    return applied(in_tier("default", *policies), profiles=PROFILED)


inheritance = [
    ROBOT.holds(ENDPOINTS, web(UNSELECTED, UNSELECTED)),
    ROBOT.then(
        "by namespace and account",
        policy("a", "serviceAccountSelector: role == 'reader'"),
        policy("b", "serviceAccountSelector: role == 'writer'"),
        policy("c", "namespaceSelector: team == 'red'", "GlobalNetworkPolicy"),
        policy("d", "namespaceSelector: team == 'blue'", "GlobalNetworkPolicy"),
        policy("e", "namespaceSelector: all()", "GlobalNetworkPolicy"),
        policy("f", "namespaceSelector: global()", "GlobalNetworkPolicy"),
        policy("g", "selector: \"projectcalico.org/serviceaccount == 'robot'\"", "GlobalNetworkPolicy"),
        policy("h", "serviceAccountSelector: all()", "GlobalNetworkPolicy"),
        policy("i", "selector: \"pcns.team == 'red' && projectcalico.org/orchestrator == 'k8s'\""),
    ).holds(
        ENDPOINTS,
        web(selected(np("a"), gnp("c"), gnp("e"), gnp("g"), gnp("h"), np("i")), UNSELECTED),
    ),
    ROBOT.then(
        "the namespace changes its team",
        profile("kns.default", {"pcns.team": "blue"}),
        policy("c", "namespaceSelector: team == 'red'", "GlobalNetworkPolicy"),
        policy("d", "namespaceSelector: team == 'blue'", "GlobalNetworkPolicy"),
    ).holds(ENDPOINTS, web(selected(gnp("d")), UNSELECTED)),
    ROBOT.then(
        "another namespace's policy", document("kind: NetworkPolicy\nmetadata: {name: a, namespace: b}\n")
    )
    .holds(ENDPOINTS, web(UNSELECTED, UNSELECTED))
    .holds(POLICIES, {}),
    ROBOT.then("no profile for the account", without=[profile(ACCOUNT)])
    .holds(
        PROFILES,
        {
            "kns.default": OPEN,
            ACCOUNT: ProfileRow(
                ingress=(RuleRow(action="Deny", written=(Written("invalid", "there is no such profile"),)),),
                egress=(RuleRow(action="Deny", written=(Written("invalid", "there is no such profile"),)),),
            ),
        },
    )
    .reports("Profile ksa.default.robot: : is named by a local endpoint and is not there"),
    ROBOT.then(
        "a profile that passes",
        document(f"kind: Profile\nmetadata: {{name: {ACCOUNT}}}\nspec: {{ingress: [{{action: Pass}}]}}\n"),
    ).reports("Profile ksa.default.robot: spec.ingress[0].action", "is not there: it denies"),
    ROBOT.then("elsewhere", pod("n2", "web", "10.77.0.1/32"), without=ROBOT.stored.values())
    .holds(PROFILES, {})
    .holds(ENDPOINTS, {}),
]


def denying(why: str, *directions: str, order: float | None = None) -> PolicyRow:
    deny = (RuleRow(action="Deny", written=(Written("invalid", why),)),)
    return PolicyRow(
        tier="default",
        invalid=why,
        order=order,
        ingress=deny if "ingress" in directions else (),
        egress=deny if "egress" in directions else (),
    )


BAD_SELECTOR = "app == has an error at column 7: expected a string in quotes"
closed = [
    BASE.then("a bad selector", policy("a", "selector: 'app ==', order: 3"))
    .holds(ENDPOINTS, web(applied(in_tier("default", np("a"))), NONE))
    .holds(POLICIES, {np("a"): denying(f"spec.selector: {BAD_SELECTOR}", "ingress", order=3)})
    .reports(f"NetworkPolicy default/a: spec.selector: {BAD_SELECTOR}"),
    BASE.then("mended", policy("a", "selector: app == 'web', order: 3")).holds(
        POLICIES, {np("a"): PolicyRow(tier="default", order=3)}
    ),
    BASE.then("a bad selector of a global one", policy("a", "selector: 'app =='", "GlobalNetworkPolicy"))
    .holds(ENDPOINTS, web(NONE, NONE))
    .holds(POLICIES, {})
    .reports(f"GlobalNetworkPolicy a: spec.selector: {BAD_SELECTOR}"),
    BASE.then(
        "a bad port",
        policy(
            "a",
            "types: [Egress], ingress: [{action: Allow}], egress: [{action: Allow, protocol: TCP, "
            "destination: {ports: ['80:70']}}]",
        ),
    )
    .holds(ENDPOINTS, web(NONE, applied(in_tier("default", np("a")))))
    .holds(
        POLICIES,
        {
            np("a"): denying(
                "spec.egress[0].destination.ports[0]: 80:70 is not a range within 0 and 65535", "egress"
            )
        },
    )
    .reports("spec.egress[0].destination.ports[0]"),
    BASE.then(
        "unreadable",
        Invalid(ResourceKey(NETWORK_POLICY, "a", "default"), "is not JSON"),
        Invalid(ResourceKey(GLOBAL_NETWORK_POLICY, "g"), "is not JSON either"),
    )
    .holds(ENDPOINTS, web(applied(in_tier("default", np("a"))), applied(in_tier("default", np("a")))))
    .holds(POLICIES, {np("a"): denying("is not JSON", "ingress", "egress")})
    .reports("NetworkPolicy default/a: : is not JSON", "GlobalNetworkPolicy g: : is not JSON either"),
    BASE.then(
        "partly readable",
        Invalid(
            ResourceKey(NETWORK_POLICY, "a", "default"),
            "spec.ingress: 5 is not a list",
            policy("a", "order: 7, selector: app == 'web', types: [Ingress]"),
        ),
    )
    .holds(POLICIES, {np("a"): denying("spec.ingress: 5 is not a list", "ingress", order=7)})
    .reports("spec.ingress: 5 is not a list"),
    BASE.then(
        "what selects nothing here is reported too", policy("a", "selector: app == 'db', types: [Neither]")
    )
    .holds(POLICIES, {})
    .reports("spec.types: Neither is neither Ingress nor Egress"),
    BASE.then(
        "what cannot be enforced",
        policy("a", "ingress: [{action: Allow, http: {methods: [GET]}}]"),
        policy("b", "egress: [{action: Allow, destination: {domains: [example.com]}}]"),
    ).reports("spec.ingress[0].http", "spec.egress[0].destination.domains"),
]

KUBERNETES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: k, namespace: default}
spec: {podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}, policyTypes: [Ingress, Egress]}
"""
kubernetes = [
    BASE.then(
        "Kubernetes' own, after a first and before the rest",
        *documents(KUBERNETES),
        policy("a"),
        policy("b", "order: 1"),
    ).holds(
        ENDPOINTS,
        web(
            applied(in_tier("default", np("b"), np("k", "KubernetesNetworkPolicy"), np("a"))),
            applied(in_tier("default", np("k", "KubernetesNetworkPolicy"))),
        ),
    ),
    BASE.then("for other pods", *documents(KUBERNETES.replace("[web]", "[db]"))).holds(POLICIES, {}),
]

LISTS = {
    "orders": orders,
    "tiers": tiers,
    "inheritance": inheritance,
    "fail closed": closed,
    "kubernetes": kubernetes,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("states", LISTS.values(), ids=LISTS.keys())
def test_states(states: list[State], way: Way) -> None:
    way(Run(HERE), states)


def test_a_tour_through_all_states_equals_a_fresh_start() -> None:
    run = Run(HERE)
    for state in [state for states in LISTS.values() for state in states]:
        run.take(run.updates_to(state))
        run.flush()
        assert run.snapshot() == from_scratch(HERE, state).snapshot(), state.name


def test_endpoints_that_are_treated_alike_share_one_object() -> None:
    state = BASE.then("two", pod("n1", "two", "10.77.0.2/32", labels={"app": "web", "x": "y"}), policy("a"))
    rows = from_scratch(HERE, state).tables[ENDPOINTS.name].values()
    assert len(rows) == 2
    assert len({id(row.ingress) for row in rows}) == 1


def test_a_row_says_where_it_was_applied_from_as_long_as_that_is_true() -> None:
    rules = "ingress: [{action: Allow}, {action: Deny}], egress: [{action: Pass}]"
    lines = {"": 3, "spec.ingress[0]": 9, "spec.ingress[1]": 12, "spec.egress[0]": 20}
    applied_policy = with_source(policy("a", rules), "web.yaml", lambda field: lines[field])
    edited = replace(policy("b", f"{rules}, order: 7"), metadata=applied_policy.metadata)
    other = pod("n2", "web", "10.77.0.1/32", labels={"app": "web"})
    here = BASE.then("applied", applied_policy, edited)
    run = Run(HERE)
    as_written(
        run, [BASE.then("elsewhere", *here.stored.values(), other, without=BASE.stored.values()), here]
    )
    row, stale = (run.tables[POLICIES.name][np(name)] for name in ("a", "b"))
    assert (row.file, row.line) == ("web.yaml", 3)
    assert [rule.line for rule in (*row.ingress, *row.egress)] == [9, 12, 20]
    assert (stale.file, stale.line, stale.ingress[0].line) == ("", 0, 0)


def test_what_is_not_enforced_is_told_apart() -> None:
    bad = "selector: 'app =='"
    state = BASE.then(
        "bad selectors",
        policy("a", bad),
        policy("g", bad, "GlobalNetworkPolicy"),
        policy("s", bad, "StagedGlobalNetworkPolicy"),
    )
    unsafe = [problem.subject for problem in from_scratch(HERE, state).last.problems if problem.unsafe]
    assert unsafe == ["GlobalNetworkPolicy g"]
