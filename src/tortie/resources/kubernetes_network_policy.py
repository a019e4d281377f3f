"""NetworkPolicy: Kubernetes' own, in the group ``networking.k8s.io``; on the command line ``kubernetesnetworkpolicy``."""

from __future__ import annotations

import msgspec

from tortie.columns import Column
from tortie.resources.kind_info import NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

KUBERNETES_NETWORK_POLICY = Kind("networking.k8s.io", "NetworkPolicy")


class Requirement(Spec, frozen=True):
    """One expression over a label. ``operator`` is ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Spec, frozen=True):
    """All of it must hold; an empty one selects everything."""

    match_labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    match_expressions: tuple[Requirement, ...] = ()


class IPBlock(Spec, frozen=True):
    """A network, without some of its parts."""

    cidr: str = ""
    excluded: tuple[str, ...] = msgspec.field(default=(), name="except")


class PolicyPeer(Spec, frozen=True):
    """Pods by their labels and those of their namespace, or a network."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None


class PolicyPort(Spec, frozen=True):
    """A port by number, range (up to ``end_port``) or name; none is every port of the protocol."""

    protocol: str | None = None
    port: int | str | None = None
    end_port: int | None = None


class IngressRule(Spec, frozen=True):
    """Who may come in, and to which ports; an empty list is anyone and anything."""

    peers: tuple[PolicyPeer, ...] = msgspec.field(default=(), name="from")
    ports: tuple[PolicyPort, ...] = ()


class EgressRule(Spec, frozen=True):
    """Where one may go out to; an empty list is anywhere and anything."""

    peers: tuple[PolicyPeer, ...] = msgspec.field(default=(), name="to")
    ports: tuple[PolicyPort, ...] = ()


class KubernetesNetworkPolicySpec(Spec, frozen=True):
    """What is selected is isolated in the ``policy_types``; the rules say what is allowed all the same."""

    pod_selector: LabelSelector = LabelSelector()
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    policy_types: tuple[str, ...] = ()


INFO = KindInfo(
    kind=KUBERNETES_NETWORK_POLICY,
    version="v1",
    plural="networkpolicies",
    called="KubernetesNetworkPolicy",
    spec=KubernetesNetworkPolicySpec,
    namespaced=True,
    open=True,
    aliases=("kubernetesnetworkpolicies", "knp", "knps", "networkpolicies.networking.k8s.io"),
    columns=(NAMESPACE, NAME, Column("TYPES", lambda r: r.spec.policy_types, wide=True)),
)
