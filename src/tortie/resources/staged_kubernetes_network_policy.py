"""StagedKubernetesNetworkPolicy: a Kubernetes NetworkPolicy that is evaluated, counted and shown, and not enforced."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.kubernetes_network_policy import (
    KubernetesNetworkPolicySpec,
    check_kubernetes_policy,
    policy_types,
)
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import written
from tortie.resources.staged_network_policy import DELETE, check_staged

STAGED_KUBERNETES_NETWORK_POLICY = Kind(CALICO, "StagedKubernetesNetworkPolicy")


class StagedKubernetesNetworkPolicySpec(KubernetesNetworkPolicySpec, frozen=True):
    """``staged_action``: ``Set`` stages what the policy says, ``Delete`` its removal; ``Learn`` and ``Ignore`` are for tools."""

    staged_action: str = written("Set")


def validate(policy: Resource[Any]) -> list[InvalidResource]:
    """As of a Kubernetes NetworkPolicy, and the staged action."""
    found = Findings(policy)
    found.subdomain("metadata.name", policy.key.name)
    found.required("metadata.namespace", policy.key.within)
    found.dns_label("metadata.namespace", policy.key.within)
    if check_staged(found, policy.spec):
        check_kubernetes_policy(found, policy.spec)
    return found.found


def normalise(policy: Resource[Any]) -> Resource[Any]:
    """The defaults that Kubernetes fills in; a staged removal has no types."""
    spec: StagedKubernetesNetworkPolicySpec = policy.spec
    if not spec.staged_action:
        spec = msgspec.structs.replace(spec, staged_action="Set")
    if spec.staged_action != DELETE:
        spec = msgspec.structs.replace(spec, policy_types=policy_types(spec))
    return policy.with_spec(spec)


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    checked=True,
    kind=STAGED_KUBERNETES_NETWORK_POLICY,
    plural="stagedkubernetesnetworkpolicies",
    spec=StagedKubernetesNetworkPolicySpec,
    namespaced=True,
    aliases=("sknp", "sknps"),
    columns=(NAMESPACE, NAME, Column("TYPES", lambda r: r.spec.policy_types, wide=True)),
)
