"""The rules that profiles and policies are made of: structure only, meaning comes with policy."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.resources.findings import Findings
from tortie.resources.spec import Spec


class ICMP(Spec, frozen=True):
    """An ICMP type, and a code or any."""

    type: int | None = None
    code: int | None = None


class ServiceAccountMatch(Spec, frozen=True):
    """Service accounts by name and by their labels."""

    names: tuple[str, ...] = ()
    selector: str = ""


class ServiceMatch(Spec, frozen=True):
    """The endpoints of a Kubernetes service."""

    name: str = ""
    namespace: str = ""


class EntityRule(Spec, frozen=True):
    """One side of a connection: all of what is set must hold. Ports are numbers, ranges ``a:b`` or names."""

    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()
    selector: str = ""
    not_selector: str = ""
    namespace_selector: str = ""
    services: ServiceMatch | None = None
    ports: tuple[int | str, ...] = ()
    not_ports: tuple[int | str, ...] = ()
    domains: tuple[str, ...] = ()
    service_accounts: ServiceAccountMatch | None = None


class Rule(Spec, frozen=True):
    """What a packet must match, and what then happens to it."""

    action: str = ""
    ip_version: int | None = None
    protocol: int | str | None = None
    not_protocol: int | str | None = None
    icmp: ICMP | None = None
    not_icmp: ICMP | None = msgspec.field(default=None, name="notICMP")
    source: EntityRule = EntityRule()
    destination: EntityRule = EntityRule()
    http: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


ACTIONS = ("Allow", "Deny", "Log", "Pass")


def check_rule(found: Findings, at: str, rule: Rule) -> None:
    """What can be said of one rule without knowing where it stands."""
    if found.required(f"{at}.action", rule.action):
        found.one_of(f"{at}.action", rule.action, ACTIONS)
    if rule.ip_version not in (None, 4, 6):
        found.add(f"{at}.ipVersion", rule.ip_version, "is not 4 or 6")
    for side, entity in (("source", rule.source), ("destination", rule.destination)):
        for field, nets in (("nets", entity.nets), ("notNets", entity.not_nets)):
            for index, net in enumerate(nets):
                found.prefix(f"{at}.{side}.{field}[{index}]", net, masked=False)
        for field, selector in (
            ("selector", entity.selector),
            ("notSelector", entity.not_selector),
            ("namespaceSelector", entity.namespace_selector),
        ):
            found.selector(f"{at}.{side}.{field}", selector)
