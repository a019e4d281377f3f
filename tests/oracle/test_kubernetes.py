"""The oracle's reading of Kubernetes' NetworkPolicy, against sentences of its documentation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracle.builders import kubernetes_policy, namespace, pod, policy
from tests.oracle.documents import Document
from tests.oracle.judge import Oracle
from tests.oracle.packets import Packet

PODS = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3", "outside": "192.0.2.9"}
BASE = [
    namespace("here", team="red"),
    namespace("there", team="blue"),
    pod("a", [PODS["a"]], labels={"app": "client"}),
    pod("b", [PODS["b"], "fd00::2"], labels={"app": "web"}, ports=[("web", "TCP", 80), ("dns", "UDP", 53)]),
    pod("c", [PODS["c"]], within="there", labels={"app": "client"}),
]


def who_reaches_b(*documents: Document, protocol: int = 6, port: int = 80) -> str:
    oracle = Oracle([*BASE, *documents])
    packets = {name: Packet(address, PODS["b"], protocol, 4000, port) for name, address in PODS.items()}
    return " ".join(name for name, packet in packets.items() if oracle.judge(packet).allowed)


def on_b(**spec: Any) -> Document:
    return kubernetes_policy("p", podSelector={"matchLabels": {"app": "web"}}, **spec)


def test_isolated_once_selected() -> None:
    assert who_reaches_b() == "a b c outside"
    assert who_reaches_b(on_b()) == ""
    assert who_reaches_b(on_b(policyTypes=["Egress"])) == "a c outside"
    assert who_reaches_b(kubernetes_policy("p", "there", policyTypes=["Egress"])) == "a b outside"
    assert (
        who_reaches_b(kubernetes_policy("p", podSelector={"matchLabels": {"app": "db"}})) == "a b c outside"
    )
    decision = Oracle([*BASE, on_b()]).judge(Packet(PODS["a"], PODS["b"], 6, 1, 80)).ingress
    assert decision is not None
    assert decision.decided_by == "tier-end"


def test_types_default_to_ingress_and_to_egress_where_it_has_rules() -> None:
    assert who_reaches_b(kubernetes_policy("p", egress=[{}])) == ""
    oracle = Oracle([*BASE, kubernetes_policy("p", egress=[{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}])])
    assert oracle.judge(Packet(PODS["b"], PODS["outside"], 6, 1, 80)).allowed
    assert not oracle.judge(Packet(PODS["b"], "192.0.3.1", 6, 1, 80)).allowed
    oracle = Oracle([*BASE, kubernetes_policy("p")])
    assert oracle.judge(Packet(PODS["b"], PODS["outside"], 6, 1, 80)).allowed


RULES: list[tuple[Document, str]] = [
        ({}, "a b c outside"),
        ({"from": []}, "a b c outside"),
        ({"from": [{"podSelector": {}}]}, "a b"),
        ({"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}, "a"),
        ({"from": [{"namespaceSelector": {}}]}, "a b c"),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}, "c"),
        (
            {
                "from": [
                    {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}},
                ]
            },
            "a c",
        ),
        (
            {
                "from": [
                    {"podSelector": {"matchLabels": {"app": "web"}}},
                    {"namespaceSelector": {"matchLabels": {"team": "blue"}}},
                ]
            },
            "b c",
        ),
        ({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}, "a b c outside"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.2/31"]}}]}, "a"),
        (
            {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.3/32"]}}, {"podSelector": {}}]},
            "a b outside",
        ),
        ({"from": [{"ipBlock": {"cidr": "::/0"}}]}, ""),
        (
            {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}]},
            "b",
        ),
        (
            {"from": [{"podSelector": {"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}}]},
            "a b",
        ),
        ({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]}, "a b"),
        ({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}]}, ""),
        ({"ports": [{"port": 80}]}, "a b c outside"),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, ""),
        ({"ports": [{"port": 79, "endPort": 80}]}, "a b c outside"),
        ({"ports": [{"port": 81, "endPort": 90}]}, ""),
        ({"ports": [{"port": 81}, {"port": 80}]}, "a b c outside"),
        ({"ports": [{"protocol": "TCP"}]}, "a b c outside"),
        ({"ports": [{"protocol": "SCTP"}]}, ""),
        ({"ports": [{"port": "web"}]}, "a b c outside"),
        ({"ports": [{"port": "dns", "protocol": "UDP"}]}, ""),
        ({"ports": [{"port": "dns"}]}, ""),
        ({"ports": [{"port": 80}], "from": [{"podSelector": {}}]}, "a b"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "who"), RULES)
def test_who_may_in(rule: Document, who: str) -> None:
    assert who_reaches_b(on_b(ingress=[rule])) == who


def test_rules_and_policies_add_up() -> None:
    pods = {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}
    block = {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    assert who_reaches_b(on_b(ingress=[pods, block])) == "a outside"
    other = kubernetes_policy("q", ingress=[block])
    assert who_reaches_b(on_b(ingress=[pods]), other) == "a outside"


def test_beside_policies_of_calico_its_order_is_1000() -> None:
    theirs = on_b(ingress=[{}])
    for order, who in ((999, ""), (1001, "a b c outside"), (None, "a b c outside")):
        assert who_reaches_b(theirs, policy("a", order=order, ingress=[{"action": "Deny"}])) == who


def test_pods_of_no_orchestrator_are_not_selected() -> None:
    bare = pod("d", ["10.0.0.4"], orchestrator="cni")
    oracle = Oracle([*BASE, bare, kubernetes_policy("p", ingress=[{"from": [{"podSelector": {}}]}])])
    assert oracle.judge(Packet(PODS["a"], "10.0.0.4", 6, 1, 80)).allowed
    assert not oracle.judge(Packet("10.0.0.4", PODS["b"], 6, 1, 80)).allowed
