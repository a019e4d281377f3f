"""The oracle at HostEndpoints, case by case as Calico's documentation has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.oracle.builders import document, namespace, pod, policy
from tests.oracle.documents import Document
from tests.oracle.hosts import HostOracle
from tests.oracle.packets import Packet

NODE, OTHER, OUTSIDE = "192.0.2.1", "192.0.2.2", "203.0.113.9"
POD, AWAY = "10.0.0.1", "10.0.1.1"
BASE = [
    namespace("here"),
    *(
        document("Node", name, {"bgp": {"ipv4Address": f"{address}/24"}})
        for name, address in (("node", NODE), ("other", OTHER))
    ),
    pod("a", [POD], labels={"app": "web"}),
    pod("b", [AWAY], node="other"),
]
ALLOW, DENY = [{"action": "Allow"}], [{"action": "Deny"}]


def guard(interface: str = "eth0", name: str = "guard", **spec: Any) -> Document:
    written = {"node": "node", **({"interfaceName": interface} if interface else {}), **spec}
    return document("HostEndpoint", name, written, labels={"host": name})


def tcp(source: str, destination: str, port: int = 80) -> Packet:
    return Packet(source, destination, 6, 4000, port)


def judged(documents: Sequence[Document], packet: Packet) -> str:
    """Both directions: what decided them, and how."""
    verdict = HostOracle([*BASE, *documents]).judge(packet)
    words = [
        "-" if side is None else f"{'allow' if side.allowed else 'deny'} {side.decided_by}"
        for side in (verdict.egress, verdict.ingress)
    ]
    return ", ".join(words)


@pytest.mark.parametrize(
    "own",
    [guard(), guard("*"), guard("", expectedIPs=[NODE])],
    ids=["by name", "all interfaces", "by address"],
)
def test_without_policy_all_but_fail_safe_ports_is_denied(own: Document) -> None:
    assert judged([own], tcp(OUTSIDE, NODE)) == "-, deny no-profile"
    assert judged([own], tcp(OUTSIDE, NODE, 22)) == "-, allow failsafe"
    assert judged([own], tcp(NODE, OUTSIDE, 22)) == "deny no-profile, -"
    assert judged([own], tcp(NODE, OUTSIDE, 2379)) == "allow failsafe, -"
    assert judged([], tcp(OUTSIDE, NODE)) == "-, -"
    assert judged([guard("eth1")], tcp(OUTSIDE, NODE)) == "-, -"
    closed = document("FelixConfiguration", "default", {"failsafeInboundHostPorts": []})
    assert judged([own, closed], tcp(OUTSIDE, NODE, 22)) == "-, deny no-profile"
    near = {"protocol": "tcp", "port": 22, "net": "198.51.100.0/24"}
    closed = document("FelixConfiguration", "default", {"failsafeInboundHostPorts": [near]})
    assert judged([own, closed], tcp(OUTSIDE, NODE, 22)) == "-, deny no-profile"
    assert judged([own, closed], tcp("198.51.100.1", NODE, 22)) == "-, allow failsafe"


def test_a_named_interface_comes_before_all_of_them() -> None:
    opened = document("Profile", "open", {"ingress": ALLOW})
    both = [guard("*", name="all"), guard(profiles=["open"]), opened]
    assert judged(both, tcp(OUTSIDE, NODE)) == "-, allow profile"


def test_what_is_routed_through_is_asked_about_where_policy_applies_on_forward() -> None:
    plain = policy("p", "", selector="has(host)", ingress=DENY)
    assert judged([guard(), plain], tcp(OUTSIDE, POD)) == "-, allow profile"
    forward = policy("p", "", selector="has(host)", ingress=DENY, applyOnForward=True)
    assert judged([guard(), forward], tcp(OUTSIDE, POD)) == "-, deny rule"
    assert judged([guard(), forward], tcp(POD, OUTSIDE)) == "allow profile, -"
    assert judged([guard(), forward], tcp(OUTSIDE, POD, 22)) == "-, deny rule", "no fail-safe ports"
    # It holds for the node's own traffic as well.
    assert judged([guard(), forward], tcp(OUTSIDE, NODE)) == "-, deny rule"
    ends = policy("p", "", selector="has(host)", ingress=[], types=["Ingress"], applyOnForward=True)
    assert judged([guard(), ends], tcp(OUTSIDE, POD)) == "-, deny tier-end"
    opened = policy("p", "", selector="has(host)", ingress=ALLOW, applyOnForward=True)
    closed = policy("q", "here", selector="app == 'web'", ingress=[])
    assert judged([guard(), opened, closed], tcp(OUTSIDE, POD)) == "-, deny tier-end", "the pod's own holds"


def test_before_translation_and_before_conntrack_nothing_is_denied_at_the_end() -> None:
    for flavour in ({"preDNAT": True, "types": ["Ingress"]}, {"doNotTrack": True}):
        only = [{"action": "Deny", "protocol": "UDP"}]
        spec: dict[str, Any] = {"selector": "all()", "applyOnForward": True, "ingress": only, **flavour}
        assert judged([guard(), policy("p", "", **spec)], tcp(OUTSIDE, NODE)) == "-, deny no-profile"
        assert judged([guard(), policy("p", "", **spec)], tcp(OUTSIDE, POD)) == "-, allow profile"
        spec["ingress"] = ALLOW
        later = policy("q", "", selector="has(host)", ingress=DENY, applyOnForward=True)
        assert judged([guard(), policy("p", "", **spec), later], tcp(OUTSIDE, NODE)) == "-, allow rule"
        assert judged([guard(), policy("p", "", **spec), later], tcp(OUTSIDE, POD)) == "-, allow profile"
        spec["ingress"] = DENY
        assert judged([guard(), policy("p", "", **spec)], tcp(OUTSIDE, NODE)) == "-, deny rule"
        assert judged([guard(), policy("p", "", **spec)], tcp(OUTSIDE, NODE, 22)) == "-, allow failsafe"
        # Not for workloads, whatever is selected.
        assert judged([policy("p", "", **spec)], tcp(OUTSIDE, POD)) == "-, allow profile"


def test_untracked_comes_before_everything_else() -> None:
    first = policy("u", "", selector="has(host)", applyOnForward=True, doNotTrack=True, ingress=ALLOW)
    second = policy("d", "", selector="has(host)", applyOnForward=True, preDNAT=True, ingress=DENY)
    assert judged([guard(), first, second], tcp(OUTSIDE, NODE)) == "-, allow rule"


def test_a_node_and_its_own_pods() -> None:
    closed = policy("c", "", selector="all()", types=["Ingress", "Egress"])
    assert judged([guard("*"), closed], tcp(NODE, POD)) == "-, allow host"
    assert judged([guard("*")], tcp(POD, NODE)) == "allow profile, deny host"
    left = document("FelixConfiguration", "default", {"defaultEndpointToHostAction": "Return"})
    assert judged([guard("*"), left], tcp(POD, NODE)) == "allow profile, allow host"
    assert judged([guard("*"), left, closed], tcp(POD, NODE)) == "deny tier-end, allow host"
    # Another node's pod comes in by the interface.
    assert judged([guard("*"), left], tcp(AWAY, NODE)) == "allow profile, deny no-profile"


def test_tunnels_between_nodes_pass_and_those_of_pods_do_not() -> None:
    for packet in (Packet(OTHER, NODE, 17, 4000, 4789), Packet(OTHER, NODE, 4)):
        assert judged([guard()], packet) == "-, allow host"
        assert judged([guard()], packet._replace(source=OUTSIDE)) == "-, deny no-profile"
        assert judged([], packet._replace(source=POD, destination=OUTSIDE)) == "deny host, -"


def test_selectors_find_it_by_the_addresses_that_it_expects() -> None:
    by_label = [{"action": "Allow", "destination": {"selector": "host == 'guard'"}}]
    out = policy("p", "", selector="app == 'web'", types=["Egress"], egress=by_label)
    unknown, known = guard("*"), guard("*", expectedIPs=[NODE])
    assert judged([out, unknown], tcp(POD, NODE)).startswith("deny tier-end")
    assert judged([out, known], tcp(POD, NODE)).startswith("allow rule")
