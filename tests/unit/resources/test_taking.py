"""What is stored and invalid: of policies enough is read to fail closed, whatever is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.resources import codec, registry
from tortie.resources.resource import Delete, Invalid, Kind, Put, Resource, ResourceKey, Revision
from tortie.resources.taking import POLICIES, readable, taken

RULE = {"action": "Allow", "protocol": "tcp", "destination": {"ports": ["80"]}}


def key(kind: str) -> ResourceKey:
    info = registry.find(kind)
    return ResourceKey(info.kind, "p", "team" if info.namespaced else "")


def stored(kind: str, spec: dict[str, Any], **metadata: Any) -> Resource[Any]:
    """As another writer left it in the datastore."""
    where = key(kind)
    document = {"metadata": {"name": "p", "namespace": where.within, **metadata}, "spec": spec}
    return codec.load(where, json.dumps(document).encode(), Revision("7"))


def left_of(kind: str, spec: Any) -> Resource[Any] | None:
    return readable(key(kind), json.dumps({"spec": spec}).encode())


def test_what_is_valid_gets_its_defaults() -> None:
    (put,) = [taken(Put(stored("NetworkPolicy", {"ingress": [RULE]})))]
    assert isinstance(put, Put)
    spec = put.resource.spec
    assert (spec.types, spec.ingress[0].protocol, spec.ingress[0].destination.ports) == (
        ("Ingress",),
        "TCP",
        (80,),
    )
    assert put.resource.revision == "7"
    tier = taken(Put(stored("Tier", {"order": 5})))
    assert isinstance(tier, Put)
    assert tier.resource.spec.default_action == "Deny"


def test_other_updates_are_as_they_were() -> None:
    pod = Put(stored("Pod", {"serviceAccountName": "NOT A NAME"}))
    gone = Delete(key("NetworkPolicy"))
    invalid = Invalid(key("NetworkPolicy"), "x")
    assert [taken(each) for each in (pod, gone, invalid)] == [pod, gone, invalid]


def test_an_invalid_policy_keeps_what_can_be_read() -> None:
    spec = {
        "tier": "security",
        "order": 5,
        "selector": "app == 'web'",
        "serviceAccountSelector": "a == 'b'",
        "types": ["Egress"],
        "ingress": [RULE],
        "egress": [{"action": "Maybe"}, {}],
    }
    found = taken(Put(stored("NetworkPolicy", spec, annotations={"a": "b"})))
    assert isinstance(found, Invalid)
    assert found.reason == ("spec.egress[0].action: Maybe is not one of Allow, Deny, Log, Pass (and 1 more)")
    left = found.readable
    assert left is not None
    assert (left.spec.tier, left.spec.order, left.spec.types) == ("security", 5.0, ("Egress",))
    assert (left.spec.selector, left.spec.service_account_selector) == ("app == 'web'", "a == 'b'")
    assert (left.spec.ingress, left.spec.egress) == ((), ())
    assert (left.metadata.annotations, left.revision) == ({"a": "b"}, "7")


def test_a_lost_selector_is_the_whole_namespace_or_nothing() -> None:
    left = left_of("NetworkPolicy", {"selector": "a ==", "order": "x", "tier": 5})
    assert left is not None
    assert (left.spec.selector, left.spec.order, left.spec.tier) == ("", None, "default")
    for name in ("selector", "namespaceSelector", "serviceAccountSelector"):
        assert left_of("GlobalNetworkPolicy", {name: "a =="}) is None
        assert left_of("GlobalNetworkPolicy", {name: 5}) is None
        found = taken(Put(stored("GlobalNetworkPolicy", {name: "a =="})))
        assert isinstance(found, Invalid)
        assert found.readable is None
    assert left_of("GlobalNetworkPolicy", {"types": "x"}) is not None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("Ingress",)),
        ({"egress": "x"}, ("Egress",)),
        ({"egress": [RULE], "ingress": 5}, ("Ingress", "Egress")),
        ({"types": ["Egress"], "ingress": [RULE]}, ("Egress",)),
        ({"types": ["egress"]}, ("Ingress", "Egress")),
        ({"types": "Ingress"}, ("Ingress", "Egress")),
    ],
)
def test_lost_types_are_both(spec: Any, expected: tuple[str, ...]) -> None:
    left = left_of("NetworkPolicy", spec)
    assert left is not None
    assert left.spec.types == expected


@pytest.mark.parametrize("stored", [b"{", b"[]", b'{"spec": 5}', b'{"spec": "x"}'])
@pytest.mark.parametrize("kind", POLICIES)
def test_where_there_is_nothing_to_read_in_all_is_lost(kind: Kind, stored: bytes) -> None:
    """Not even the direction is known: of a global policy not whom it meant, either."""
    assert readable(ResourceKey(kind, "p", "team"), stored) is None


def test_flags_of_host_policies() -> None:
    left = left_of("GlobalNetworkPolicy", {"preDNAT": True, "doNotTrack": True, "types": ["Egress"]})
    assert left is not None
    spec = left.spec
    assert (spec.pre_dnat, spec.do_not_track, spec.apply_on_forward, spec.types) == (
        True, False, True, ("Ingress",),
    )  # fmt: skip


def test_kubernetes() -> None:
    labels = {"matchLabels": {"a": "b"}}
    left = left_of(
        "KubernetesNetworkPolicy", {"podSelector": labels, "ingress": [{"from": 5}], "egress": [{}]}
    )
    assert left is not None
    assert left.spec.pod_selector.match_labels == {"a": "b"}
    assert left.spec.policy_types == ("Ingress", "Egress")
    for lost in (
        "x",
        {"matchLabels": 5},
        {"matchLabels": {"a": "b'c"}},
        {"matchExpressions": [{"key": "a"}]},
    ):
        left = left_of("KubernetesNetworkPolicy", {"podSelector": lost, "policyTypes": ["Egress"]})
        assert left is not None
        assert (left.spec.pod_selector.match_labels, left.spec.policy_types) == ({}, ("Egress",))


def test_a_criterion_that_nobody_knows_widens_no_rule() -> None:
    spec = {"ingress": [{"action": "Allow", "source": {"domains": ["example.com"]}}], "later": 1}
    found = taken(Put(stored("NetworkPolicy", spec)))
    assert isinstance(found, Invalid)
    assert found.reason == "spec.ingress[0].source.domains: is not a known field"
    assert isinstance(taken(Put(stored("NetworkPolicy", {"later": 1}))), Put)
    kubernetes = taken(Put(stored("KubernetesNetworkPolicy", {"ingress": [{"form": []}]})))
    assert isinstance(kubernetes, Invalid)


def test_of_other_kinds_nothing_is_left() -> None:
    found = taken(Put(stored("NetworkSet", {"nets": ["x"]})))
    assert isinstance(found, Invalid)
    assert found.readable is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    "tier order selector serviceAccountSelector namespaceSelector types doNotTrack preDNAT applyOnForward stagedAction "
    "ingress egress podSelector policyTypes".split()
)
SPECS = JSON | st.dictionaries(FIELDS, JSON | st.just("a == 'b'") | st.just(["Ingress"]), max_size=8)


@given(st.sampled_from(POLICIES), SPECS)
def test_whatever_is_stored_fails_closed(kind: Any, spec: Any) -> None:
    info = registry.info(kind)
    where = ResourceKey(kind, "p", "team" if info.namespaced else "")
    left = readable(where, json.dumps({"spec": spec}).encode())
    if left is None:
        assert not info.namespaced or not isinstance(spec, dict | None)
        return
    # What is left is itself valid, so that nothing further on can stumble over it.
    if getattr(left.spec, "staged_action", "") != "Delete":
        assert info.validate(left) == []
    assert info.normalise(left).spec == left.spec
