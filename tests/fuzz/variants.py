"""Broken variants of the engine, kept so that the fuzz is known to find them. Each gets one thing wrong, as a programmer might:
in the rows that the calculation makes, in the documents on their way into it, or in how a rule is matched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.fuzz.compare import MakeEngine
from tests.fuzz.engine import Deltas, TortieEngine, Twist
from tests.fuzz.hosts import HostEngine
from tests.oracle.documents import Document, listed
from tortie.desired.endpoints import ENDPOINTS
from tortie.desired.host_endpoints import HOST_ENDPOINTS, NOTHING_APPLIED, HostEndpointRow
from tortie.desired.policies import POLICIES, PROFILES, AppliedPolicies, EntityMatch, RuleRow, TierRow
from tortie.desired.settings import FAILSAFE_INBOUND, FAILSAFE_OUTBOUND, SETTINGS
from tortie.desired.table import Delta, Table
from tortie.net.addresses import Prefix

Change = Callable[[Any], Any]


def in_rules(change: Callable[[RuleRow], RuleRow]) -> MakeEngine:
    """Every rule of every policy and profile is changed."""

    def row(each: Any) -> Any:
        ingress, egress = (tuple(change(rule) for rule in each.rules(way)) for way in ("ingress", "egress"))
        return replace(each, ingress=ingress, egress=egress)

    return in_rows({POLICIES: row, PROFILES: row})


def in_entities(change: Callable[[EntityMatch], EntityMatch]) -> MakeEngine:
    """Both sides of every rule are changed."""
    return in_rules(
        lambda rule: replace(rule, source=change(rule.source), destination=change(rule.destination))
    )


def in_applied(change: Callable[[AppliedPolicies], AppliedPolicies]) -> MakeEngine:
    """What holds for each endpoint is changed."""
    return in_rows(
        {ENDPOINTS: lambda row: replace(row, ingress=change(row.ingress), egress=change(row.egress))}
    )


def in_tiers(change: Callable[[TierRow], TierRow]) -> MakeEngine:
    return in_applied(lambda applied: replace(applied, tiers=tuple(map(change, applied.tiers))))


def in_rows(changes: Mapping[Table[Any, Any], Change]) -> MakeEngine:
    """Rows of these tables are changed."""
    twist = twisted(changes)
    return lambda documents: TortieEngine(documents, twist)


def twisted(changes: Mapping[Table[Any, Any], Change]) -> Twist:
    """Deltas with the rows of these tables changed."""
    by_name = {table.name: change for table, change in changes.items()}

    def twist(deltas: Deltas) -> Deltas:
        return [
            Delta(
                delta.table,
                {key: by_name[delta.table.name](row) for key, row in delta.put.items()},
                delta.gone,
            )
            if delta.table.name in by_name
            else delta
            for delta in deltas
        ]

    return twist


def in_guards(change: Callable[[HostEndpointRow], HostEndpointRow]) -> MakeEngine:
    """What holds for each HostEndpoint is changed."""
    twist = twisted({HOST_ENDPOINTS: change})
    return lambda documents: HostEngine(documents, twist)


def in_settings(**changes: Any) -> MakeEngine:
    twist = twisted({SETTINGS: lambda row: replace(row, **changes)})
    return lambda documents: HostEngine(documents, twist)


def in_specs(change: Callable[[Document], None], *kinds: str) -> MakeEngine:
    """The specs of these kinds are read wrongly."""

    def make(documents: Sequence[Document]) -> TortieEngine:
        documents = copy.deepcopy(list(documents))
        for each in documents:
            if each["kind"] in kinds and each["apiVersion"] != "networking.k8s.io/v1":
                change(each["spec"])
        return TortieEngine(documents)

    return make


POLICY_KINDS = ("NetworkPolicy", "GlobalNetworkPolicy")


def _no_types(spec: Document) -> None:
    """All types, whatever is written."""
    spec["types"] = ["Ingress", "Egress"]


def _both_protocols(spec: Document) -> None:
    """A named port is one of UDP, too, if it is one of TCP."""
    ports = listed(spec, "ports")
    ports += [{**port, "protocol": "UDP"} for port in ports if port["protocol"] == "TCP"]


def _everywhere(spec: Document) -> None:
    """Selectors of a namespace's policy reach into all namespaces."""
    for entity in _entities(spec):
        if {"selector", "notSelector", "serviceAccounts"} & entity.keys():
            entity.setdefault("namespaceSelector", "all()")


def _present(spec: Document) -> None:
    """``!=`` is false where the label is absent."""
    for entity in _entities(spec):
        for field in ("selector", "notSelector"):
            words = entity.get(field, "").split(" ")
            if len(words) == 3 and words[1] == "!=":
                entity[field] = f"has({words[0]}) && {entity[field]}"


