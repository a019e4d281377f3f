"""NetworkPolicy: Kubernetes' own, in the group ``networking.k8s.io``; on the command line ``kubernetesnetworkpolicy``."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec, written

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

    pod_selector: LabelSelector = written(LabelSelector())
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    policy_types: tuple[str, ...] = ()


OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
PROTOCOLS = ("TCP", "UDP", "SCTP")
TYPES = ("Ingress", "Egress")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")


def policy_types(spec: KubernetesNetworkPolicySpec) -> tuple[str, ...]:
    """The directions in which pods are isolated: without ``policyTypes`` ingress, and egress when there are rules for it."""
    if spec.policy_types:
        return spec.policy_types
    return TYPES if spec.egress else ("Ingress",)


def check_kubernetes_policy(found: Findings, spec: KubernetesNetworkPolicySpec) -> None:
    """What Kubernetes' API server would refuse."""
    check_selector(found, "spec.podSelector", spec.pod_selector)
    for index, each in enumerate(spec.policy_types):
        found.one_of(f"spec.policyTypes[{index}]", each or "(nothing)", TYPES)
    found.no_repeats("spec.policyTypes", spec.policy_types)
    for index, ingress in enumerate(spec.ingress):
        _rule(found, f"spec.ingress[{index}]", "from", ingress)
    for index, egress in enumerate(spec.egress):
        _rule(found, f"spec.egress[{index}]", "to", egress)


def _rule(found: Findings, at: str, peers: str, rule: IngressRule | EgressRule) -> None:
    for index, peer in enumerate(rule.peers):
        _peer(found, f"{at}.{peers}[{index}]", peer)
    for index, port in enumerate(rule.ports):
        _port(found, f"{at}.ports[{index}]", port)


def check_selector(found: Findings, at: str, selector: LabelSelector) -> None:
    """Names and values of labels, and operators that have what they need."""
    for label, value in selector.match_labels.items():
        found.label_name(f"{at}.matchLabels", label)
        found.label_value(f'{at}.matchLabels["{label}"]', value)
    for index, each in enumerate(selector.match_expressions):
        place = f"{at}.matchExpressions[{index}]"
        if found.required(f"{place}.key", each.key):
            found.label_name(f"{place}.key", each.key)
        if found.required(f"{place}.operator", each.operator):
            found.one_of(f"{place}.operator", each.operator, OPERATORS)
        if each.operator in ("In", "NotIn"):
            found.required(f"{place}.values", each.values)
        elif each.operator in OPERATORS and each.values:
            found.add(f"{place}.values", None, f"is not possible with the operator {each.operator}")
        for number, value in enumerate(each.values):
            found.label_value(f"{place}.values[{number}]", value)


def _peer(found: Findings, at: str, peer: PolicyPeer) -> None:
    for field, selector in (
        ("podSelector", peer.pod_selector),
        ("namespaceSelector", peer.namespace_selector),
    ):
        if selector is not None:
            check_selector(found, f"{at}.{field}", selector)
            if peer.ip_block is not None:
                found.add(f"{at}.{field}", None, "stands beside ipBlock, which it cannot be")
    block = peer.ip_block
    if block is None:
        if peer.pod_selector is None and peer.namespace_selector is None:
            found.add(at, None, "is nobody: it needs podSelector, namespaceSelector or ipBlock")
        return
    cidr = found.prefix(f"{at}.ipBlock.cidr", block.cidr, masked=False)
    for index, each in enumerate(block.excluded):
        place = f"{at}.ipBlock.except[{index}]"
        inside = found.prefix(place, each, masked=False)
        if cidr is not None and inside is not None and (inside == cidr or not cidr.contains(inside)):
            found.add(place, each, f"is not a part of {block.cidr}")


def _port(found: Findings, at: str, port: PolicyPort) -> None:
    found.one_of(f"{at}.protocol", port.protocol, PROTOCOLS)
    if isinstance(port.port, int):
        found.port(f"{at}.port", port.port)
    elif port.port is not None and not _PORT_NAME.fullmatch(port.port):
        found.add(
            f"{at}.port",
            port.port or "(nothing)",
            "is neither a number nor the name of a port: at most 15 small letters, digits and '-'",
        )
    if port.end_port is None:
        return
    found.port(f"{at}.endPort", port.end_port)
    if not isinstance(port.port, int):
        found.add(f"{at}.endPort", None, "needs a port that is a number")
    elif port.end_port < port.port:
        found.add(f"{at}.endPort", port.end_port, f"comes before the port, {port.port}")


def validate(policy: Resource[Any]) -> list[InvalidResource]:
    """Names, selectors, peers and ports."""
    found = Findings(policy)
    found.subdomain("metadata.name", policy.key.name)
    found.required("metadata.namespace", policy.key.within)
    found.dns_label("metadata.namespace", policy.key.within)
    check_kubernetes_policy(found, policy.spec)
    return found.found


def normalise(policy: Resource[Any]) -> Resource[Any]:
    """With its types, as Kubernetes' API server fills them in."""
    spec: KubernetesNetworkPolicySpec = policy.spec
    return policy.with_spec(msgspec.structs.replace(spec, policy_types=policy_types(spec)))


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    checked=True,
    kind=KUBERNETES_NETWORK_POLICY,
    version="v1",
    plural="networkpolicies",
    spec=KubernetesNetworkPolicySpec,
    namespaced=True,
    aliases=("kubernetesnetworkpolicies", "knp", "knps", "netpol"),
    columns=(NAMESPACE, NAME, Column("TYPES", lambda r: r.spec.policy_types, wide=True)),
)
