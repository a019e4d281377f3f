"""Short ways to write rows, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.host_endpoints import HOST_ENDPOINTS, HostEndpointRow
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.desired.policies import (
    POLICIES,
    PROFILES,
    Action,
    AppliedPolicies,
    EntityMatch,
    PolicyKey,
    PolicyRow,
    PortRange,
    ProfileRow,
    RuleRow,
    TierRow,
)
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta
from tortie.net.addresses import Address, Prefix
from tortie.verdict.packet import TCP, Packet
from tortie.verdict.state import State

A, B, C = (Address.parse(f"10.0.0.{number}") for number in (1, 2, 3))
A6, B6 = (Address.parse(f"fd00::{number}") for number in (1, 2))
CLIENT, SERVER = EndpointKey("shop", "client"), EndpointKey("shop", "server")
ALLOW, DENY, PASS, LOG = (RuleRow(action=action) for action in ("Allow", "Deny", "Pass", "Log"))


def packet(source: Address = A, destination: Address = B, port: int | None = 80, **others: Any) -> Packet:
    values: dict[str, Any] = {"protocol": TCP, "source_port": 40000, "destination_port": port, **others}
    return Packet(source, destination, **values)


def rule(action: Action = "Allow", **others: Any) -> RuleRow:
    return RuleRow(action=action, **others)


def ports(*numbers: int) -> EntityMatch:
    return EntityMatch(ports=tuple(PortRange(number, number) for number in numbers))


def numbered(rules: Iterable[RuleRow]) -> tuple[RuleRow, ...]:
    return tuple(replace(each, index=index) for index, each in enumerate(rules))


def key(name: str, namespace: str = "shop", kind: str = "NetworkPolicy") -> PolicyKey:
    return PolicyKey(kind, namespace, name)


def tier(*names: str, name: str = "default", default: str = "Deny") -> TierRow:
    return TierRow(
        name=name, default_action="Pass" if default == "Pass" else "Deny", policies=tuple(map(key, names))
    )


def policy(*ingress: RuleRow, egress: Iterable[RuleRow] = (), **others: Any) -> PolicyRow:
    values: dict[str, Any] = {"tier": "default", **others}
    return PolicyRow(ingress=numbered(ingress), egress=numbered(egress), **values)


def state(
    *,
    policies: Mapping[str, PolicyRow] | None = None,
    profiles: Mapping[str, ProfileRow] | None = None,
    endpoints: Mapping[EndpointKey, EndpointRow] | None = None,
    hosts: Mapping[str, HostEndpointRow] | None = None,
    sets: Mapping[str, Iterable[str]] | None = None,
    ports: Iterable[Member] = (),
    settings: SettingsRow | None = None,
) -> State:
    members = {
        Member(name, Prefix.parse(text)): PRESENT for name, texts in (sets or {}).items() for text in texts
    }
    members.update(dict.fromkeys(ports, PRESENT))
    named = {name: IPSetRow(meaning=f"meaning of {name}") for name in sets or {}}
    return State(
        [
            Delta(SETTINGS, {NODE: settings or SettingsRow()}),
            Delta(IPSETS, named),
            Delta(MEMBERS, members),
            Delta(PROFILES, profiles or {}),
            Delta(POLICIES, {key(name): row for name, row in (policies or {}).items()}),
            Delta(HOST_ENDPOINTS, hosts or {}),
            Delta(ENDPOINTS, endpoints or {}),
        ]
    )


def endpoint(address: Address = A, **others: Any) -> EndpointRow:
    return EndpointRow(interface="cali1", addresses=(address,), **others)


def applied(*tiers: TierRow, profiles: tuple[str, ...] = ()) -> AppliedPolicies:
    return AppliedPolicies(tiers=tiers, profiles=profiles)
