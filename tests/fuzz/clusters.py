"""Random clusters: namespaces, accounts, pods, profiles, network sets, services and tiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz import rules
from tests.fuzz.words import (
    ACCOUNTS,
    LABELS,
    NAMESPACES,
    NETS,
    PORT_NAMES,
    ROLES,
    SERVICES,
    TEAMS,
    chance,
    few,
    some_labels,
)
from tests.oracle.builders import account, document, endpoint_slice, namespace, pod, tier
from tests.oracle.documents import Document


@dataclass(frozen=True)
class Place:
    """Where a pod is: its number, its addresses and the node's end of its wire."""

    number: int

    @property
    def addresses(self) -> tuple[str, str]:
        return f"10.65.0.{self.number}", f"fd65::{self.number:x}"

    @property
    def interface(self) -> str:
        return f"cali{self.number}"


PLACES = tuple(Place(number) for number in range(1, 8))


def cluster(rng: Random, places: Sequence[Place] = PLACES) -> list[Document]:
    """Everything but policies."""
    documents: list[Document] = []
    for name in NAMESPACES:
        labels = some_labels(rng, TEAMS)
        documents += [namespace(name, **labels), _of_namespace(name, labels)]
        for each in ACCOUNTS:
            labels = some_labels(rng, ROLES)
            documents += [account(each, name, **labels), _of_account(each, name, labels)]
    documents.append(_profile(rng, "custom"))
    documents += [_pod(rng, place) for place in places]
    documents += _sets(rng)
    documents += _host_endpoints(rng)
    documents += _services(rng, places)
    documents += _tiers(rng)
    return documents


def _of_namespace(name: str, labels: Mapping[str, str]) -> Document:
    """The profile that Calico's controllers make of a namespace."""
    inherited = {f"pcns.{key}": value for key, value in labels.items()} | {
        "pcns.projectcalico.org/name": name
    }
    allow = [{"action": "Allow"}]
    return document("Profile", f"kns.{name}", {"ingress": allow, "egress": allow, "labelsToApply": inherited})


def _of_account(name: str, within: str, labels: Mapping[str, str]) -> Document:
    """The profile that Calico's controllers make of a service account: labels, and no rules."""
    inherited = {f"pcsa.{key}": value for key, value in labels.items()} | {
        "pcsa.projectcalico.org/name": name
    }
    return document("Profile", f"ksa.{within}.{name}", {"labelsToApply": inherited})


def _pod(rng: Random, place: Place) -> Document:
    within = rng.choice(NAMESPACES[:2] if chance(rng, 0.85) else NAMESPACES)
    own = rng.choice(ACCOUNTS)
    usual = [f"kns.{within}", f"ksa.{within}.{own}"]
    profiles = rng.choices(
        (usual, [*usual, "custom"], ["custom", *usual], ["custom"], ["ksa." + within + "." + own], []),
        (12, 1, 3, 3, 1, 1),
    )[0]
    ports = [
        (name, *rng.choice(PORT_NAMES[name])) for name in PORT_NAMES for _ in range(rng.choice((0, 1, 1, 2)))
    ]
    return pod(
        f"pod{place.number}",
        place.addresses,
        within=within,
        account=own,
        labels=some_labels(rng, LABELS),
        ports=list(dict.fromkeys(ports)),
        profiles=profiles,
        orchestrator="cni" if chance(rng, 0.1) else "k8s",
        interface=place.interface,
    )


def _profile(rng: Random, name: str) -> Document:
    """Rules that name no policy's things: selectors, ports and protocols alone."""
    made = {
        direction: [
            rules.rule(rng, direction, namespace=None, actions=("Allow", "Allow", "Deny", "Log"))
            for _ in range(rng.choice((1, 2, 3)))
        ]
        for direction in ("ingress", "egress")
    }
    return document("Profile", name, {**made, "labelsToApply": {"profiled": "yes"}})


def _sets(rng: Random) -> list[Document]:
    """Network sets, whose nets overlap one another and the pods."""
    made: list[Document] = []
    for number in range(rng.choice((1, 2, 3))):
        nets = [*few(rng, NETS[4][:-1]), *few(rng, NETS[6][:-1])]
        if chance(rng, 0.1):
            nets += ["0.0.0.0/0", "::/0"]
        labels = some_labels(rng, LABELS)
        if chance(rng, 0.5):
            made.append(document("GlobalNetworkSet", f"g{number}", {"nets": nets}, labels=labels))
        else:
            within = rng.choice(NAMESPACES)
            made.append(document("NetworkSet", f"n{number}", {"nets": nets}, namespace=within, labels=labels))
    return made


def _host_endpoints(rng: Random) -> list[Document]:
    """Another node's, sometimes: here it is only something that selectors match."""
    if not chance(rng, 0.4):
        return []
    spec: Document = {
        "node": "far",
        "interfaceName": "eth0",
        "expectedIPs": ["198.18.2.20", "2001:db8:5::14"],
    }
    if chance(rng, 0.5):
        spec["ports"] = [{"name": "web", "protocol": "TCP", "port": 80}]
    return [document("HostEndpoint", "far", spec, labels=some_labels(rng, LABELS))]


def _services(rng: Random, places: Sequence[Place]) -> list[Document]:
    made: list[Document] = []
    for name in SERVICES:
        within = rng.choice(NAMESPACES)
        ports = few(rng, (("TCP", 80), ("UDP", 53), ("TCP", 443), ("SCTP", 7777)), 2)
        chosen = few(rng, places)
        for version in (0, 1):
            addresses = [place.addresses[version] for place in chosen]
            if chance(rng, 0.3):
                addresses.append(("198.18.2.20", "2001:db8:5::14")[version])
            made.append(endpoint_slice(name, within, addresses, ports))
    return made


def _tiers(rng: Random) -> list[Document]:
    """Those that are always there, as they always are, and up to three more."""
    made = [
        tier("default", 1_000_000, "Deny"),
        tier("kube-admin", 1_000, "Pass"),
        tier("kube-baseline", 10_000_000, "Pass"),
    ]
    more = rng.sample(("one", "two", "two-b"), rng.choice((0, 1, 2, 3)))
    orders = (None, 1, 1, 2, 2_000_000)
    return made + [tier(name, rng.choice(orders), rng.choice(("Deny", "Pass"))) for name in more]