def _entities(spec: Document) -> list[Document]:
    rules: list[Document] = listed(spec, "ingress") + listed(spec, "egress")
    return [rule[side] for rule in rules for side in ("source", "destination") if side in rule]


def _version_blind(entity: EntityMatch) -> EntityMatch:
    """Nets of one version do not restrict the other."""
    versions = {prefix.version for prefix in entity.nets or ()}
    if len(versions) != 1:
        return entity
    other = Prefix.parse("0.0.0.0/0" if versions == {6} else "::/0")
    return replace(entity, nets=(*(entity.nets or ()), other))


def _one_less(entity: EntityMatch) -> EntityMatch:
    """A range's last port does not belong to it."""
    ports = tuple(each._replace(last=max(each.first, each.last - 1)) for each in entity.ports)
    return replace(entity, ports=ports)


def _unstage(row: Any) -> Any:
    return replace(row, staged=False)


def _swapped(one: str, other: str) -> MakeEngine:
    """What is said for one place of the way is taken for another."""
    return in_guards(lambda row: replace(row, **{one: getattr(row, other), other: getattr(row, one)}))


HOST_VARIANTS: Mapping[str, MakeEngine] = {
    "what is forwarded is not asked about": in_guards(
        lambda row: replace(row, forward_ingress=NOTHING_APPLIED, forward_egress=NOTHING_APPLIED)
    ),
    "every policy applies on forward": in_guards(lambda row: replace(row, forward_ingress=row.ingress)),
    "preDNAT policy comes before untracked": _swapped("pre_dnat", "untracked_ingress"),
    "untracked policy of one direction is the other's": _swapped("untracked_ingress", "untracked_egress"),
    "profiles of HostEndpoints are ignored": in_guards(
        lambda row: replace(
            row, ingress=replace(row.ingress, profiles=()), egress=replace(row.egress, profiles=())
        )
    ),
    "there are no inbound fail-safe ports": in_settings(failsafe_inbound=()),
    "fail-safe ports are the default ones": in_settings(
        failsafe_inbound=FAILSAFE_INBOUND, failsafe_outbound=FAILSAFE_OUTBOUND
    ),
    "one for all interfaces is one like others": in_guards(
        lambda row: replace(row, interface="all" if row.interface == "*" else row.interface)
    ),
    "a pod may always speak to its node": in_settings(endpoint_to_host_action="Return"),
}


VARIANTS: Mapping[str, MakeEngine] = {
    "Pass allows": in_rules(lambda rule: replace(rule, action="Allow") if rule.action == "Pass" else rule),
    "Log ends with allow": in_rules(
        lambda rule: replace(rule, action="Allow") if rule.action == "Log" else rule
    ),
    "every tier denies at its end": in_tiers(lambda tier: replace(tier, default_action="Deny")),
    "every tier passes at its end": in_tiers(lambda tier: replace(tier, default_action="Pass")),
    "policies in the opposite order": in_tiers(lambda tier: replace(tier, policies=tier.policies[::-1])),
    "tiers in the opposite order": in_applied(lambda applied: replace(applied, tiers=applied.tiers[::-1])),
    "profiles in the opposite order": in_applied(
        lambda applied: replace(applied, profiles=applied.profiles[::-1])
    ),
    "staged policies are enforced": in_rows({POLICIES: _unstage}),
    "notPorts are ignored": in_entities(lambda entity: replace(entity, not_ports=(), not_named_ports=())),
    "named notPorts are ignored": in_entities(lambda entity: replace(entity, not_named_ports=())),
    "notNets are ignored": in_entities(lambda entity: replace(entity, not_nets=())),
    "notSelector is ignored": in_entities(lambda entity: replace(entity, not_sets=())),
    "a range's last port is outside": in_entities(_one_less),
    "nets of one IP version do not restrict the other": in_entities(_version_blind),
    "the ICMP code is ignored": in_rules(
        lambda rule: replace(rule, icmp=rule.icmp._replace(code=None)) if rule.icmp else rule
    ),
    "notICMP is ignored": in_rules(lambda rule: replace(rule, not_icmp=None)),
    "notProtocol is ignored": in_rules(lambda rule: replace(rule, not_protocol=None)),
    "ipVersion is ignored": in_rules(lambda rule: replace(rule, ip_version=None)),
    "named ports of TCP count for UDP": in_specs(_both_protocols, "WorkloadEndpoint"),
    "types are ignored": in_specs(_no_types, *POLICY_KINDS),
    "the namespace is not added to selectors": in_specs(_everywhere, "NetworkPolicy"),
    "!= is false without the label": in_specs(_present, *POLICY_KINDS),
}
