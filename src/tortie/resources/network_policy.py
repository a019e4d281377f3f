"""NetworkPolicy: who may talk with the pods of its namespace (Calico: reference, resource NetworkPolicy)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.rules import Rule, canonical_rules, check_rules
from tortie.resources.spec import Spec, written
from tortie.resources.tier import BUILT_IN, DEFAULT, TIER, order_text

NETWORK_POLICY = Kind(CALICO, "NetworkPolicy")


class PolicySpec(Spec, frozen=True):
    """What every policy has. ``order`` None comes last; empty ``types`` are derived from the rules."""

    tier: str = written("default")
    order: float | None = None
    selector: str = ""
    service_account_selector: str = ""
    types: tuple[str, ...] = ()
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    performance_hints: tuple[str, ...] = ()


class NetworkPolicySpec(PolicySpec, frozen=True):
    """It selects endpoints of its own namespace alone."""


TYPES = ("Ingress", "Egress")
HINTS = ("AssumeNeededOnEveryNode",)


def check_policy(found: Findings, spec: PolicySpec, *, namespaced: bool) -> None:
    """What holds for every policy's spec."""
    found.dns_label("spec.tier", spec.tier)
    found.number("spec.order", spec.order)
    found.selector("spec.selector", spec.selector, without_global=True)
    found.selector("spec.serviceAccountSelector", spec.service_account_selector, without_global=True)
    for index, each in enumerate(spec.types):
        found.one_of(f"spec.types[{index}]", each or "(nothing)", TYPES)
    found.no_repeats("spec.types", spec.types)
    for index, hint in enumerate(spec.performance_hints):
        found.one_of(f"spec.performanceHints[{index}]", hint or "(nothing)", HINTS)
    check_rules(found, spec.ingress, spec.egress, namespaced=namespaced)


def default_types(spec: PolicySpec) -> tuple[str, ...]:
    """The directions that a policy is for when it does not say: those of its rules, ingress when it has none."""
    if spec.types:
        return spec.types
    if not spec.egress:
        return ("Ingress",)
    return TYPES if spec.ingress else ("Egress",)


def canonical(spec: PolicySpec) -> PolicySpec:
    """With its tier and types, and its rules as Calico writes them."""
    return msgspec.structs.replace(
        spec,
        tier=spec.tier or DEFAULT,
        types=default_types(spec),
        ingress=canonical_rules(spec.ingress),
        egress=canonical_rules(spec.egress),
    )


def validate(policy: Resource[Any]) -> list[InvalidResource]:
    """Names, selectors and rules."""
    found = Findings(policy)
    found.subdomain("metadata.name", policy.key.name)
    found.required("metadata.namespace", policy.key.within)
    found.dns_label("metadata.namespace", policy.key.within)
    check_policy(found, policy.spec, namespaced=True)
    return found.found


def normalise(policy: Resource[Any]) -> Resource[Any]:
    """The defaults that Calico fills in."""
    return policy.with_spec(canonical(policy.spec))


def tier_exists(policy: Resource[Any], tiers: Sequence[Resource[Any]]) -> list[InvalidResource]:
    """A policy is in a tier that there is, or in one that is built in."""
    tier: str = policy.spec.tier
    if not tier or tier in BUILT_IN or any(each.key.name == tier for each in tiers if each.key.kind == TIER):
        return []
    rule = "is a Tier that does not exist: apply it first, or together with this"
    return [InvalidResource("spec.tier", tier, rule, str(policy.key), policy.place("spec.tier"))]


COLUMNS: tuple[Column[Resource[Any]], ...] = (
    NAME,
    Column("TIER", lambda r: r.spec.tier),
    Column("ORDER", lambda r: order_text(r.spec.order), wide=True),
    Column("SELECTOR", lambda r: r.spec.selector, wide=True),
)
"""Of Calico's policies of every kind, beside their namespace."""

INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    needs=(TIER,),
    among=tier_exists,
    checked=True,
    kind=NETWORK_POLICY,
    plural="networkpolicies",
    spec=NetworkPolicySpec,
    namespaced=True,
    aliases=("np", "nps", "policy", "policies", "pol", "pols"),
    columns=(NAMESPACE, *COLUMNS),
)
