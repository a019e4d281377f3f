"""Each rule of each kind, by a document that breaks it: the message a user reads, whole."""

from __future__ import annotations

from typing import Any

import pytest

from tortie.resources import codec, registry
from tortie.resources.findings import as_number
from tortie.resources.resource import Resource

OPERATORS = "==, !=, in, not in, contains, starts with or ends with"
NOR_A_NAME = " nor the name of one in spec.communities"
POOL: dict[str, Any] = {"cidr": "10.0.0.0/16"}
PEER: dict[str, Any] = {"peerIP": "10.1.1.1", "asNumber": 64513}
ENDPOINT: dict[str, Any] = {"orchestrator": "k8s", "node": "n", "pod": "p", "endpoint": "eth0"}


def resource(kind: str, spec: dict[str, Any], name: str = "default", namespace: str = "") -> Resource[Any]:
    metadata = {"name": name, "namespace": namespace}
    return codec.decode(registry.find(kind), {"metadata": metadata, "spec": spec})


def findings(found: Resource[Any]) -> list[str]:
    prefix = f"{found.key}: "
    return [str(each).removeprefix(prefix) for each in registry.info(found.key.kind).validate(found)]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("IPPool", {**POOL, "blockSize": 33}, ["spec.blockSize: 33 is not between 20 and 32"]),
        ("IPPool", {"cidr": "fd00::/64", "blockSize": 26}, ["spec.blockSize: 26 is not between 116 and 128"]),
        ("IPPool", {}, ["spec.cidr: is required"]),
        (
            "IPPool",
            {"cidr": "10.0.0.1/16"},
            ["spec.cidr: 10.0.0.1/16 has bits beyond its prefix length; its network is 10.0.0.0/16"],
        ),
        ("IPPool", {"cidr": "x"}, ["spec.cidr: x is not an address with a prefix length"]),
        (
            "IPPool",
            {"cidr": "10.0.0.0/28"},
            ["spec.cidr: 10.0.0.0/28 is smaller than a block (spec.blockSize is 26)"],
        ),
        ("IPPool", {"cidr": "10.0.0.0/28", "blockSize": 28}, []),
        (
            "IPPool",
            {"cidr": "169.254.4.0/24"},
            ["spec.cidr: 169.254.4.0/24 overlaps the link-local addresses 169.254.0.0/16"],
        ),
        (
            "IPPool",
            {"cidr": "fe80::/64"},
            ["spec.cidr: fe80::/64 overlaps the link-local addresses fe80::/10"],
        ),
        (
            "IPPool",
            {"cidr": "fd00::/64", "ipipMode": "Always"},
            ["spec.ipipMode: Always is not possible for an IPv6 pool"],
        ),
        (
            "IPPool",
            {**POOL, "ipipMode": "Always", "vxlanMode": "CrossSubnet"},
            ["spec.ipipMode: Always is not Never while spec.vxlanMode is not Never: choose one"],
        ),
        ("IPPool", {**POOL, "ipipMode": "x"}, ["spec.ipipMode: x is not one of Never, Always, CrossSubnet"]),
        (
            "IPPool",
            {**POOL, "assignmentMode": "x"},
            ["spec.assignmentMode: x is not one of Automatic, Manual"],
        ),
        (
            "IPPool",
            {**POOL, "allowedUses": ["Pod"]},
            ["spec.allowedUses[0]: Pod is not one of Workload, Tunnel, LoadBalancer"],
        ),
        (
            "IPPool",
            {**POOL, "allowedUses": ["Workload", "LoadBalancer"]},
            ["spec.allowedUses: Workload, LoadBalancer mixes LoadBalancer with other uses"],
        ),
        (
            "IPPool",
            {**POOL, "nodeSelector": "zone = 'a'"},
            ["spec.nodeSelector: zone = 'a' has an error at column 6: expected " + OPERATORS],
        ),
        ("IPPool", {**POOL, "nodeSelector": "zone == 'a'", "namespaceSelector": "has(x)"}, []),
        (
            "IPReservation",
            {"reservedCIDRs": ["10.0.0.1", "10.0.0.8/29", "10.0.0.9/29"]},
            [
                "spec.reservedCIDRs[2]: 10.0.0.9/29 has bits beyond its prefix length; its network is 10.0.0.8/29"
            ],
        ),
        ("IPAMConfiguration", {}, []),
        (
            "IPAMConfiguration",
            {"autoAllocateBlocks": False},
            ["spec.autoAllocateBlocks: false is possible only while spec.strictAffinity is true"],
        ),
        (
            "IPAMConfiguration",
            {"maxBlocksPerHost": 3},
            ["spec.maxBlocksPerHost: 3 is possible only while spec.strictAffinity is true"],
        ),
        ("IPAMConfiguration", {"maxBlocksPerHost": 3, "strictAffinity": True}, []),
        (
            "IPAMConfiguration",
            {"ipCooldownSeconds": 1201},
            ["spec.ipCooldownSeconds: 1201 is not between 0 and 1200"],
        ),
        ("Node", {"bgp": {"asNumber": 0}}, ["spec.bgp.asNumber: 0 is not between 1 and 4294967295"]),
        (
            "Node",
            {"bgp": {"asNumber": "1.10", "ipv4Address": "172.30.0.11/24", "ipv6Address": "fd00::1"}},
            [],
        ),
        (
            "Node",
            {"bgp": {"asNumber": "1.70000"}},
            ["spec.bgp.asNumber: 1.70000 is not an AS number: each half is at most 65535"],
        ),
        (
            "Node",
            {"bgp": {"ipv4Address": "fd00::1/64"}},
            ["spec.bgp.ipv4Address: fd00::1/64 is not an IPv4 address"],
        ),
        (
            "Node",
            {"bgp": {"ipv6Address": "::g"}},
            ["spec.bgp.ipv6Address: ::g is not an IP address, with or without a prefix length"],
        ),
        (
            "Node",
            {"addresses": [{"address": "10.0.0.5/24"}, {"type": "InternalIP"}]},
            ["spec.addresses[1].address: is required"],
        ),
        ("Node", {"vxlanTunnelMACAddr": "66:x"}, ["spec.vxlanTunnelMACAddr: 66:x is not a MAC address"]),
        (
            "BGPConfiguration",
            {"listenPort": 0, "logSeverityScreen": "Loud"},
            [
                "spec.logSeverityScreen: Loud is not one of Trace, Debug, Info, Warning, Error, Fatal",
                "spec.listenPort: 0 is not between 1 and 65535",
            ],
        ),
        (
            "BGPConfiguration",
            {
                "communities": [{"name": "a", "value": "1:2:3"}],
                "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["a", "65536:1", "b"]}],
            },
            [
                ("spec.prefixAdvertisements[0].communities[1]: 65536:1 is neither a community" + NOR_A_NAME),
                ("spec.prefixAdvertisements[0].communities[2]: b is neither a community" + NOR_A_NAME),
            ],
        ),
        (
            "BGPConfiguration",
            {"nodeToNodeMeshEnabled": False, "nodeMeshMaxRestartTime": "3x"},
            [
                "spec.nodeMeshMaxRestartTime: 3x is not a duration such as 90s or 1m30s",
                "spec.nodeMeshMaxRestartTime: 3x is for a mesh, and spec.nodeToNodeMeshEnabled is false",
            ],
        ),
        ("BGPPeer", PEER, []),
        ("BGPPeer", {**PEER, "peerIP": "[fd00::1]:180"}, []),
        (
            "BGPPeer",
            {**PEER, "peerIP": "10.0.0.1:99999"},
            ["spec.peerIP: 10.0.0.1:99999 is not an IP address, with or without a port"],
        ),
        ("BGPPeer", {}, ["spec.peerIP: is required, or spec.peerSelector, or spec.localWorkloadSelector"]),
        ("BGPPeer", {"peerIP": "10.0.0.1"}, ["spec.asNumber: is required with spec.peerIP"]),
        (
            "BGPPeer",
            {"peerSelector": "all()", "asNumber": 1},
            ["spec.asNumber: 1 is given by the selected nodes when spec.peerSelector is set"],
        ),
        (
            "BGPPeer",
            {**PEER, "peerSelector": "all()"},
            [
                "spec.peerIP: stands beside spec.peerSelector: give one of them",
                "spec.asNumber: 64513 is given by the selected nodes when spec.peerSelector is set",
            ],
        ),
        (
            "BGPPeer",
            {**PEER, "node": "a", "nodeSelector": "all()"},
            ["spec.node: a stands beside spec.nodeSelector: give one of them"],
        ),
        (
            "BGPPeer",
            {**PEER, "keepOriginalNextHop": True, "nextHopMode": "Keep"},
            ["spec.keepOriginalNextHop: true stands beside spec.nextHopMode, which replaces it"],
        ),
        (
            "FelixConfiguration",
            {"natPortRange": "40000:30000"},
            ["spec.natPortRange: 40000:30000 is not a range of ports such as 32768:65535"],
        ),
        (
            "FelixConfiguration",
            {
                "defaultEndpointToHostAction": "RETURN",
                "routeRefreshInterval": "1m30s",
                "mtuIfacePattern": "^eth.*",
            },
            [],
        ),
        (
            "FelixConfiguration",
            {"mtuIfacePattern": "("},
            [
                "spec.mtuIfacePattern: ( is not a regular expression: missing ), unterminated subpattern at position 0"
            ],
        ),
        (
            "FelixConfiguration",
            {"routeRefreshInterval": "90"},
            ["spec.routeRefreshInterval: 90 is not a duration such as 90s or 1m30s"],
        ),
        (
            "FelixConfiguration",
            {"ipForwarding": "on"},
            ["spec.ipForwarding: on is not one of Enabled, Disabled"],
        ),
        (
            "FelixConfiguration",
            {"interfacePrefix": "a b"},
            ["spec.interfacePrefix: a b is not the beginning of an interface name"],
        ),
        (
            "FelixConfiguration",
            {"failsafeInboundHostPorts": [{"protocol": "icmp", "port": 70000, "net": "x"}]},
            [
                "spec.failsafeInboundHostPorts[0].protocol: icmp is not one of tcp, udp",
                "spec.failsafeInboundHostPorts[0].port: 70000 is not between 0 and 65535",
                "spec.failsafeInboundHostPorts[0].net: x is not an address with a prefix length",
            ],
        ),
        (
            "FelixConfiguration",
            {"healthPort": 0, "deviceRouteProtocol": 256},
            [
                "spec.deviceRouteProtocol: 256 is not between 0 and 255",
                "spec.healthPort: 0 is not between 1 and 65535",
            ],
        ),
        (
            "Profile",
            {
                "ingress": [{"action": "Permit"}, {}],
                "egress": [{"action": "Allow", "source": {"selector": "x", "nets": ["y"]}}],
            },
            [
                "spec.ingress[0].action: Permit is not one of Allow, Deny, Log",
                "spec.ingress[1].action: is required",
                "spec.egress[0].source.selector: x has an error at column 2: expected " + OPERATORS,
                "spec.egress[0].source.nets[0]: y is not an address with a prefix length",
            ],
        ),
        (
            "BlockAffinity",
            {"node": "n", "cidr": "10.0.0.0/26", "type": "host", "state": "maybe"},
            ["spec.state: maybe is not one of pending, confirmed, pendingDeletion"],
        ),
    ],
)
def test_rule(kind: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(resource(kind, spec)) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"interfaceName": "cali" + "0" * 12},
            ["spec.interfaceName: cali000000000000 is longer than 15 characters"],
        ),
        (
            {"ipNetworks": ["10.0.0.1/32", "fd00::1", "10.0.0.0/31"]},
            ["spec.ipNetworks[2]: 10.0.0.0/31 is more than one address"],
        ),
        (
            {"ports": [{"name": "x", "protocol": "ICMP", "port": 0}]},
            [
                "spec.ports[0].port: 0 is not between 1 and 65535",
                "spec.ports[0].protocol: ICMP is not one of TCP, UDP, SCTP",
            ],
        ),
        (
            {"node": "m"},
            ["metadata.name: n-k8s-p-eth0 does not follow from the spec, which gives m-k8s-p-eth0"],
        ),
        ({"node": ""}, ["spec.node: is required"]),
        ({"mac": "1"}, ["spec.mac: 1 is not a MAC address"]),
    ],
)
def test_rule_of_workload_endpoints(spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(resource("WorkloadEndpoint", {**ENDPOINT, **spec}, "n-k8s-p-eth0", "default")) == expected


@pytest.mark.parametrize(
    ("kind", "name", "namespace", "expected"),
    [
        ("IPPool", "A", "", "metadata.name: A is not a name"),
        ("IPPool", "", "", "metadata.name: is required"),
        ("IPAMConfiguration", "other", "", "metadata.name: other is not one of default"),
        ("ClusterInformation", "other", "", "metadata.name: other is not one of default"),
        ("BGPConfiguration", "other", "", "metadata.name: other is neither default nor node.<name>"),
        ("FelixConfiguration", "other", "", "metadata.name: other is neither default nor node.<name>"),
        ("Namespace", "a.b", "", "metadata.name: a.b is not a name"),
        ("ServiceAccount", "a", "", "metadata.namespace: is required"),
        ("Pod", "a", "B", "metadata.namespace: B is not a name"),
    ],
)
def test_names(kind: str, name: str, namespace: str, expected: str) -> None:
    assert any(
        each.startswith(expected)
        for each in findings(resource(kind, POOL if kind == "IPPool" else {}, name, namespace))
    )


def test_labels() -> None:
    document = {"metadata": {"name": "x", "labels": {"a b": "c", "ok/a": "d e", "UP/a": "", "fine": ""}}}
    found = codec.decode(registry.find("Namespace"), document)
    assert findings(found) == [
        "metadata.labels: a b is not a label's name",
        "metadata.labels[ok/a]: d e is not a label's value",
        "metadata.labels: UP/a is not a label's name",
    ]


def test_every_kind_finds_a_missing_name() -> None:
    for info in registry.KINDS:
        if info.for_users:
            assert any("metadata.name" in each for each in findings(resource(info.words[0], {}, ""))), (
                info.kind
            )


def test_a_pool_may_not_change_what_its_blocks_are_cut_from() -> None:
    old, new = (
        resource("IPPool", POOL),
        resource("IPPool", {"cidr": "10.0.0.0/17", "blockSize": 24, "disabled": True}),
    )
    changes = registry.info(old.key.kind).changes
    assert [each.field for each in changes(old, new)] == ["spec.cidr", "spec.blockSize"]
    assert changes(old, resource("IPPool", {**POOL, "blockSize": 26, "natOutgoing": True})) == []


def test_a_pool_overlaps_neither_another_nor_a_nodes_network() -> None:
    pool = resource("IPPool", {"cidr": "172.16.0.0/12"}, "p")
    others = [
        pool,
        resource("IPPool", {"cidr": "172.30.4.0/24"}, "q"),
        resource("IPPool", {"cidr": "10.0.0.0/16"}, "r"),
        resource("IPPool", {"cidr": "unreadable"}, "s"),
        resource("Node", {"bgp": {"ipv4Address": "172.30.0.11/24", "ipv6Address": "fd00::1/64"}}, "n"),
        resource("Node", {}, "without"),
    ]
    assert [str(each) for each in registry.info(pool.key.kind).among(pool, others)] == [
        "IPPool p: spec.cidr: 172.16.0.0/12 overlaps IPPool q (172.30.4.0/24)",
        "IPPool p: spec.cidr: 172.16.0.0/12 overlaps the network of Node n (172.30.0.11/24)",
    ]


def test_two_nodes_have_two_addresses() -> None:
    one = resource("Node", {"bgp": {"ipv4Address": "172.30.0.11/24"}}, "a")
    two = resource("Node", {"bgp": {"ipv4Address": "172.30.0.11/16"}}, "b")
    among = registry.info(one.key.kind).among
    assert [each.rule for each in among(one, [one, two])] == ["is also the address of Node b"]
    assert among(one, [one, resource("Node", {"bgp": {"ipv4Address": "172.30.0.12/24"}}, "b")]) == []


@pytest.mark.parametrize(
    ("kind", "spec", "field", "expected"),
    [
        ("IPPool", POOL, "block_size", 26),
        ("IPPool", {"cidr": "FD00:0::/64"}, "block_size", 122),
        ("IPPool", {"cidr": "FD00:0::/64"}, "cidr", "fd00::/64"),
        ("IPPool", {**POOL, "nodeSelector": "", "ipipMode": ""}, "node_selector", "all()"),
        ("IPReservation", {"reservedCIDRs": ["10.0.0.1"]}, "reserved_cidrs", ("10.0.0.1/32",)),
        ("BGPConfiguration", {"asNumber": "1.10"}, "as_number", 65546),
        ("BGPPeer", {**PEER, "asNumber": "64513"}, "as_number", 64513),
        ("WorkloadEndpoint", {**ENDPOINT, "ipNetworks": ["FD00::1"]}, "ip_networks", ("fd00::1/128",)),
    ],
)
def test_normalise(kind: str, spec: dict[str, Any], field: str, expected: object) -> None:
    found = resource(kind, spec)
    once = registry.info(found.key.kind).normalise(found)
    assert getattr(once.spec, field) == expected
    assert registry.info(found.key.kind).normalise(once).spec == once.spec


def test_as_number_forms() -> None:
    assert [as_number(each) for each in (1, "64512", "1.0", "65535.65535")] == [1, 64512, 65536, 4294967295]
    for bad in (0, "0", "", "x", "1.2.3", 4294967296, "-1"):
        with pytest.raises(ValueError, match="is not"):
            as_number(bad)
