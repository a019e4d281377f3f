"""Random rules, of every field and negation, that Calico would accept."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.fuzz.words import (
    ACCOUNTS,
    ICMP_TYPES,
    LABELS,
    MASKED,
    NAMESPACES,
    OTHER_PROTOCOLS,
    PORT_NAMES,
    PORTS,
    ROLES,
    SERVICES,
    TEAMS,
    chance,
    few,
    selector,
)
from tests.oracle.documents import Document

ACTIONS = ("Allow",) * 8 + ("Deny",) * 6 + ("Pass",) * 4 + ("Log",) * 2
WITH_PORTS = ("TCP", "UDP", "SCTP")


def rule(rng: Random, direction: str, *, namespace: str | None, actions: Sequence[str] = ACTIONS) -> Document:
    """A rule of a policy in a namespace (global: ""), or of a profile (None), which knows no namespaces."""
    made: Document = {"action": rng.choice(actions)}
    protocol = _protocol(rng, made)
    if chance(rng, 0.15):
        versions = {"ICMP": (4,), "ICMPv6": (6,)}.get(str(protocol or made.get("notProtocol")), (4, 6))
        made["ipVersion"] = rng.choice(versions)
    if protocol in ICMP_TYPES:
        _icmp(rng, made, ICMP_TYPES[str(protocol)])
    version: int = made.get("ipVersion") or rng.choice((4, 6))  # nets of both in one rule are refused
    near, far = ("destination", "source") if direction == "ingress" else ("source", "destination")
    for side, likelihood in ((far, 0.75), (near, 0.25)):
        entity: Document = {}
        if chance(rng, likelihood):
            _who(rng, entity, version, namespace, direction if side == far else "")
        if protocol in WITH_PORTS and chance(rng, 0.6 if side == "destination" else 0.35):
            _ports(rng, entity)
        if entity:
            made[side] = entity
    if "services" in made.get("destination", {}) and chance(rng, 0.7):
        for field in ("protocol", "notProtocol", "icmp", "notICMP"):
            made.pop(field, None)
        made.get("source", {}).pop("ports", None)
        made.get("source", {}).pop("notPorts", None)
    return made


def _protocol(rng: Random, made: Document) -> int | str | None:
    protocol: int | str | None = rng.choices(
        (None, "TCP", "UDP", "SCTP", "ICMP", "ICMPv6", rng.choice(OTHER_PROTOCOLS)),
        (30, 28, 15, 8, 12, 12, 3),
    )[0]
    if protocol is not None:
        made["protocol"] = protocol
    if chance(rng, 0.12 if protocol is None else 0.02):
        made["notProtocol"] = rng.choice(
            ("TCP", "UDP", "SCTP", "ICMP" if protocol is None else "TCP", 47, "UDPLite")
        )
    return protocol


def _icmp(rng: Random, made: Document, types: Sequence[int]) -> None:
    if chance(rng, 0.7):
        made["icmp"] = {"type": rng.choice(types)}
        if chance(rng, 0.5):
            made["icmp"]["code"] = rng.choice((0, 0, 1))
    if chance(rng, 0.5):
        made["notICMP"] = {"type": rng.choice(types)}
        if chance(rng, 0.5):
            made["notICMP"]["code"] = rng.choice((0, 0, 1))


def _who(rng: Random, entity: Document, version: int, namespace: str | None, services_of: str) -> None:
    """One or two ways to say who is meant. ``services_of`` is the direction if services may stand on this side."""
    if services_of and chance(rng, 0.12):
        entity["services"] = {"name": rng.choice(SERVICES), "namespace": rng.choice(NAMESPACES)}
        if namespace and chance(rng, 0.3):
            del entity["services"]["namespace"]
        return
    for _ in range(rng.choice((1, 1, 2))):
        match rng.choice(
            ("nets", "nets", "notNets", "selector", "selector", "notSelector", "in", "account", "account")
        ):
            case "nets":
                entity["nets"] = few(rng, MASKED[version])
            case "notNets":
                entity["notNets"] = few(rng, MASKED[version])
            case "selector":
                entity["selector"] = selector(rng, LABELS)
            case "notSelector":
                entity["notSelector"] = selector(rng, LABELS)
            case "in" if namespace is not None:
                entity["namespaceSelector"] = rng.choice(
                    (selector(rng, TEAMS), "all()", "global()", f"projectcalico.org/name == '{rng.choice(NAMESPACES)}'")
                )  # fmt: skip
            case _:
                accounts: Document = {}
                if chance(rng, 0.6):
                    accounts["names"] = few(rng, ACCOUNTS, 2)
                if not accounts or chance(rng, 0.4):
                    accounts["selector"] = selector(rng, ROLES, deep=0).replace("all()", "has(role)")
                entity["serviceAccounts"] = accounts


def _ports(rng: Random, entity: Document) -> None:
    if "services" in entity:
        return
    ports = few(rng, [*PORTS, *PORTS, *PORT_NAMES, *PORT_NAMES, *PORT_NAMES])
    if chance(rng, 0.7):
        entity["ports"] = ports
    if "ports" not in entity or chance(rng, 0.3):
        entity["notPorts"] = few(rng, [*PORTS, *PORTS, *PORT_NAMES, *PORT_NAMES, *PORT_NAMES])
