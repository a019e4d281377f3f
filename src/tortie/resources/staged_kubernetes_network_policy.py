"""StagedKubernetesNetworkPolicy: a Kubernetes NetworkPolicy that is evaluated, counted and shown, and not enforced."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.kubernetes_network_policy import KubernetesNetworkPolicySpec
from tortie.resources.resource import Kind
from tortie.resources.spec import written

STAGED_KUBERNETES_NETWORK_POLICY = Kind(CALICO, "StagedKubernetesNetworkPolicy")


class StagedKubernetesNetworkPolicySpec(KubernetesNetworkPolicySpec, frozen=True):
    """``staged_action``: ``Set`` stages what the policy says, ``Delete`` its removal; ``Learn`` and ``Ignore`` are for tools."""

    staged_action: str = written("Set")


INFO = KindInfo(
    kind=STAGED_KUBERNETES_NETWORK_POLICY,
    plural="stagedkubernetesnetworkpolicies",
    spec=StagedKubernetesNetworkPolicySpec,
    namespaced=True,
    aliases=("sknp", "sknps"),
    columns=(NAMESPACE, NAME, Column("TYPES", lambda r: r.spec.policy_types, wide=True)),
)
