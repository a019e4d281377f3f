"""GlobalNetworkPolicy: who may talk with the endpoints of the whole cluster, hosts included (Calico: reference, resource
GlobalNetworkPolicy)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.network_policy import PolicySpec
from tortie.resources.resource import Kind

GLOBAL_NETWORK_POLICY = Kind(CALICO, "GlobalNetworkPolicy")


class GlobalNetworkPolicySpec(PolicySpec, frozen=True):
    """``do_not_track``, ``pre_dnat`` and ``apply_on_forward`` mean host endpoints."""

    namespace_selector: str = ""
    do_not_track: bool = False
    pre_dnat: bool = False
    apply_on_forward: bool = False


INFO = KindInfo(
    kind=GLOBAL_NETWORK_POLICY,
    plural="globalnetworkpolicies",
    spec=GlobalNetworkPolicySpec,
    aliases=("gnp", "gnps"),
    columns=(
        NAME,
        Column("TIER", lambda r: r.spec.tier),
        Column("ORDER", lambda r: r.spec.order, wide=True),
        Column("SELECTOR", lambda r: r.spec.selector, wide=True),
    ),
)
