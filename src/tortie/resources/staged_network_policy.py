"""StagedNetworkPolicy: a NetworkPolicy that is evaluated, counted and shown, and not enforced."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAMESPACE, KindInfo
from tortie.resources.network_policy import COLUMNS, PolicySpec, canonical, check_policy, tier_exists
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec, written
from tortie.resources.tier import DEFAULT, TIER

STAGED_NETWORK_POLICY = Kind(CALICO, "StagedNetworkPolicy")
ACTIONS = ("Set", "Delete", "Learn", "Ignore")
DELETE = "Delete"


class StagedNetworkPolicySpec(PolicySpec, frozen=True):
    """``staged_action``: ``Set`` stages what the policy says, ``Delete`` its removal; ``Learn`` and ``Ignore`` are for tools."""

    staged_action: str = written("Set")


def check_staged(found: Findings, spec: Any) -> bool:
    """The staged action. Whether there is more to check: one that stages a removal holds nothing but its tier."""
    found.one_of("spec.stagedAction", spec.staged_action or "(nothing)", ACTIONS)
    if spec.staged_action != DELETE:
        return True
    bare: Spec = type(spec)(staged_action=DELETE)
    for name, field in zip(spec.__struct_encode_fields__, spec.__struct_fields__, strict=True):
        if field != "tier" and getattr(spec, field) != getattr(bare, field):
            found.add(
                f"spec.{name}", None, "is not possible with stagedAction Delete, which needs the tier alone"
            )
    return False


def validate(policy: Resource[Any]) -> list[InvalidResource]:
    """As of a NetworkPolicy, and the staged action."""
    found = Findings(policy)
    found.subdomain("metadata.name", policy.key.name)
    found.required("metadata.namespace", policy.key.within)
    found.dns_label("metadata.namespace", policy.key.within)
    if check_staged(found, policy.spec):
        check_policy(found, policy.spec, namespaced=True)
    return found.found


def normalise(policy: Resource[Any]) -> Resource[Any]:
    """The defaults that Calico fills in; a staged removal has no types."""
    spec: Any = policy.spec
    if not spec.staged_action:
        spec = msgspec.structs.replace(spec, staged_action="Set")
    if spec.staged_action == DELETE:
        return policy.with_spec(msgspec.structs.replace(spec, tier=spec.tier or DEFAULT))
    return policy.with_spec(canonical(spec))


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    needs=(TIER,),
    among=tier_exists,
    checked=True,
    kind=STAGED_NETWORK_POLICY,
    plural="stagednetworkpolicies",
    spec=StagedNetworkPolicySpec,
    namespaced=True,
    aliases=("snp", "snps"),
    columns=(NAMESPACE, *COLUMNS),
)
