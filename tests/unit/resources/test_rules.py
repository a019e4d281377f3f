"""Each rule of a policy's rules, by one that breaks it: the message a user reads, whole."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.resources.building import findings, resource

OPERATORS = "==, !=, in, not in, contains, starts with or ends with"
TCP = {"action": "Allow", "protocol": "TCP"}
GLOBAL = "uses global(), which only a rule's namespaceSelector can"
NEEDS_PORTS = "needs the protocol TCP, UDP or SCTP"


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
            "notICMP.code: needs a type",
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
