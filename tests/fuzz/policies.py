"""Random policies of both systems, and whole sets of documents."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.fuzz import rules
from tests.fuzz.clusters import PLACES, Place, cluster
from tests.fuzz.words import (
    LABELS,
    NAMESPACES,
    ORDERS,
    POLICY_NAMES,
    PORT_NAMES,
    ROLES,
    TEAMS,
    chance,
    few,
    selector,
)
from tests.oracle.builders import document, kubernetes_policy
from tests.oracle.documents import Document


def policy_set(rng: Random, places: Sequence[Place] = PLACES) -> list[Document]:
    """A cluster and a few policies, in any order."""
    documents = cluster(rng, places)
    tiers = [each["metadata"]["name"] for each in documents if each["kind"] == "Tier"]
    seen: set[tuple[str, str, str, str]] = set()
    for _ in range(rng.choice((1, 3, 5, 7, 9))):
        made = _policy(rng, tiers)
        key = (
            made["apiVersion"],
            made["kind"],
            made["metadata"].get("namespace", ""),
            made["metadata"]["name"],
        )
        if key not in seen:
            seen.add(key)
            documents.append(made)
    rng.shuffle(documents)
    return documents


def _policy(rng: Random, tiers: Sequence[str]) -> Document:
    kind = rng.choices(
        (
            "NetworkPolicy",
            "GlobalNetworkPolicy",
            "Kubernetes",
            "StagedNetworkPolicy",
            "StagedGlobalNetworkPolicy",
        ),
        (40, 30, 22, 4, 4),
    )[0]
    name = rng.choice(POLICY_NAMES)
    if kind == "Kubernetes":
        return _kubernetes(rng, name)
    within = "" if "Global" in kind else rng.choice(NAMESPACES[:2])
    spec: Document = {"tier": rng.choice(("default", rng.choice(tiers)))}
    if (order := rng.choice(ORDERS)) is not None:
        spec["order"] = order
    if chance(rng, 0.8):
        spec["selector"] = rng.choice(("all()", selector(rng, LABELS)))
    if not within and chance(rng, 0.35):
        spec["namespaceSelector"] = rng.choice((selector(rng, TEAMS), "all()"))
    if chance(rng, 0.2):
        spec["serviceAccountSelector"] = selector(rng, ROLES, deep=0).replace("all()", "has(role)")
    for direction in ("ingress", "egress"):
        if chance(rng, 0.75):
            spec[direction] = [
                rules.rule(rng, direction, namespace=within) for _ in range(rng.choice((1, 2, 3, 4)))
            ]
    if chance(rng, 0.5):
        spec["types"] = rng.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    if kind.startswith("Staged"):
        spec["stagedAction"] = "Set"
    return document(kind, name, spec, namespace=within)


def _kubernetes(rng: Random, name: str) -> Document:
    spec: Document = {"podSelector": _label_selector(rng, LABELS)}
    for direction in ("ingress", "egress"):
        if chance(rng, 0.6):
            spec[direction] = [_kubernetes_rule(rng, direction) for _ in range(rng.choice((1, 1, 2)))]
    if chance(rng, 0.6):
        spec["policyTypes"] = rng.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    return kubernetes_policy(name, rng.choice(NAMESPACES[:2]), **spec)


def _kubernetes_rule(rng: Random, direction: str) -> Document:
    made: Document = {}
    if chance(rng, 0.85):
        made["from" if direction == "ingress" else "to"] = [_peer(rng) for _ in range(rng.choice((1, 1, 2)))]
    if chance(rng, 0.7):
        made["ports"] = [_port(rng) for _ in range(rng.choice((1, 1, 2)))]
    return made


def _peer(rng: Random) -> Document:
    match rng.choice(("block", "pods", "namespaces", "both")):
        case "block":
            block = rng.choice(
                (
                    {"cidr": "10.65.0.0/16", "except": ["10.65.0.2/31"]},
                    {"cidr": "10.65.0.0/29", "except": ["10.65.0.0/30", "10.65.0.6/32"]},
                    {"cidr": "10.65.0.0/30"},
                    {"cidr": "198.18.2.0/24", "except": ["198.18.2.16/28"]},
                    {"cidr": "198.18.2.0/27"},
                    {"cidr": "0.0.0.0/0"},
                    {"cidr": "fd65::/125", "except": ["fd65::/126"]},
                    {"cidr": "fd65::/126"},
                    {"cidr": "2001:db8:5::/64", "except": ["2001:db8:5::10/124"]},
                )
            )
            return {"ipBlock": block}
        case "pods":
            return {"podSelector": _label_selector(rng, LABELS)}
        case "namespaces":
            return {"namespaceSelector": _label_selector(rng, TEAMS)}
        case _:
            return {
                "namespaceSelector": _label_selector(rng, TEAMS),
                "podSelector": _label_selector(rng, LABELS),
            }


def _label_selector(rng: Random, words: object) -> Document:
    labels = LABELS if words is LABELS else TEAMS
    made: Document = {}
    if chance(rng, 0.5):
        key = rng.choice(tuple(labels))
        made["matchLabels"] = {key: rng.choice(labels[key])}
    if chance(rng, 0.35):
        key = rng.choice(tuple(labels))
        operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        expression: Document = {"key": key, "operator": operator}
        made["matchExpressions"] = [expression]
        if operator in ("In", "NotIn"):
            expression["values"] = few(rng, labels[key], 2)
    return made


def _port(rng: Random) -> Document:
    made: Document = {}
    if chance(rng, 0.8):
        made["protocol"] = rng.choice(("TCP", "TCP", "UDP", "SCTP"))
    match rng.choice(("number", "range", "name", "none")):
        case "number":
            made["port"] = rng.choice((53, 80, 443, 7777))
        case "range":
            made |= rng.choice(({"port": 80, "endPort": 90}, {"port": 8000, "endPort": 8080}))
        case "name":
            made["port"] = rng.choice(tuple(PORT_NAMES))
        case _ if "protocol" not in made:
            made["protocol"] = "UDP"
        case _:
            pass
    return made
