"""StagedGlobalNetworkPolicy: a GlobalNetworkPolicy that is evaluated, counted and shown, and not enforced."""

from __future__ import annotations

from typing import Any

from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.global_network_policy import GlobalNetworkPolicySpec, check_global_policy
from tortie.resources.kind_info import CALICO, KindInfo
from tortie.resources.network_policy import COLUMNS, tier_exists
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import written
from tortie.resources.staged_network_policy import check_staged, normalise
from tortie.resources.tier import TIER

STAGED_GLOBAL_NETWORK_POLICY = Kind(CALICO, "StagedGlobalNetworkPolicy")


class StagedGlobalNetworkPolicySpec(GlobalNetworkPolicySpec, frozen=True):
    """``staged_action``: ``Set`` stages what the policy says, ``Delete`` its removal; ``Learn`` and ``Ignore`` are for tools."""

    staged_action: str = written("Set")


def validate(policy: Resource[Any]) -> list[InvalidResource]:
    """As of a GlobalNetworkPolicy, and the staged action."""
    found = Findings(policy)
    found.subdomain("metadata.name", policy.key.name)
    if check_staged(found, policy.spec):
        check_global_policy(found, policy.spec)
    return found.found


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    needs=(TIER,),
    among=tier_exists,
    checked=True,
    kind=STAGED_GLOBAL_NETWORK_POLICY,
    plural="stagedglobalnetworkpolicies",
    spec=StagedGlobalNetworkPolicySpec,
    aliases=("sgnp", "sgnps"),
    columns=COLUMNS,
)
