"""NetworkPolicy: who may talk with the pods of its namespace (Calico: reference, resource NetworkPolicy)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.rules import Rule
from tortie.resources.spec import Spec, written

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


INFO = KindInfo(
    kind=NETWORK_POLICY,
    plural="networkpolicies",
    spec=NetworkPolicySpec,
    namespaced=True,
    aliases=("np", "nps", "policy", "policies", "pol", "pols"),
    columns=(
        NAMESPACE,
        NAME,
        Column("TIER", lambda r: r.spec.tier),
        Column("ORDER", lambda r: r.spec.order, wide=True),
        Column("SELECTOR", lambda r: r.spec.selector, wide=True),
    ),
)
