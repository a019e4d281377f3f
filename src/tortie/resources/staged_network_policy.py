"""StagedNetworkPolicy: a NetworkPolicy that is evaluated, counted and shown, and not enforced."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.network_policy import PolicySpec
from tortie.resources.resource import Kind
from tortie.resources.spec import written

STAGED_NETWORK_POLICY = Kind(CALICO, "StagedNetworkPolicy")


class StagedNetworkPolicySpec(PolicySpec, frozen=True):
    """``staged_action``: ``Set`` stages what the policy says, ``Delete`` its removal; ``Learn`` and ``Ignore`` are for tools."""

    staged_action: str = written("Set")


INFO = KindInfo(
    kind=STAGED_NETWORK_POLICY,
    plural="stagednetworkpolicies",
    spec=StagedNetworkPolicySpec,
    namespaced=True,
    aliases=("snp", "snps"),
    columns=(
        NAMESPACE,
        NAME,
        Column("TIER", lambda r: r.spec.tier),
        Column("ORDER", lambda r: r.spec.order, wide=True),
        Column("SELECTOR", lambda r: r.spec.selector, wide=True),
    ),
)
