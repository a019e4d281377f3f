"""Policies and tiers: which of them hold for an endpoint, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.oracle import kubernetes
from tests.oracle.cluster import Thing
from tests.oracle.documents import Document, listed, named, within
from tests.oracle.rules import Rule, calico_rule
from tests.oracle.selectors import NAMESPACE, Labels, Matches, compiled

Direction = Literal["ingress", "egress"]
Traffic = Literal["tracked", "forward", "untracked", "pre-dnat"]
"""What policies are asked about: a workload's or a node's own packets; at HostEndpoints also those that are routed through, those
that conntrack is to leave alone, and those whose destination has not been translated yet."""

BUILT_IN = {
    "kube-admin": (1_000.0, "Pass"),
    "default": (1_000_000.0, "Deny"),
    "kube-baseline": (10_000_000.0, "Pass"),
}
"""The tiers that are always there: order and default action. One of the documents may say it otherwise."""
KINDS = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")


@dataclass(frozen=True)
class Tier:
    """``action`` is what happens at its end."""

    name: str
    order: float
    action: str


@dataclass(frozen=True)
class Policy:
    """A policy of either system."""

    kind: str
    namespace: str
    name: str
    tier: str
    order: float
    staged: bool
    types: frozenset[Direction]
    parts: Sequence[tuple[str, Matches]]
    """What an endpoint's labels must match all of, each with the name of its field."""
    rules: dict[Direction, list[Rule]]
    written: Document
    traffic: frozenset[Traffic] = frozenset(("tracked",))

    def selects(self, labels: Labels) -> bool:
        return all(matches(labels) for _, matches in self.parts)

    @property
    def rank(self) -> tuple[float, str]:
        """None is last; then by name, namespace and kind, as one text."""
        return self.order, f"{self.name}/{self.namespace}/{self.kind}"


def tiers(documents: Iterable[Document]) -> list[Tier]:
    """All, in their order."""
    found = {name: Tier(name, order, action) for name, (order, action) in BUILT_IN.items()}
    for document in documents:
        if document["kind"] == "Tier":
            name, spec = document["metadata"]["name"], document["spec"]
            found[name] = Tier(name, _order(spec), spec.get("defaultAction", "Deny"))
    return sorted(found.values(), key=lambda tier: (tier.order, tier.name))


def _order(spec: Document) -> float:
    order = spec.get("order")
    return math.inf if order is None else float(order)


def policies(documents: Iterable[Document]) -> list[Policy]:
    """All, in no order."""
    found: list[Policy] = []
    for document in documents:
        if document["kind"] == "NetworkPolicy" and document["apiVersion"] == "networking.k8s.io/v1":
            found.append(_kubernetes(document))
        elif document["kind"] in KINDS:
            found.append(_calico(document))
    return found


def _calico(document: Document) -> Policy:
    namespace, name = named(document)
    spec = document["spec"]
    written: dict[Direction, list[Document]] = {
        "ingress": listed(spec, "ingress"),
        "egress": listed(spec, "egress"),
    }
    return Policy(
        kind=document["kind"],
        namespace=namespace,
        name=name,
        tier=spec.get("tier") or "default",
        order=_order(spec),
        staged=document["kind"].startswith("Staged"),
        types=_types(spec),
        parts=_calico_parts(spec, namespace),
        rules={key: [calico_rule(rule, namespace) for rule in rules] for key, rules in written.items()},
        written=document,
        traffic=_traffic(spec),
    )


def _traffic(spec: Document) -> frozenset[Traffic]:
    if spec.get("doNotTrack"):
        return frozenset(("untracked",))
    if spec.get("preDNAT"):
        return frozenset(("pre-dnat",))
    return frozenset(("tracked", "forward")) if spec.get("applyOnForward") else frozenset(("tracked",))


def _types(spec: Document) -> frozenset[Direction]:
    """As written; else by the rules that are there, and Ingress where there are none."""
    if spec.get("types"):
        directions: tuple[Direction, ...] = ("ingress", "egress")
        return frozenset(each for each in directions if each.capitalize() in spec["types"])
    if not spec.get("egress"):
        return frozenset(("ingress",))
    return frozenset(("ingress", "egress")) if spec.get("ingress") else frozenset(("egress",))


def _calico_parts(spec: Document, namespace: str) -> list[tuple[str, Matches]]:
    parts = [("policy.selector", compiled(spec.get("selector") or ""))]
    if spec.get("namespaceSelector"):
        parts.append(("policy.namespaceSelector", compiled(spec["namespaceSelector"], "pcns.")))
    if spec.get("serviceAccountSelector"):
        parts.append(("policy.serviceAccountSelector", compiled(spec["serviceAccountSelector"], "pcsa.")))
    if namespace:
        parts.append(("policy.namespace", lambda labels: labels.get(NAMESPACE) == namespace))
    return parts


def _kubernetes(document: Document) -> Policy:
    namespace, name = named(document)
    spec = document["spec"]
    types: list[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    pods = kubernetes.label_selector(within(spec, "podSelector"))
    orchestrator = "projectcalico.org/orchestrator"
    return Policy(
        kind="KubernetesNetworkPolicy",
        namespace=namespace,
        name=name,
        tier="default",
        order=1000.0,
        staged=False,
        types=frozenset(each for each in ("ingress", "egress") if each.capitalize() in types),
        parts=[
            ("policy.orchestrator", lambda labels: labels.get(orchestrator) == "k8s"),
            ("policy.namespace", lambda labels: labels.get(NAMESPACE) == namespace),
            ("policy.podSelector", pods),
        ],
        rules={
            "ingress": [
                kubernetes.kubernetes_rule(rule, namespace, ingress=True) for rule in listed(spec, "ingress")
            ],
            "egress": [
                kubernetes.kubernetes_rule(rule, namespace, ingress=False) for rule in listed(spec, "egress")
            ],
        },
        written=document,
    )


def applied(
    endpoint: Thing,
    direction: Direction,
    traffic: Traffic,
    tiers: Sequence[Tier],
    policies: Sequence[Policy],
) -> list[tuple[Tier, list[Policy]]]:
    """The tiers that count for this endpoint's traffic in this direction: those with a policy of that type that selects it."""
    found: list[tuple[Tier, list[Policy]]] = []
    for tier in tiers:
        here = [
            policy
            for policy in policies
            if policy.tier == tier.name
            and direction in policy.types
            and traffic in policy.traffic
            and policy.selects(endpoint.labels)
        ]
        if here:
            found.append((tier, sorted(here, key=lambda policy: policy.rank)))
    return found
