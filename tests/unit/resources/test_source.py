"""File and line of a policy: shown as long as they are true, and never longer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.resources import codec, registry
from tortie.resources.reading import read
from tortie.resources.resource import Resource
from tortie.resources.source import SOURCE_ANNOTATION, Source, source_of

POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, annotations: {by: me}}
spec:
  order: 10
  ingress:
  - action: Allow
    protocol: tcp
    destination: {ports: ["80"]}
  - action: Deny
  egress:
  -
    action: Allow
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: kube}
spec:
  podSelector: {}
  egress:
  - to: [{podSelector: {}}]
"""


def test_files_say_where_each_rule_stands() -> None:
    calico, kubernetes = read(POLICY, "dir/web.yaml")
    assert source_of(calico) == Source("dir/web.yaml", 2, (8, 11), (14,))
    assert source_of(kubernetes) == Source("dir/web.yaml", 16, (), (22,))
    assert calico.metadata.annotations["by"] == "me"
    assert set(json.loads(calico.metadata.annotations[SOURCE_ANNOTATION])) == {
        "file", "line", "ingress", "egress", "hash",
    }  # fmt: skip


def test_json_has_no_lines() -> None:
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "g"},
        "spec": {"ingress": [{"action": "Deny"}]},
    }
    (policy,) = read("\t" + json.dumps(document), "g.json")  # YAML takes no tabs
    assert source_of(policy) == Source("g.json", 0, (0,), ())


def test_other_kinds_have_none() -> None:
    (tier,) = read("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}", "f")
    assert SOURCE_ANNOTATION not in tier.metadata.annotations


def stored(document: dict[str, Any], resource: Resource[Any]) -> Resource[Any]:
    return codec.load(resource.key, json.dumps(document).encode())


def test_it_survives_storing_and_writers_that_fill_in_or_leave_out_defaults() -> None:
    (policy, _) = read(POLICY, "f")
    document = codec.encode(policy)
    where = source_of(policy)
    assert where is not None
    assert source_of(codec.load(policy.key, codec.dump(policy))) == where
    spec = document["spec"]
    del spec["types"], spec["tier"]
    spec.update({"selector": "", "serviceAccountSelector": ""})
    spec["ingress"][1].update({"source": {}, "destination": {"nets": [], "ports": None}, "protocol": None})
    assert source_of(stored(document, policy)) == where
    document["metadata"].update({"labels": {"x": "y"}, "managedFields": []})
    assert source_of(stored(document, policy)) == where


@pytest.mark.parametrize(
    "change",
    [
        {"order": 11},
        {"selector": "a == 'b'"},
        {"types": ["Egress"]},
        {"ingress": [{"action": "Deny"}, {"action": "Deny"}]},
        {"egress": []},
        {"later": 1},
    ],
)
def test_a_changed_spec_shows_nothing(change: dict[str, Any]) -> None:
    (policy, _) = read(POLICY, "f")
    document = codec.encode(policy)
    document["spec"].update(change)
    assert source_of(stored(document, policy)) is None


@pytest.mark.parametrize("text", ["", "x", "{}", "[]", '{"file": 5}', "\udc80"])
def test_a_damaged_annotation_shows_nothing(text: str) -> None:
    (policy, _) = read(POLICY, "f")
    metadata = replace(policy.metadata, annotations={SOURCE_ANNOTATION: text})
    assert source_of(replace(policy, metadata=metadata)) is None


ENTITIES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"selector": "a == 'b'"}, {"nets": ["10.0.0.0/8"]}]
)
RULES: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.fixed_dictionaries(
        {"action": st.sampled_from(["Allow", "Deny", "Log", "Pass"])},
        optional={
            "protocol": st.sampled_from(["TCP", "udp", 6, "132"]),
            "source": ENTITIES,
        },
    ),
    max_size=4,
)


@given(RULES, RULES, st.none() | st.integers(0, 9), st.integers(1, 3))
def test_any_policy_tells_its_lines_after_a_round_trip(
    ingress: list[Any], egress: list[Any], order: int | None, blank: int
) -> None:
    lines = ["" for _ in range(blank)]
    lines += ["apiVersion: projectcalico.org/v3", "kind: GlobalNetworkPolicy", "metadata: {name: g}", "spec:"]
    lines += [f"  order: {json.dumps(order)}"]
    expected: dict[str, tuple[int, ...]] = {}
    for direction, rules in (("ingress", ingress), ("egress", egress)):
        lines.append(f"  {direction}:" + ("" if rules else " []"))
        expected[direction] = tuple(len(lines) + index + 1 for index in range(len(rules)))
        lines += [f"  - {json.dumps(rule)}" for rule in rules]
    (policy,) = read("\n".join(lines), "g.yaml")
    again = codec.load(policy.key, codec.dump(policy))
    assert source_of(again) == Source("g.yaml", blank + 1, expected["ingress"], expected["egress"])
    moved = msgspec.structs.replace(again.spec, order=10.0)
    assert source_of(again.with_spec(moved)) is None
    assert registry.info(again.key.kind).validate(again) == []
