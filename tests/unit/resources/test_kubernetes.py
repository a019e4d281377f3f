"""Kubernetes' documents as our kinds: what Calico's conversion writes, and that a converted policy means what it meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tortie.net.addresses import Address, Prefix
from tortie.resources import codec, registry
from tortie.resources.endpoint_slice import service_of
from tortie.resources.endpoints import ENDPOINTS
from tortie.resources.kubernetes import convert, slices_of
from tortie.resources.kubernetes_network_policy import (
    KUBERNETES_NETWORK_POLICY,
    EgressRule,
    IngressRule,
    IPBlock,
    KubernetesNetworkPolicySpec,
    LabelSelector,
    PolicyPeer,
    PolicyPort,
    Requirement,
)
from tortie.resources.rules import EntityRule, Rule
from tortie.selector import parse


def policy(spec: dict[str, Any]) -> KubernetesNetworkPolicySpec:
    info = registry.info(KUBERNETES_NETWORK_POLICY)
    found: KubernetesNetworkPolicySpec = codec.decode(info, {"metadata": {"name": "p"}, "spec": spec}).spec
    return found


def test_the_policy_itself() -> None:
    converted = convert(policy({"podSelector": {"matchLabels": {"b": "2", "a": "1"}}})).spec
    assert converted.order == 1000.0
    assert converted.tier == "default"
    assert converted.selector == "projectcalico.org/orchestrator == 'k8s' && a == '1' && b == '2'"
    assert (converted.ingress, converted.egress, converted.types) == ((), (), ("Ingress",))
    assert convert(policy({"podSelector": {}})).spec.selector == "projectcalico.org/orchestrator == 'k8s'"


def test_types() -> None:
    assert convert(policy({"egress": [{}]})).spec.types == ("Ingress", "Egress")
    assert convert(policy({"egress": [{}], "policyTypes": ["Egress"]})).spec.types == ("Egress",)
    assert convert(policy({"policyTypes": ["Egress", "Ingress"]})).spec.types == ("Ingress", "Egress")
    assert convert(policy({"ingress": [{}], "policyTypes": ["Egress"]})).spec.types == ("Egress",)


def test_expressions() -> None:
    expressions = [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    converted = convert(policy({"podSelector": {"matchExpressions": expressions}})).spec.selector
    assert converted.partition(" && ")[2] == "a in { 'x', 'y' } && b not in { 'z' } && has(c) && ! has(d)"


def test_an_empty_rule_allows_everything() -> None:
    converted = convert(policy({"ingress": [{}], "egress": [{"to": [], "ports": []}]})).spec
    assert converted.ingress == converted.egress == (Rule(action="Allow"),)


def test_one_rule_for_each_protocol_and_peer() -> None:
    converted = convert(
        policy(
            {
                "ingress": [
                    {"ports": [{"port": 1}]},
                    {
                        "from": [
                            {"podSelector": {"matchLabels": {"a": "1"}}},
                            {"namespaceSelector": {}},
                            {"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.1.0.0/16"]}},
                        ],
                        "ports": [
                            {"port": 80},
                            {"port": "dns", "protocol": "UDP"},
                            {"port": 90, "endPort": 99},
                            {"protocol": "SCTP"},
                            {"protocol": "SCTP", "port": 5},
                        ],
                    },
                ]
            }
        )
    )
    k8s = "projectcalico.org/orchestrator == 'k8s'"
    peers = [
        EntityRule(selector=f"{k8s} && a == '1'"),
        EntityRule(selector=k8s, namespace_selector="all()"),
        EntityRule(nets=("10.0.0.0/8",), not_nets=("10.1.0.0/16",)),
    ]
    expected = [Rule(action="Allow", protocol="TCP", destination=EntityRule(ports=(1,)))]
    protocols: list[tuple[str, tuple[int | str, ...]]] = [
        ("SCTP", ()),
        ("TCP", (80, "90:99")),
        ("UDP", ("dns",)),
    ]
    for protocol, ports in protocols:
        for peer in peers:
            there = EntityRule(ports=ports)
            expected.append(Rule(action="Allow", protocol=protocol, source=peer, destination=there))
    assert list(converted.spec.ingress) == expected
    assert converted.ingress == (0, *[1] * 9)
    assert converted.egress == ()


def test_endpoints_become_slices() -> None:
    document = {
        "metadata": {"name": "web", "namespace": "team"},
        "subsets": [
            {
                "addresses": [{"ip": "10.0.0.1", "nodeName": "n"}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"port": 80, "name": "http"}, {"port": 53, "protocol": "UDP"}],
            },
            {"addresses": [{"ip": "10.0.0.3"}]},
        ],
    }
    found = slices_of(codec.decode(registry.info(ENDPOINTS), document))
    assert [service_of(each) for each in found] == ["web"] * 3
    assert {each.key.within for each in found} == {"team"}
    assert len({each.key for each in found}) == 3
    assert [
        (
            each.spec.address_type,
            [(e.addresses, e.conditions.ready, e.node_name) for e in each.spec.endpoints],
        )
        for each in found
    ] == [
        ("IPv4", [(("10.0.0.1",), True, "n"), (("10.0.0.2",), False, None)]),
        ("IPv6", [(("fd00::1",), True, None)]),
        ("IPv4", [(("10.0.0.3",), True, None)]),
    ]
    assert [(port.name, port.protocol, port.port) for port in found[1].spec.ports] == [
        ("http", "TCP", 80),
        ("", "UDP", 53),
    ]
    assert found[2].spec.ports == ()


# What Kubernetes says of a policy, written straight from its documentation, against the converted rules.


@dataclass(frozen=True)
class Pod:
    """One end of a connection; ``kubernetes`` False is an endpoint of another orchestrator."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    ip: str
    kubernetes: bool


