"""StagedGlobalNetworkPolicy: a GlobalNetworkPolicy that is evaluated, counted and shown, and not enforced."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.global_network_policy import GlobalNetworkPolicySpec
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import written

STAGED_GLOBAL_NETWORK_POLICY = Kind(CALICO, "StagedGlobalNetworkPolicy")


class StagedGlobalNetworkPolicySpec(GlobalNetworkPolicySpec, frozen=True):
    """``staged_action``: ``Set`` stages what the policy says, ``Delete`` its removal; ``Learn`` and ``Ignore`` are for tools."""

    staged_action: str = written("Set")


INFO = KindInfo(
    kind=STAGED_GLOBAL_NETWORK_POLICY,
    plural="stagedglobalnetworkpolicies",
    spec=StagedGlobalNetworkPolicySpec,
    aliases=("sgnp", "sgnps"),
    columns=(
        NAME,
        Column("TIER", lambda r: r.spec.tier),
        Column("ORDER", lambda r: r.spec.order, wide=True),
        Column("SELECTOR", lambda r: r.spec.selector, wide=True),
    ),
)
