"""GlobalNetworkPolicy: who may talk with the endpoints of the whole cluster, hosts included (Calico: reference, resource
GlobalNetworkPolicy)."""

from __future__ import annotations

from typing import Any

from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, KindInfo
from tortie.resources.network_policy import COLUMNS, PolicySpec, check_policy, normalise, tier_exists
from tortie.resources.resource import Kind, Resource
from tortie.resources.tier import TIER

GLOBAL_NETWORK_POLICY = Kind(CALICO, "GlobalNetworkPolicy")


class GlobalNetworkPolicySpec(PolicySpec, frozen=True):
    """``do_not_track``, ``pre_dnat`` and ``apply_on_forward`` mean host endpoints."""

    namespace_selector: str = ""
    do_not_track: bool = False
    pre_dnat: bool = False
    apply_on_forward: bool = False


def check_global_policy(found: Findings, spec: GlobalNetworkPolicySpec) -> None:
    """What holds for every global policy's spec."""
    check_policy(found, spec, namespaced=False)
    found.selector("spec.namespaceSelector", spec.namespace_selector, without_global=True)
    if spec.do_not_track and spec.pre_dnat:
        found.add("spec.preDNAT", "true", "stands beside spec.doNotTrack: a policy is one of them")
    if spec.pre_dnat and spec.egress:
        found.add("spec.egress", None, "is not possible with spec.preDNAT: such a policy is for ingress")
    if spec.pre_dnat and "Egress" in spec.types:
        found.add("spec.types", "Egress", "is not possible with spec.preDNAT: such a policy is for ingress")
    for field, value in (("doNotTrack", spec.do_not_track), ("preDNAT", spec.pre_dnat)):
        if value and not spec.apply_on_forward:
            found.add(f"spec.{field}", "true", "needs spec.applyOnForward: true")


def validate(policy: Resource[Any]) -> list[InvalidResource]:
    """The name, selectors, rules, and what applies to host endpoints alone."""
    found = Findings(policy)
    found.subdomain("metadata.name", policy.key.name)
    check_global_policy(found, policy.spec)
    return found.found


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    needs=(TIER,),
    among=tier_exists,
    checked=True,
    kind=GLOBAL_NETWORK_POLICY,
    plural="globalnetworkpolicies",
    spec=GlobalNetworkPolicySpec,
    aliases=("gnp", "gnps"),
    columns=COLUMNS,
)
