"""Kubernetes' documents as the kinds that everything else works with: a NetworkPolicy as Calico's, Endpoints as EndpointSlices.

Selectors come out as Calico's own conversion writes them, so that equal ones have equal ids. What is given here is valid, or made
so by `readable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tortie.net.addresses import Address, Version
from tortie.resources.endpoint_slice import (
    ENDPOINT_SLICE,
    SERVICE_NAME,
    Endpoint,
    EndpointConditions,
    EndpointSliceSpec,
    SlicePort,
)
from tortie.resources.endpoints import EndpointAddress, EndpointsSpec
from tortie.resources.findings import canonical_net
from tortie.resources.kubernetes_network_policy import (
    TYPES,
    EgressRule,
    IngressRule,
    KubernetesNetworkPolicySpec,
    LabelSelector,
    PolicyPeer,
    PolicyPort,
    Requirement,
    policy_types,
)
from tortie.resources.network_policy import NetworkPolicySpec
from tortie.resources.resource import Metadata, Resource, ResourceKey
from tortie.resources.rules import EntityRule, Rule

ORDER = 1000.0
"""Where Kubernetes' policies stand among Calico's of the tier ``default``."""
ORCHESTRATOR = "projectcalico.org/orchestrator == 'k8s'"
ALL_NAMESPACES = "all()"

Side = Literal["source", "destination"]


class Converted(NamedTuple):
    """A policy as Calico's, and for each of its rules the number of the Kubernetes rule it came from, counted from 0: one rule
    of Kubernetes becomes one for each pair of a protocol and a peer."""

    spec: NetworkPolicySpec
    ingress: tuple[int, ...]
    egress: tuple[int, ...]


def convert(spec: KubernetesNetworkPolicySpec) -> Converted:
    """The policy as Calico's, also of a staged one."""
    ingress = [
        (number, rule) for number, each in enumerate(spec.ingress) for rule in _rules(each, peers="source")
    ]
    egress = [
        (number, rule)
        for number, each in enumerate(spec.egress)
        for rule in _rules(each, peers="destination")
    ]
    return Converted(
        NetworkPolicySpec(
            order=ORDER,
            selector=pod_selector(spec.pod_selector),
            types=tuple(each for each in TYPES if each in policy_types(spec)),
            ingress=tuple(rule for _, rule in ingress),
            egress=tuple(rule for _, rule in egress),
        ),
        tuple(number for number, _ in ingress),
        tuple(number for number, _ in egress),
    )


def pod_selector(selector: LabelSelector | None) -> str:
    """Pods by their labels, and nothing that is no pod; of every pod without one."""
    terms = [] if selector is None else _terms(selector)
    return " && ".join([ORCHESTRATOR, *terms])


def namespace_selector(selector: LabelSelector | None) -> str:
    """Namespaces by their labels; empty (the policy's own) without one, all for an empty one."""
    if selector is None:
        return ""
    return " && ".join(_terms(selector)) or ALL_NAMESPACES


def _terms(selector: LabelSelector) -> list[str]:
    labels = [f"{label} == '{value}'" for label, value in sorted(selector.match_labels.items())]
    return labels + [_term(each) for each in selector.match_expressions]


def _term(requirement: Requirement) -> str:
    values = ", ".join(f"'{value}'" for value in requirement.values)
    match requirement.operator:
        case "In":
            return f"{requirement.key} in {{ {values} }}"
        case "NotIn":
            return f"{requirement.key} not in {{ {values} }}"
        case "Exists":
            return f"has({requirement.key})"
        case _:
            return f"! has({requirement.key})"


def _rules(rule: IngressRule | EgressRule, *, peers: Side) -> Iterable[Rule]:
    """One rule for each protocol and peer. No ports are every protocol, no peers are everyone."""
    entities = [_entity(peer) for peer in rule.peers] or [EntityRule()]
    for protocol, ports in _ports(rule.ports).items():
        for entity in entities:
            if peers == "source":
                yield Rule(
                    action="Allow", protocol=protocol, source=entity, destination=EntityRule(ports=ports)
                )
            else:
                there = EntityRule(
                    nets=entity.nets,
                    not_nets=entity.not_nets,
                    selector=entity.selector,
                    namespace_selector=entity.namespace_selector,
                    ports=ports,
                )
                yield Rule(action="Allow", protocol=protocol, destination=there)


def _ports(ports: Sequence[PolicyPort]) -> Mapping[str | None, tuple[int | str, ...]]:
    """Ports by protocol, in the order of the protocols' names; none for all of a protocol's."""
    if not ports:
        return {None: ()}
    found: dict[str, list[int | str]] = {}
    whole: set[str] = set()
    for each in ports:
        protocol = each.protocol or "TCP"
        into = found.setdefault(protocol, [])
        if each.port is None:
            whole.add(protocol)
        elif each.end_port is not None and each.end_port != each.port:
            into.append(f"{each.port}:{each.end_port}")
        else:
            into.append(each.port)
    return {
        protocol: () if protocol in whole else tuple(dict.fromkeys(found[protocol]))
        for protocol in sorted(found)
    }


def _entity(peer: PolicyPeer) -> EntityRule:
    if peer.ip_block is not None:
        return EntityRule(
            nets=(canonical_net(peer.ip_block.cidr),),
            not_nets=tuple(canonical_net(each) for each in peer.ip_block.excluded),
        )
    return EntityRule(
        selector=pod_selector(peer.pod_selector),
        namespace_selector=namespace_selector(peer.namespace_selector),
    )


def slices_of(endpoints: Resource[Any]) -> tuple[Resource[EndpointSliceSpec], ...]:
    """Endpoints as EndpointSlices of the service that has its name: one for each subset and IP version."""
    spec: EndpointsSpec = endpoints.spec
    name, namespace = endpoints.key.name, endpoints.key.within
    found: list[Resource[EndpointSliceSpec]] = []
    for number, subset in enumerate(spec.subsets):
        ports = tuple(
            SlicePort(name=each.name, protocol=each.protocol, port=each.port, app_protocol=each.app_protocol)
            for each in subset.ports
        )
        every = [(each, True) for each in subset.addresses] + [
            (each, False) for each in subset.not_ready_addresses
        ]
        versions: tuple[Version, ...] = (4, 6)
        for version in versions:
            members = tuple(_endpoint(each, ready) for each, ready in every if _version(each.ip) == version)
            if members:
                found.append(
                    Resource(
                        key=ResourceKey(ENDPOINT_SLICE, f"{name}-{number}-ipv{version}", namespace),
                        metadata=Metadata(labels={SERVICE_NAME: name}),
                        spec=EndpointSliceSpec(address_type=f"IPv{version}", endpoints=members, ports=ports),
                    )
                )
    return tuple(found)


def _endpoint(address: EndpointAddress, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=(address.ip,),
        conditions=EndpointConditions(ready=ready, serving=ready, terminating=False),
        hostname=address.hostname or None,
        node_name=address.node_name,
        target_ref=address.target_ref,
    )


def _version(text: str) -> int:
    """4 or 6, or 0 for what is no address."""
    try:
        return Address.parse(text).version
    except ValueError:
        return 0
