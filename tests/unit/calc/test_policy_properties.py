"""Random clusters with policies: histories leave no trace, every node sees its part of the whole, and brute force agrees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenarios.build import document, pod, profile
from tests.scenarios.states import Run, State, Stored, from_scratch
from tortie.calc.policy import POLICY_KINDS
from tortie.calc.scope import Scope
from tortie.desired.endpoints import ENDPOINTS
from tortie.desired.host_endpoints import HOST_ENDPOINTS
from tortie.desired.ipsets import IPSETS, MEMBERS
from tortie.desired.policies import POLICIES, PROFILES
from tortie.net.addresses import Prefix
from tortie.resources.host_endpoint import HOST_ENDPOINT
from tortie.resources.resource import Invalid, Resource
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, EndpointPort
from tortie.selector import parse

NODES = ("n1", "n2")
SPACES = ("red", "blue")
SELECTORS = ("", "all()", "app == 'a'", "app != 'a'", "has(app) && !has(tier)", "tier in {'x','y'}")
NAMESPACE_SELECTORS = ("", "team == 'a'", "all()", "global()", "!has(team)")
TABLES = (ENDPOINTS, HOST_ENDPOINTS, POLICIES, PROFILES, IPSETS, MEMBERS)

labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from("ab"), "tier": st.sampled_from("xz")})
names = st.sampled_from("pq")
spaces = st.sampled_from(SPACES)
addresses = st.sampled_from(["10.77.0.1/32", "10.77.0.2/32", "10.77.0.3/32", "fd77::1/128"])
ports = st.sampled_from([(), (EndpointPort(name="http", protocol="TCP", port=80),)])
quoted = '"{}"'.format


def flow(fields: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields.items() if value) + "}"


entities = st.fixed_dictionaries(
    {},
    optional={
        "selector": st.sampled_from(SELECTORS).filter(bool).map(quoted),
        "notSelector": st.sampled_from(SELECTORS).filter(bool).map(quoted),
        "namespaceSelector": st.sampled_from(NAMESPACE_SELECTORS).filter(bool).map(quoted),
        "serviceAccounts": st.just("{names: [robot]}"),
        "ports": st.sampled_from(["[80]", "[http, '1:5']"]),
    },
)


def _rule(action: str, source: dict[str, str], destination: dict[str, str]) -> str:
    return flow(
        {"action": action, "protocol": "TCP", "source": flow(source), "destination": flow(destination)}
    )


actions = st.sampled_from(["Allow", "Deny", "Pass", "Log"] * 8 + ["Nonsense"])
rules = st.builds(_rule, actions, entities, entities)


@st.composite
def policies(draw: st.DrawFn) -> Stored:
    kind = draw(
        st.sampled_from(
            ["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"]
        )
    )
    fields = {
        "selector": quoted(draw(st.sampled_from([*SELECTORS * 3, "app =="]))),
        "tier": draw(st.sampled_from(["", "first", "nowhere"])),
        "order": draw(st.sampled_from(["", "1", "2"])),
        "types": draw(st.sampled_from(["", "[Ingress]", "[Egress]", "[Ingress, Egress]"])),
        "ingress": f"[{', '.join(draw(st.lists(rules, max_size=2)))}]",
        "egress": f"[{', '.join(draw(st.lists(rules, max_size=1)))}]",
        "serviceAccountSelector": quoted(draw(st.sampled_from(["", "", "", "role == 'r'"]))),
    }
    where = ""
    if "Global" in kind:
        fields["namespaceSelector"] = quoted(draw(st.sampled_from(NAMESPACE_SELECTORS)))
        fields |= draw(
            st.sampled_from(
                [{}, {"applyOnForward": "true"}, {"applyOnForward": "true", "doNotTrack": "true"}]
            )
        )
    else:
        where = f", namespace: {draw(spaces)}"
    text = f"kind: {kind}\nmetadata: {{name: {draw(names)}{where}}}\nspec: {flow(fields)}\n"
    made = document(text)
    match draw(st.integers(0, 20)):
        case 0:
            return Invalid(made.key, "broken")
        case 1:
            return Invalid(made.key, "broken in part", made)
        case _:
            return made


def _labelled(kind: str, name: str, carried: Mapping[str, str], spec: str, where: str = "") -> Resource[Any]:
    metadata = f"name: {name}, labels: {flow({k: quoted(v) for k, v in carried.items()})}{where}"
    return document(f"kind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n")


@st.composite
def pods(draw: st.DrawFn) -> Stored:
    return pod(
        draw(st.sampled_from(NODES)),
        draw(names),
        draw(addresses),
        draw(addresses),
        labels=draw(labels),
        namespace=draw(spaces),
        account=draw(st.sampled_from(["", "robot"])),
        ports=draw(ports),
    )


def _tier(order: int, action: str) -> Stored:
    return document(
        f"kind: Tier\nmetadata: {{name: first}}\nspec: {{order: {order}, defaultAction: {action}}}\n"
    )


def _network_set(name: str, space: str, carried: dict[str, str]) -> Stored:
    return _labelled(
        "NetworkSet", name, carried, "{nets: [10.77.0.0/24, 10.77.0.3]}", f", namespace: {space}"
    )


def _host_endpoint(name: str, node: str, carried: dict[str, str]) -> Stored:
    spec = f"{{node: {node}, interfaceName: '*', expectedIPs: [10.77.0.2], profiles: [open]}}"
    return _labelled("HostEndpoint", name, carried, spec)


others = st.one_of(
    st.builds(
        profile,
        st.sampled_from(["kns.red", "kns.blue", "ksa.red.robot", "open"]),
        st.sampled_from([{}, {"pcns.team": "a"}, {"pcns.team": "b", "app": "a"}, {"pcsa.role": "r"}]),
    ),
    st.builds(_tier, st.integers(1, 2_000_000), st.sampled_from(["Deny", "Pass"])),
    st.builds(_network_set, names, spaces, labels),
    st.builds(_host_endpoint, names, st.sampled_from(NODES), labels),
)


def _state(parts: tuple[Sequence[Stored], ...]) -> State:
    return State("random", {each.key: each for part in parts for each in part})


states = st.tuples(
    st.lists(policies(), max_size=6), st.lists(pods(), max_size=6), st.lists(others, max_size=6)
).map(_state)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Scope("n1"), Scope(None)]), st.lists(states, min_size=2, max_size=4), st.randoms())
def test_a_history_leaves_no_trace(scope: Scope, history: list[State], random: Any) -> None:
    run = Run(scope)
    run.wander(history, random)
    assert run.snapshot() == from_scratch(scope, history[-1]).snapshot()


@settings(max_examples=60, deadline=None)
@given(states)
def test_everywhere_restricted_to_a_node_is_that_node(state: State) -> None:
    everywhere = from_scratch(Scope(None), state)
    union: dict[str, dict[Any, Any]] = {table.name: {} for table in TABLES}
    for name in NODES:
        tables = from_scratch(Scope(name), state).tables
        for table in TABLES:
            rows = tables.get(table.name, {})
            whole = everywhere.tables.get(table.name, {})
            assert {key: whole.get(key) for key in rows} == rows, table.name
            union[table.name].update(rows)
        used = tables.get(IPSETS.name, {})
        whole_sets = everywhere.tables.get(MEMBERS.name, {})
        members = {member for member in whole_sets if member.ipset in used}
        assert set(tables.get(MEMBERS.name, {})) == members
    assert union == {table.name: everywhere.tables.get(table.name, {}) for table in TABLES}


@settings(max_examples=100, deadline=None)
@given(states)
def test_brute_force_selects_orders_and_fills_the_same(state: State) -> None:
    run = from_scratch(Scope("n1"), state)
    stored = list(state.stored.values())
    for key, row in run.tables.get(ENDPOINTS.name, {}).items():
        endpoint = next(each for each in stored if each.key[1:] == (key.name, key.namespace))
        carried = _effective(endpoint, state)
        for direction, found in (("Ingress", row.ingress), ("Egress", row.egress)):
            wanted = [
                each
                for each in stored
                if each.key.kind in POLICY_KINDS and _holds(each, direction, carried, key.namespace)
            ]
            keys = [policy for tier in found.tiers for policy in tier.policies]
            assert sorted(f"{policy.kind}/{policy.namespace}/{policy.name}" for policy in keys) == sorted(
                f"{each.key.kind.name}/{each.key.within}/{each.key.name}" for each in wanted
            )
            for tier in found.tiers:
                rows = run.tables[POLICIES.name]
                orders = [
                    (math.inf if (order := rows[each].order) is None else order, each.name)
                    for each in tier.policies
                ]
                assert orders == sorted(orders)
                assert {rows[each].tier for each in tier.policies} == {tier.name}
    for name, row in run.tables.get(IPSETS.name, {}).items():
        if name.startswith("s:"):
            selector = parse(row.meaning)
            expected = {
                prefix
                for each in stored
                if isinstance(each, Resource) and each.key.kind not in POLICY_KINDS
                for prefix in _prefixes(each)
                if selector.matches(_effective(each, state))
            }
            members = {member.prefix for member in run.tables.get(MEMBERS.name, {}) if member.ipset == name}
            assert members == expected


def _effective(resource: Stored, state: State) -> dict[str, str]:
    assert isinstance(resource, Resource)
    spec, namespace = resource.spec, resource.key.within
    found: dict[str, str] = {}
    parents: tuple[str, ...] = getattr(spec, "profiles", ()) or ((f"kns.{namespace}",) if namespace else ())
    for name in reversed(parents):
        for each in state.stored.values():
            if each.key.kind.name == "Profile" and each.key.name == name and isinstance(each, Resource):
                found |= each.spec.labels_to_apply
    found |= resource.metadata.labels
    if namespace:
        found["projectcalico.org/namespace"] = namespace
    if resource.key.kind == WORKLOAD_ENDPOINT:
        found["projectcalico.org/orchestrator"] = "k8s"
        if spec.service_account_name:
            found["projectcalico.org/serviceaccount"] = spec.service_account_name
    return found


def _prefixes(resource: Resource[Any]) -> list[Prefix]:
    spec = resource.spec
    if resource.key.kind == WORKLOAD_ENDPOINT:
        return [Prefix.parse(text) for text in spec.ip_networks]
    if resource.key.kind == HOST_ENDPOINT:
        return [Prefix.parse(text) for text in spec.expected_ips]
    return [Prefix.parse(text) for text in getattr(spec, "nets", ())]


def _holds(policy: Stored, direction: str, carried: Mapping[str, str], namespace: str) -> bool:
    readable = policy.readable if isinstance(policy, Invalid) else policy
    if readable is None:
        return policy.key.within == namespace
    spec = readable.spec
    types = spec.types or tuple(
        each for each, rules in (("Ingress", spec.ingress), ("Egress", spec.egress)) if rules
    )
    if direction not in (types or ("Ingress",)) or getattr(spec, "do_not_track", False):
        return False
    if policy.key.within and policy.key.within != namespace:
        return False
    if spec.selector == "app ==":
        return bool(policy.key.within)
    inherited = {
        prefix: {name[5:]: value for name, value in carried.items() if name.startswith(prefix)}
        for prefix in ("pcns.", "pcsa.")
    }
    of_namespace: str = getattr(spec, "namespace_selector", "")
    return (
        parse(spec.selector).matches(carried)
        and of_namespace != "global()"
        and parse(of_namespace).matches(inherited["pcns."])
        and parse(spec.service_account_selector).matches(inherited["pcsa."])
    )