NAMESPACE_LABELS = {"one": {"env": "x"}, "two": {"env": "y", "team": "x"}, "three": dict[str, str]()}
KEYS = st.sampled_from(["env", "team", "app"])
VALUES = st.sampled_from(["x", "y"])
REQUIREMENTS = st.one_of(
    st.builds(
        Requirement,
        key=KEYS,
        operator=st.sampled_from(["In", "NotIn"]),
        values=st.lists(VALUES, min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Requirement, key=KEYS, operator=st.sampled_from(["Exists", "DoesNotExist"])),
)
SELECTORS = st.builds(
    LabelSelector,
    match_labels=st.dictionaries(KEYS, VALUES, max_size=2),
    match_expressions=st.lists(REQUIREMENTS, max_size=2).map(tuple),
)
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.1.1", "10.1.0.1", "fd00::1", "fd00:1::1"])
BLOCKS = st.sampled_from(
    [
        IPBlock(cidr="10.0.0.0/16"),
        IPBlock(cidr="10.0.0.0/8", excluded=("10.0.1.0/24", "10.1.0.0/16")),
        IPBlock(cidr="0.0.0.0/0"),
        IPBlock(cidr="::/0", excluded=("fd00:1::/32",)),
    ]
)
PEERS = st.one_of(
    st.builds(PolicyPeer, pod_selector=SELECTORS),
    st.builds(PolicyPeer, namespace_selector=SELECTORS, pod_selector=st.none() | SELECTORS),
    st.builds(PolicyPeer, ip_block=BLOCKS),
)
PROTOCOLS = st.sampled_from(["TCP", "UDP", "SCTP"])
PORTS = st.one_of(
    st.builds(PolicyPort, protocol=st.none() | PROTOCOLS),
    st.builds(PolicyPort, protocol=st.none() | PROTOCOLS, port=st.integers(1, 6)),
    st.builds(PolicyPort, protocol=PROTOCOLS, port=st.integers(1, 3), end_port=st.integers(3, 6)),
)
PEER_LISTS = st.lists(PEERS, max_size=3).map(tuple)
PORT_LISTS = st.lists(PORTS, max_size=4).map(tuple)
POLICIES = st.builds(
    KubernetesNetworkPolicySpec,
    pod_selector=SELECTORS,
    ingress=st.lists(st.builds(IngressRule, peers=PEER_LISTS, ports=PORT_LISTS), max_size=3).map(tuple),
    egress=st.lists(st.builds(EgressRule, peers=PEER_LISTS, ports=PORT_LISTS), max_size=3).map(tuple),
)
PODS = st.builds(
    Pod,
    namespace=st.sampled_from(list(NAMESPACE_LABELS)),
    labels=st.dictionaries(KEYS, VALUES, max_size=2).map(lambda labels: tuple(labels.items())),
    ip=ADDRESSES,
    kubernetes=st.sampled_from([True, True, True, False]),
)


def selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    for each in selector.match_expressions:
        value = labels.get(each.key)
        holds = {
            "In": value in each.values,
            "NotIn": value not in each.values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[each.operator]:
            return False
    return all(labels.get(label) == value for label, value in selector.match_labels.items())


def peer_is(peer: PolicyPeer, other: Pod, namespace: str) -> bool:
    if peer.ip_block is not None:
        address = Address.parse(other.ip)
        return Prefix.parse(peer.ip_block.cidr).holds(address) and not any(
            Prefix.parse(each).holds(address) for each in peer.ip_block.excluded
        )
    if not other.kubernetes:
        return False
    if peer.namespace_selector is None:
        if other.namespace != namespace:
            return False
    elif not selects(peer.namespace_selector, NAMESPACE_LABELS[other.namespace]):
        return False
    return peer.pod_selector is None or selects(peer.pod_selector, dict(other.labels))


def port_is(port: PolicyPort, protocol: str, number: int) -> bool:
    if (port.protocol or "TCP") != protocol:
        return False
    if port.port is None:
        return True
    assert isinstance(port.port, int)
    return port.port <= number <= (port.end_port or port.port)


def kubernetes_allows(
    rule: IngressRule | EgressRule, other: Pod, namespace: str, protocol: str, number: int
) -> bool:
    who = not rule.peers or any(peer_is(each, other, namespace) for each in rule.peers)
    return who and (not rule.ports or any(port_is(each, protocol, number) for each in rule.ports))


def entity_is(entity: EntityRule, other: Pod, namespace: str) -> bool:
    address = Address.parse(other.ip)
    if entity.nets and not any(Prefix.parse(net).holds(address) for net in entity.nets):
        return False
    if any(Prefix.parse(net).holds(address) for net in entity.not_nets):
        return False
    if not entity.selector:
        return True
    labels = dict(other.labels)
    labels["projectcalico.org/orchestrator"] = "k8s" if other.kubernetes else "cni"
    if not parse(entity.selector).matches(labels):
        return False
    if not entity.namespace_selector:
        return other.namespace == namespace
    return parse(entity.namespace_selector).matches(NAMESPACE_LABELS[other.namespace])


def calico_allows(
    rule: Rule, peer: EntityRule, other: Pod, namespace: str, protocol: str, number: int
) -> bool:
    assert rule.action == "Allow"
    if rule.protocol not in (None, protocol) or not entity_is(peer, other, namespace):
        return False
    return not rule.destination.ports or any(
        number == each
        if isinstance(each, int)
        else int(each.split(":")[0]) <= number <= int(each.split(":")[1])
        for each in rule.destination.ports
    )


@given(POLICIES, PODS, st.sampled_from(list(NAMESPACE_LABELS)), PROTOCOLS, st.integers(1, 6))
def test_a_converted_policy_means_the_same(
    spec: KubernetesNetworkPolicySpec, other: Pod, namespace: str, protocol: str, number: int
) -> None:
    converted = convert(spec)
    assert converted.spec.types == (("Ingress", "Egress") if spec.egress else ("Ingress",))
    pod = {**dict(other.labels), "projectcalico.org/orchestrator": "k8s" if other.kubernetes else "cni"}
    assert parse(converted.spec.selector).matches(pod) is (
        other.kubernetes and selects(spec.pod_selector, dict(other.labels))
    )
    sides: list[tuple[Sequence[IngressRule | EgressRule], tuple[Rule, ...], tuple[int, ...], str]] = [
        (spec.ingress, converted.spec.ingress, converted.ingress, "source"),
        (spec.egress, converted.spec.egress, converted.egress, "destination"),
    ]
    for rules, result, origins, side in sides:
        allowed = {
            origin
            for rule, origin in zip(result, origins, strict=True)
            if calico_allows(rule, getattr(rule, side), other, namespace, protocol, number)
        }
        expected = {
            index
            for index, rule in enumerate(rules)
            if kubernetes_allows(rule, other, namespace, protocol, number)
        }
        assert allowed == expected
