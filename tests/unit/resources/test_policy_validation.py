"""Each rule of the kinds of policy, by a document that breaks it: the message a user reads, whole."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.unit.resources.building import findings, resource
from tortie.resources import registry

OPERATORS = "==, !=, in, not in, contains, starts with or ends with"
TCP = {"action": "Allow", "protocol": "TCP"}
GLOBAL = "uses global(), which only a rule's namespaceSelector can"


SPECS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("NetworkPolicy", {}, []),
    (
        "NetworkPolicy",
        {
            "tier": "A.b",
            "order": math.inf,
            "selector": "a",
            "serviceAccountSelector": "global()",
            "types": ["Ingress", "egress", "Ingress"],
            "performanceHints": ["Hurry"],
        },
        [
            "spec.tier: A.b is not a name: at most 63 small letters, digits and '-', a letter or digit at each end",
            "spec.order: inf is not a finite number",
            f"spec.selector: a has an error at column 2: expected {OPERATORS}",
            f"spec.serviceAccountSelector: global() {GLOBAL}",
            "spec.types[1]: egress is not one of Ingress, Egress",
            "spec.types[2]: Ingress is given twice",
            "spec.performanceHints[0]: Hurry is not one of AssumeNeededOnEveryNode",
        ],
    ),
    (
        "GlobalNetworkPolicy",
        {"doNotTrack": True, "preDNAT": True, "namespaceSelector": "global()", "egress": [TCP]},
        [
            f"spec.namespaceSelector: global() {GLOBAL}",
            "spec.preDNAT: true stands beside spec.doNotTrack: a policy is one of them",
            "spec.egress: is not possible with spec.preDNAT: such a policy is for ingress",
            "spec.types: Egress is not possible with spec.preDNAT: such a policy is for ingress",
            "spec.doNotTrack: true needs spec.applyOnForward: true",
            "spec.preDNAT: true needs spec.applyOnForward: true",
        ],
    ),
    ("GlobalNetworkPolicy", {"preDNAT": True, "applyOnForward": True, "ingress": [TCP]}, []),
    (
        "StagedNetworkPolicy",
        {"stagedAction": "Maybe"},
        ["spec.stagedAction: Maybe is not one of Set, Delete, Learn, Ignore"],
    ),
    ("StagedNetworkPolicy", {"stagedAction": "Delete", "tier": "x"}, []),
    (
        "StagedGlobalNetworkPolicy",
        {"stagedAction": "Delete", "order": 1, "doNotTrack": True},
        [
            f"spec.{field}: is not possible with stagedAction Delete, which needs the tier alone"
            for field in ("order", "doNotTrack")
        ],
    ),
    ("StagedGlobalNetworkPolicy", {"ingress": [{}]}, ["spec.ingress[0].action: is required"]),
    (
        "StagedKubernetesNetworkPolicy",
        {"stagedAction": "Delete", "policyTypes": ["Ingress"]},
        ["spec.policyTypes: is not possible with stagedAction Delete, which needs the tier alone"],
    ),
    (
        "StagedKubernetesNetworkPolicy",
        {"ingress": [{"from": [{}]}]},
        ["spec.ingress[0].from[0]: is nobody: it needs podSelector, namespaceSelector or ipBlock"],
    ),
    (
        "NetworkSet",
        {"nets": ["10.0.0.1", "10.0.0.1/8", "x"]},
        ["spec.nets[2]: x is not an address with a prefix length"],
    ),
    (
        "GlobalNetworkSet",
        {"nets": ["fd00::/129"]},
        ["spec.nets[0]: fd00::/129 is not an address with a prefix length"],
    ),
    (
        "HostEndpoint",
        {},
        ["spec.node: is required", "spec.interfaceName: is required, or spec.expectedIPs"],
    ),
    ("HostEndpoint", {"node": "n", "interfaceName": "*"}, []),
    (
        "HostEndpoint",
        {
            "node": "n",
            "interfaceName": "much-too-long-a-name",
            "expectedIPs": ["10.0.0.1", "10.0.0.0/8"],
            "ports": [
                {"name": "a", "protocol": "ICMP", "port": 0},
                {"protocol": "udp", "port": 1},
                {"name": "a b", "protocol": "udp", "port": 1},
                {"name": "80", "protocol": "udp", "port": 1},
            ],
        },
        [
            "spec.interfaceName: much-too-long-a-name is neither the name of an interface nor *",
            "spec.expectedIPs[1]: 10.0.0.0/8 is not an IP address",
            "spec.ports[0].port: 0 is not between 1 and 65535",
            "spec.ports[0].protocol: ICMP is not TCP, UDP or SCTP",
            "spec.ports[1].name: is required",
            "spec.ports[2].name: a b is not a name that a rule's ports can be",
            "spec.ports[3].name: 80 is not a name that a rule's ports can be",
        ],
    ),
    (
        "Service",
        {
            "type": "Cluster",
            "clusterIP": "x",
            "clusterIPs": ["None"],
            "externalIPs": ["y"],
            "externalTrafficPolicy": "local",
            "ports": [{"port": 0, "protocol": "ICMP", "nodePort": 65536, "targetPort": -1}],
        },
        [
            "spec.type: Cluster is not one of ClusterIP, NodePort, LoadBalancer, ExternalName",
            "spec.externalTrafficPolicy: local is not one of Cluster, Local",
            "spec.clusterIP: x is not an IP address",
            "spec.externalIPs[0]: y is not an IP address",
            "spec.ports[0].port: 0 is not between 1 and 65535",
            "spec.ports[0].protocol: ICMP is not one of TCP, UDP, SCTP",
            "spec.ports[0].nodePort: 65536 is not between 0 and 65535",
            "spec.ports[0].targetPort: -1 is not between 0 and 65535",
        ],
    ),
    (
        "EndpointSlice",
        {
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["fd00::1"]}, {}],
            "ports": [{"port": 0, "protocol": "x"}, {}],
        },
        [
            "endpoints[0].addresses[0]: fd00::1 is not an IPv4 address",
            "endpoints[1].addresses: is required",
            "ports[0].port: 0 is not between 1 and 65535",
            "ports[0].protocol: x is not one of TCP, UDP, SCTP",
        ],
    ),
    ("EndpointSlice", {"endpoints": []}, ["addressType: is required"]),
    (
        "Endpoints",
        {"subsets": [{"addresses": [{"ip": "x"}], "notReadyAddresses": [{}], "ports": [{"port": 0}]}]},
        [
            "subsets[0].addresses[0].ip: x is not an IP address",
            "subsets[0].notReadyAddresses[0].ip: is required",
            "subsets[0].ports[0].port: 0 is not between 1 and 65535",
        ],
    ),
]


@pytest.mark.parametrize(("kind", "spec", "expected"), SPECS)
def test_spec(kind: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(resource(kind, spec)) == expected


KUBERNETES: list[tuple[dict[str, Any], list[str]]] = [
    ({"podSelector": {}}, []),
    (
        {
            "podSelector": {
                "matchLabels": {"a b": "c d"},
                "matchExpressions": [
                    {"operator": "In", "values": ["a'"]},
                    {"key": "a", "operator": "in"},
                    {"key": "a", "operator": "NotIn"},
                    {"key": "a", "operator": "Exists", "values": ["b"]},
                ],
            }
        },
        [
            "podSelector.matchLabels: a b is not a label's name",
            'podSelector.matchLabels["a b"]: c d is not a label\'s value',
            "podSelector.matchExpressions[0].key: is required",
            "podSelector.matchExpressions[0].values[0]: a' is not a label's value",
            "podSelector.matchExpressions[1].operator: in is not one of In, NotIn, Exists, DoesNotExist",
            "podSelector.matchExpressions[2].values: is required",
            "podSelector.matchExpressions[3].values: is not possible with the operator Exists",
        ],
    ),
    (
        {"policyTypes": ["Ingress", "Ingress", "Both"]},
        [
            "policyTypes[2]: Both is not one of Ingress, Egress",
            "policyTypes[1]: Ingress is given twice",
        ],
    ),
    (
        {
            "egress": [
                {
                    "to": [
                        {},
                        {"ipBlock": {"cidr": "x"}, "podSelector": {}},
                        {
                            "ipBlock": {
                                "cidr": "10.0.0.0/16",
                                "except": ["10.0.1.0/24", "10.0.0.0/16", "fd00::/8"],
                            }
                        },
                    ]
                }
            ]
        },
        [
            "egress[0].to[0]: is nobody: it needs podSelector, namespaceSelector or ipBlock",
            "egress[0].to[1].podSelector: stands beside ipBlock, which it cannot be",
            "egress[0].to[1].ipBlock.cidr: x is not an address with a prefix length",
            "egress[0].to[2].ipBlock.except[1]: 10.0.0.0/16 is not a part of 10.0.0.0/16",
            "egress[0].to[2].ipBlock.except[2]: fd00::/8 is not a part of 10.0.0.0/16",
        ],
    ),
    (
        {
            "ingress": [
                {
                    "ports": [
                        {"protocol": "ICMP", "port": 65536},
                        {"port": "80"},
                        {"port": "http-alt"},
                        {"port": 10, "endPort": 9},
                        {"port": "http", "endPort": 9},
                        {"endPort": 9},
                    ]
                }
            ]
        },
        [
            "ingress[0].ports[0].protocol: ICMP is not one of TCP, UDP, SCTP",
            "ingress[0].ports[0].port: 65536 is not between 1 and 65535",
            (
                "ingress[0].ports[1].port: 80 is neither a number nor the name of a port: at most 15 small letters, "
                "digits and '-'"
            ),
            "ingress[0].ports[3].endPort: 9 comes before the port, 10",
            "ingress[0].ports[4].endPort: needs a port that is a number",
            "ingress[0].ports[5].endPort: needs a port that is a number",
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), KUBERNETES)
def test_kubernetes_policy(spec: dict[str, Any], expected: list[str]) -> None:
    found = findings(resource("KubernetesNetworkPolicy", spec))
    assert found == [f"spec.{each}" for each in expected]


TIERS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("security", {"order": 1}, []),
    ("security", {}, []),
    (
        "a.b",
        {},
        [
            (
                "metadata.name: a.b is not a name: at most 63 small letters, digits and '-', a letter or digit "
                "at each end"
            )
        ],
    ),
    ("security", {"defaultAction": "Allow"}, ["spec.defaultAction: Allow is not one of Deny, Pass"]),
    ("default", {"order": 5}, ["spec.order: 5.0 is not 1000000, which tier default has"]),
    ("default", {"order": 1e6}, []),
    (
        "default",
        {"order": 1_000_000, "defaultAction": "Pass"},
        ["spec.defaultAction: Pass is not Deny, which tier default has"],
    ),
    ("kube-admin", {"order": 1000}, []),
    (
        "kube-baseline",
        {"order": 10_000_000, "defaultAction": "Deny"},
        ["spec.defaultAction: Deny is not Pass, which tier kube-baseline has"],
    ),
]


@pytest.mark.parametrize(("name", "spec", "expected"), TIERS)
def test_tier(name: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(resource("Tier", spec, name=name)) == expected


def test_names() -> None:
    for kind in ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "KubernetesNetworkPolicy"):
        for name in ("web", "default.web", "security.web", "knp.default.a.b"):
            assert findings(resource(kind, {}, name=name)) == []
        assert "is not a name" in findings(resource(kind, {}, name="Web"))[0]
    for kind in ("NetworkPolicy", "NetworkSet", "KubernetesNetworkPolicy", "Service", "Endpoints"):
        assert "metadata.namespace: is required" in findings(resource(kind, {}, namespace=""))
    assert findings(resource("NetworkSet", {}, labels={"projectcalico.org/namespace": "x"})) == [
        "metadata.labels: projectcalico.org/namespace is a label that follows from the namespace alone"
    ]


def test_a_policy_is_in_a_tier_that_exists() -> None:
    for kind in ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"):
        among = registry.find(kind).among
        policy = resource(kind, {"tier": "security"})
        assert [str(each).removeprefix(f"{policy.key}: ") for each in among(policy, [])] == [
            "spec.tier: security is a Tier that does not exist: apply it first, or together with this"
        ]
        assert among(policy, [resource("Tier", {}, name="security")]) == []
        for built_in in ("default", "kube-admin", "kube-baseline"):
            assert among(resource(kind, {"tier": built_in}), []) == []


DEFAULTS: list[tuple[str, dict[str, Any], str, object]] = [
    ("NetworkPolicy", {}, "types", ("Ingress",)),
    ("NetworkPolicy", {"egress": [TCP]}, "types", ("Egress",)),
    ("NetworkPolicy", {"ingress": [TCP], "egress": [TCP]}, "types", ("Ingress", "Egress")),
    ("NetworkPolicy", {"ingress": [TCP], "types": ["Egress"]}, "types", ("Egress",)),
    ("NetworkPolicy", {"tier": ""}, "tier", "default"),
    ("StagedNetworkPolicy", {"stagedAction": "Delete"}, "types", ()),
    ("StagedNetworkPolicy", {"stagedAction": ""}, "staged_action", "Set"),
    ("StagedGlobalNetworkPolicy", {"egress": [TCP]}, "types", ("Egress",)),
    ("KubernetesNetworkPolicy", {}, "policy_types", ("Ingress",)),
    ("KubernetesNetworkPolicy", {"egress": [{}]}, "policy_types", ("Ingress", "Egress")),
    ("StagedKubernetesNetworkPolicy", {"egress": [{}]}, "policy_types", ("Ingress", "Egress")),
    ("StagedKubernetesNetworkPolicy", {"stagedAction": "Delete"}, "policy_types", ()),
    ("Tier", {}, "default_action", "Deny"),
]


@pytest.mark.parametrize(("kind", "spec", "field", "expected"), DEFAULTS)
def test_normalise(kind: str, spec: dict[str, Any], field: str, expected: object) -> None:
    found = resource(kind, spec)
    once = registry.info(found.key.kind).normalise(found)
    assert getattr(once.spec, field) == expected
    assert registry.info(found.key.kind).normalise(once).spec == once.spec


def test_protocols_and_ports_are_written_as_calico_writes_them() -> None:
    rule = {
        "action": "Allow",
        "protocol": "tcp",
        "notProtocol": "17",
        "source": {"ports": ["80", "7:7", "1:2"]},
    }
    info = registry.find("NetworkPolicy")
    (found,) = info.normalise(resource("NetworkPolicy", {"ingress": [rule]})).spec.ingress
    assert (found.protocol, found.not_protocol, found.source.ports) == ("TCP", 17, (80, 7, "1:2"))
    icmp = {"action": "Allow", "protocol": "icmpV6"}
    assert info.normalise(resource("NetworkPolicy", {"egress": [icmp]})).spec.egress[0].protocol == "ICMPv6"
    kube = registry.find("Tier").normalise(resource("Tier", {"order": 1000}, name="kube-admin"))
    assert kube.spec.default_action == "Pass"
