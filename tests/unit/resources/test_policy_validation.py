"""Each rule of the kinds of policy, by a document that breaks it: the message a user reads, whole."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tortie.resources import codec, registry
from tortie.resources.resource import Resource

OPERATORS = "==, !=, in, not in, contains, starts with or ends with"
TCP = {"action": "Allow", "protocol": "TCP"}
GLOBAL = "uses global(), which only a rule's namespaceSelector can"
NEEDS_PORTS = "needs the protocol TCP, UDP or SCTP"


def resource(kind: str, spec: dict[str, Any], **metadata: Any) -> Resource[Any]:
    info = registry.find(kind)
    meta = {"name": "default", "namespace": "team" if info.namespaced else "", **metadata}
    return codec.decode(info, {"metadata": meta, **(spec if info.rooted else {"spec": spec})})


def findings(found: Resource[Any]) -> list[str]:
    info = registry.info(found.key.kind)
    return [str(each).removeprefix(f"{found.key}: ") for each in info.validate(info.normalise(found))]


RULES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["action: is required"]),
    ({"action": "allow"}, ["action: allow is not one of Allow, Deny, Log, Pass"]),
    ({"action": "Pass", "ipVersion": 5}, ["ipVersion: 5 is not 4 or 6"]),
    (
        {"action": "Log", "protocol": "any"},
        ["protocol: any is not one of TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number"],
    ),
    ({"action": "Deny", "protocol": 0}, ["protocol: 0 is not between 1 and 255"]),
    ({"action": "Deny", "notProtocol": "256"}, ["notProtocol: 256 is not between 1 and 255"]),
    ({"action": "Deny", "protocol": "udp", "notProtocol": "132", "ipVersion": 4}, []),
    ({"action": "Allow", "icmp": {"type": 8}}, ["icmp: needs the protocol ICMP or ICMPv6"]),
    ({**TCP, "notICMP": {"type": 8}}, ["notICMP: needs the protocol ICMP or ICMPv6"]),
    (
        {"action": "Allow", "protocol": "icmp", "icmp": {"type": 255}, "notICMP": {"code": 256}},
        [
            "icmp.type: 255 is not between 0 and 254",
            "notICMP.code: 256 is not between 0 and 255",
            "notICMP.code: 256 needs a type",
        ],
    ),
    ({"action": "Allow", "protocol": 58, "icmp": {"type": 254, "code": 255}}, []),
    (
        {"action": "Allow", "protocol": "ICMP", "ipVersion": 6},
        ["protocol: ICMP is of IPv4, the rule of IPv6"],
    ),
    (
        {"action": "Allow", "notProtocol": "ICMPv6", "ipVersion": 4},
        ["notProtocol: ICMPv6 is of IPv6, the rule of IPv4"],
    ),
    (
        {"action": "Allow", "http": {"methods": ["GET"]}},
        ["http: cannot be enforced: Tortie has no policy of the application layer"],
    ),
    (
        {"action": "Allow", "source": {"ports": [1]}, "destination": {"notPorts": [1]}},
        [f"source.ports: {NEEDS_PORTS}", f"destination.notPorts: {NEEDS_PORTS}"],
    ),
    (
        {"action": "Allow", "protocol": "ICMP", "destination": {"ports": [1]}},
        [f"destination.ports: {NEEDS_PORTS}"],
    ),
    ({"action": "Allow", "protocol": 132, "destination": {"ports": [1, "1:65535", "http", "8080"]}}, []),
    (
        {**TCP, "destination": {"ports": [0, 65536, "9:8", "1:70000", "a b", "1:", ""]}},
        [
            "destination.ports[0]: 0 is not between 1 and 65535",
            "destination.ports[1]: 65536 is not between 1 and 65535",
            "destination.ports[2]: 9:8 begins after its end",
            "destination.ports[3]: 1:70000 leaves 1 to 65535",
            "destination.ports[4]: a b is not a port, a range such as 8000:8080, or the name of a port",
            "destination.ports[5]: 1: is not a port, a range such as 8000:8080, or the name of a port",
            "destination.ports[6]:  is not a port, a range such as 8000:8080, or the name of a port",
        ],
    ),
    (
        {**TCP, "source": {"notPorts": list(range(1, 52))}},
        ["source.notPorts: 51 are too many: there are at most 50"],
    ),
    (
        {"action": "Deny", "source": {"nets": [f"10.0.{i}.0/24" for i in range(256)] + ["10.1.0.0/24"]}},
        ["source.nets: 257 are too many: there are at most 256"],
    ),
    (
        {"action": "Deny", "source": {"nets": ["10.0.0.1/8", "x"], "notNets": ["10.0.0.0/33"]}},
        [
            "source.nets[0]: 10.0.0.1/8 has bits beyond its prefix length; its network is 10.0.0.0/8",
            "source.nets[1]: x is not an address with a prefix length",
            "source.notNets[0]: 10.0.0.0/33 is not an address with a prefix length",
        ],
    ),
    ({"action": "Deny", "source": {"nets": ["10.0.0.1"]}, "destination": {"notNets": ["10.0.0.0/8"]}}, []),
    (
        {"action": "Deny", "source": {"nets": ["10.0.0.0/8", "fd00::/8", "fd01::/16"]}},
        [
            (
                "source.nets[1]: fd00::/8 is not of the IP version of spec.ingress[0].source.nets[0]: write one rule "
                "for each version"
            )
        ],
    ),
    (
        {"action": "Deny", "ipVersion": 6, "destination": {"nets": ["10.0.0.0/8"]}},
        ["destination.nets[0]: 10.0.0.0/8 is not of the rule's IP version, 6"],
    ),
    (
        {"action": "Deny", "source": {"selector": "a", "notSelector": "global()", "namespaceSelector": "b"}},
        [
            f"source.selector: a has an error at column 2: expected {OPERATORS}",
            f"source.notSelector: global() {GLOBAL}",
            f"source.namespaceSelector: b has an error at column 2: expected {OPERATORS}",
        ],
    ),
    ({"action": "Deny", "source": {"namespaceSelector": " global( )"}}, []),
    (
        {"action": "Deny", "source": {"namespaceSelector": "global() || has(a)"}},
        [
            "source.namespaceSelector: global() || has(a) combines global() with something else, which it cannot be"
        ],
    ),
    (
        {"action": "Deny", "source": {"serviceAccounts": {"names": ["A"], "selector": "!global()"}}},
        [
            f"source.serviceAccounts.selector: !global() {GLOBAL}",
            (
                "source.serviceAccounts.names[0]: A is not a name: at most 253 small letters, digits, '-' and '.', "
                "a letter or digit at each end of a part"
            ),
        ],
    ),
    ({"action": "Deny", "source": {"services": {"namespace": "a"}}}, ["source.services.name: is required"]),
    (
        {
            "action": "Deny",
            "source": {
                "services": {"name": "web"},
                "selector": "a == 'b'",
                "serviceAccounts": {"names": ["a"]},
                "notNets": ["10.0.0.0/8"],
            },
        },
        ["source.services: stands beside selector and serviceAccounts and notNets, which it cannot be"],
    ),
    ({**TCP, "source": {"services": {"name": "web"}, "ports": [1]}}, []),
    (
        {"action": "Allow", "destination": {"services": {"name": "web"}}},
        ["destination.services: is not possible in an ingress rule's destination"],
    ),
]


@pytest.mark.parametrize(("rule", "expected"), RULES)
def test_rule(rule: dict[str, Any], expected: list[str]) -> None:
    found = findings(resource("NetworkPolicy", {"ingress": [rule]}))
    assert found == [f"spec.ingress[0].{each}" for each in expected]


def test_services_of_egress_rules() -> None:
    web = {"services": {"name": "web"}}
    rules = [{**TCP, "source": web}, {"action": "Allow", "destination": web}]
    assert findings(resource("NetworkPolicy", {"egress": rules})) == [
        "spec.egress[0].source.services: is not possible in an egress rule's source"
    ]
    ports = [{**TCP, "destination": {**web, "ports": [1]}}]
    assert findings(resource("NetworkPolicy", {"egress": ports})) == [
        "spec.egress[0].destination.ports: stands beside services, whose endpoints have their ports"
    ]
    assert findings(resource("GlobalNetworkPolicy", {"egress": rules[1:]})) == [
        "spec.egress[0].destination.services.namespace: is required outside a namespace"
    ]


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
            "ports": [{"name": "a", "protocol": "ICMP", "port": 0}, {"protocol": "udp", "port": 1}],
        },
        [
            "spec.interfaceName: much-too-long-a-name is neither the name of an interface nor *",
            "spec.expectedIPs[1]: 10.0.0.0/8 is not an IP address",
            "spec.ports[0].port: 0 is not between 1 and 65535",
            "spec.ports[0].protocol: ICMP is not TCP, UDP or SCTP",
            "spec.ports[1].name: is required",
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
            "ingress[0].ports[4].endPort: 9 needs a port that is a number",
            "ingress[0].ports[5].endPort: 9 needs a port that is a number",
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
