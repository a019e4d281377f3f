"""Short ways to write Kubernetes' NetworkPolicies down, as documents that an operator would apply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]
Labels = Mapping[str, str]
Addresses = Mapping[str, Mapping[int, str]]
"""Of each pod (``x/a``), by IP version."""

EVERYTHING: Document = {}
"""A selector that selects all; a rule that allows all."""
METADATA_NAME = "kubernetes.io/metadata.name"
"""The label that Kubernetes gives each namespace."""


def namespace(name: str) -> Document:
    """With the labels that Kubernetes and its suite give it."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"ns": name, METADATA_NAME: name}},
    }


def policy(
    where: str,
    name: str,
    selects: Document,
    *,
    ingress: Sequence[Document] | None = None,
    egress: Sequence[Document] | None = None,
) -> Document:
    """A policy of the namespace ``where`` for each direction that rules are given for; no rules in it isolate."""
    spec: Document = {"podSelector": selects, "policyTypes": []}
    for direction, field, rules in (("Ingress", "ingress", ingress), ("Egress", "egress", egress)):
        if rules is not None:
            spec["policyTypes"].append(direction)
            spec[field] = list(rules)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": where},
        "spec": spec,
    }


def labels(**wanted: str) -> Document:
    """A selector of what has all of these labels."""
    return {"matchLabels": wanted}


def label_is(name: str, value: str) -> Document:
    """The same for a label whose name is no word."""
    return {"matchLabels": {name: value}}


def label_in(name: str, *values: str) -> Document:
    return {"matchExpressions": [{"key": name, "operator": "In", "values": list(values)}]}


def label_not_in(name: str, *values: str) -> Document:
    return {"matchExpressions": [{"key": name, "operator": "NotIn", "values": list(values)}]}


def pods(selector: Document) -> Document:
    """A peer: pods of the policy's own namespace."""
    return {"podSelector": selector}


def namespaces(selector: Document) -> Document:
    """A peer: all pods of these namespaces."""
    return {"namespaceSelector": selector}


def pods_of(pod_selector: Document, namespace_selector: Document) -> Document:
    """A peer: these pods of those namespaces."""
    return {"podSelector": pod_selector, "namespaceSelector": namespace_selector}


def around(pod: str, *, but: str = "", v4: int = 32, v6: int = 128) -> list[Document]:
    """Peers: the network of this length that a pod's address is in, in each IP version, without the single address of another."""
    peers: list[Document] = []
    for version, length, single in ((4, v4, 32), (6, v6, 128)):
        block: Document = {"cidr": f"{_token(pod, version)}/{length}"}
        if but:
            block["except"] = [f"{_token(but, version)}/{single}"]
        peers.append({"ipBlock": block})
    return peers


def port(number: int | str | None = None, protocol: str = "TCP") -> Document:
    found: Document = {"protocol": protocol}
    return found if number is None else {**found, "port": number}


def filled(document: Document, addresses: Addresses) -> Document:
    """With the pods' real addresses in it."""
    text = json.dumps(document)
    for pod, versions in addresses.items():
        for version, address in versions.items():
            text = text.replace(_token(pod, version), address)
    found: Document = json.loads(text)
    return found


def _token(pod: str, version: int) -> str:
    return f"<{pod} {version}>"
