"""The oracle against cases written by hand, each from a sentence of Calico's documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.oracle.builders import account, document, endpoint_slice, namespace, pod, policy, tier
from tests.oracle.documents import Document
from tests.oracle.judge import Oracle
from tests.oracle.packets import Packet

A4, B4, C4 = "10.0.0.1", "10.0.0.2", "10.0.0.3"
A6, B6 = "fd00::1", "fd00::2"
BASE = [
    namespace("here", team="red"),
    namespace("there", team="blue"),
    account("default", "here", role="plain"),
    account("admin", "here", role="ops"),
    pod("a", [A4, A6], labels={"app": "client"}, account="admin"),
    pod("b", [B4, B6], labels={"app": "web"}, ports=[("web", "TCP", 80), ("dns", "UDP", 53)]),
    pod("c", [C4], within="there", labels={"app": "client"}),
]
OUTSIDE = "192.0.2.9"


def tcp(source: str, destination: str, port: int = 80, source_port: int = 4000) -> Packet:
    return Packet(source, destination, 6, source_port, port)


def ingress(documents: Sequence[Document], packet: Packet) -> str:
    """What happens at the destination: the verdict and what decided it."""
    decision = Oracle([*BASE, *documents]).judge(packet).ingress
    assert decision is not None
    return f"{'allow' if decision.allowed else 'deny'} {decision.decided_by}"


def allows(documents: Sequence[Document], packet: Packet) -> bool:
    return Oracle([*BASE, *documents]).judge(packet).allowed


def let_in(**rule: Any) -> list[Document]:
    """A policy on b with this one rule that allows."""
    return [policy("p", selector="app == 'web'", ingress=[{"action": "Allow", **rule}])]


def test_profiles_decide_without_policy() -> None:
    assert ingress([], tcp(A4, B4)) == "allow profile"
    bare = pod("d", ["10.0.0.4"], profiles=[])
    assert ingress([bare], tcp(A4, "10.0.0.4")) == "deny no-profile"
    missing = pod("d", ["10.0.0.4"], profiles=["nowhere"])
    assert ingress([missing], tcp(A4, "10.0.0.4")) == "deny no-profile"


def test_profiles_in_their_order() -> None:
    no = document("Profile", "no", {"ingress": [{"action": "Deny", "protocol": "TCP"}]})
    yes = document("Profile", "yes", {"ingress": [{"action": "Allow"}]})
    for order, wanted in ((["no", "yes"], "deny profile"), (["yes", "no"], "allow profile")):
        assert ingress([no, yes, pod("d", ["10.0.0.4"], profiles=order)], tcp(A4, "10.0.0.4")) == wanted
    assert (
        ingress([no, yes, pod("d", ["10.0.0.4"], profiles=["no", "yes"])], Packet(A4, "10.0.0.4", 17))
        == "allow profile"
    )


def test_selected_by_a_policy_what_no_rule_matches_is_denied() -> None:
    assert ingress([policy("p", selector="app == 'web'")], tcp(A4, B4)) == "deny tier-end"
    assert ingress([policy("p", selector="app == 'db'")], tcp(A4, B4)) == "allow profile"
    assert ingress([policy("p", "there", selector="all()")], tcp(A4, B4)) == "allow profile"


def test_one_side_without_a_workload_has_no_verdict() -> None:
    verdict = Oracle(BASE).judge(tcp(OUTSIDE, B4))
    assert verdict.egress is None
    assert verdict.ingress is not None
    assert verdict.allowed


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ({}, "ingress"),
        ({"ingress": [{"action": "Deny"}]}, "ingress"),
        ({"egress": [{"action": "Deny"}]}, "egress"),
        ({"ingress": [{"action": "Deny"}], "egress": [{"action": "Deny"}]}, "ingress egress"),
        ({"ingress": [{"action": "Deny"}], "types": ["Egress"]}, "egress"),
        ({"egress": [{"action": "Deny"}], "types": ["Ingress"]}, "ingress"),
        ({"types": ["Ingress", "Egress"]}, "ingress egress"),
    ],
)
def test_types(spec: Document, directions: str) -> None:
    oracle = Oracle([*BASE, policy("p", selector="all()", **spec)])
    to, fro = oracle.judge(tcp(OUTSIDE, B4)), oracle.judge(tcp(B4, OUTSIDE))
    assert to.allowed is ("ingress" not in directions)
    assert fro.allowed is ("egress" not in directions)


def test_order_then_name_namespace_and_kind_as_one_text() -> None:
    yes, no = [{"action": "Allow"}], [{"action": "Deny"}]
    late = policy("a", ingress=no, order=20)
    assert ingress([late, policy("z", ingress=yes, order=10)], tcp(A4, B4)) == "allow rule"
    assert ingress([late, policy("z", ingress=yes)], tcp(A4, B4)) == "deny rule"
    assert ingress([policy("a", ingress=yes), policy("b", ingress=no)], tcp(A4, B4)) == "allow rule"
    # "a-b/here/…" stands before "a/here/…", since "-" stands before "/".
    assert ingress([policy("a", ingress=yes), policy("a-b", ingress=no)], tcp(A4, B4)) == "deny rule"
    # "a//Global…" stands before "a/here/…".
    assert ingress([policy("a", ingress=yes), policy("a", "", ingress=no)], tcp(A4, B4)) == "deny rule"


def test_rules_in_their_order_and_log_goes_on() -> None:
    rules = [{"action": "Log"}, {"action": "Deny", "protocol": "UDP"}, {"action": "Allow"}]
    assert ingress([policy("p", ingress=rules)], tcp(A4, B4)) == "allow rule"
    assert ingress([policy("p", ingress=rules)], Packet(A4, B4, 17, 1, 1)) == "deny rule"
    assert ingress([policy("p", ingress=[{"action": "Log"}])], tcp(A4, B4)) == "deny tier-end"


def test_tiers_and_pass() -> None:
    first, last = tier("first", 1), tier("last", None)
    passes = policy("p", "", tier="first", order=1, ingress=[{"action": "Pass"}, {"action": "Allow"}])
    skipped = policy("q", "", tier="first", order=9, ingress=[{"action": "Allow"}])
    denies = policy("r", "", tier="last", ingress=[{"action": "Deny"}])
    assert ingress([first, last, passes, skipped], tcp(A4, B4)) == "allow profile"
    assert ingress([first, last, passes, skipped, denies], tcp(A4, B4)) == "deny rule"
    assert ingress([first, policy("p", "", tier="first")], tcp(A4, B4)) == "deny tier-end"
    assert ingress([tier("first", 1, "Pass"), policy("p", "", tier="first")], tcp(A4, B4)) == "allow profile"
    # A tier counts for a direction only by a policy of that direction.
    other = policy("p", "", tier="first", types=["Egress"])
    assert ingress([first, other], tcp(OUTSIDE, B4)) == "allow profile"


def test_tiers_in_order_then_by_name_then_those_without_order() -> None:
    yes, no = [{"action": "Allow"}], [{"action": "Deny"}]
    for y, n, wanted in (
        (1, 2, "allow"),
        (2, 1, "deny"),
        (1, 1, "deny"),
        (None, 5, "deny"),
        (5, None, "allow"),
    ):
        documents = [
            tier("y", y),
            tier("n", n),
            policy("p", "", tier="y", ingress=yes),
            policy("q", "", tier="n", ingress=no),
        ]
        assert ingress(documents, tcp(A4, B4)) == f"{wanted} rule"
    admin = policy("p", "", tier="kube-admin", ingress=yes)
    assert ingress([admin, policy("q", ingress=no)], tcp(A4, B4)) == "allow rule"
    baseline = policy("p", "", tier="kube-baseline", ingress=no)
    assert ingress([baseline, policy("q", ingress=yes)], tcp(A4, B4)) == "allow rule"
    assert ingress([baseline], tcp(A4, B4)) == "deny rule"


def test_staged_policies_neither_decide_nor_isolate() -> None:
    staged = document("StagedGlobalNetworkPolicy", "s", {"order": 1, "ingress": [{"action": "Deny"}]})
    assert ingress([staged], tcp(A4, B4)) == "allow profile"
    assert ingress([staged, policy("p", order=2)], tcp(A4, B4)) == "deny tier-end"


@pytest.mark.parametrize(
    ("rule", "matching", "missing"),
    [
        ({"protocol": "TCP"}, [tcp(A4, B4)], [Packet(A4, B4, 17, 1, 80)]),
        ({"protocol": 47}, [Packet(A4, B4, 47)], [tcp(A4, B4)]),
        ({"notProtocol": "TCP"}, [Packet(A4, B4, 17, 1, 80)], [tcp(A4, B4)]),
        ({"ipVersion": 6}, [tcp(A6, B6)], [tcp(A4, B4)]),
        (
            {"protocol": "ICMP", "icmp": {"type": 8}},
            [Packet(A4, B4, 1, 0, 0, 8, 0), Packet(A4, B4, 1, 0, 0, 8, 1)],
            [Packet(A4, B4, 1, 0, 0, 13, 0)],
        ),
        (
            {"protocol": "ICMPv6", "icmp": {"type": 128, "code": 0}},
            [Packet(A6, B6, 58, 0, 0, 128, 0)],
            [Packet(A6, B6, 58, 0, 0, 128, 1), Packet(A4, B4, 1, 0, 0, 8, 0)],
        ),
        (
            {"protocol": "ICMP", "notICMP": {"type": 8}},
            [Packet(A4, B4, 1, 0, 0, 13, 0)],
            [Packet(A4, B4, 1, 0, 0, 8, 0)],
        ),
        (
            {"protocol": "ICMP", "notICMP": {"type": 8, "code": 1}},
            [Packet(A4, B4, 1, 0, 0, 8, 0), Packet(A4, B4, 1, 0, 0, 13, 1)],
            [Packet(A4, B4, 1, 0, 0, 8, 1)],
        ),
        (
            {"source": {"nets": ["10.0.0.0/31", "fd00::/64"]}},
            [tcp(A4, B4), tcp(A6, B6)],
            [tcp(C4, B4), tcp(OUTSIDE, B4)],
        ),
        ({"source": {"nets": ["fd00::/64"]}}, [tcp(A6, B6)], [tcp(A4, B4)]),
        ({"source": {"notNets": ["fd00::/64"]}}, [tcp(A4, B4)], [tcp(A6, B6)]),
        ({"source": {"nets": ["10.0.0.0/24"], "notNets": ["10.0.0.1"]}}, [tcp(C4, B4)], [tcp(A4, B4)]),
        (
            {"protocol": "TCP", "destination": {"ports": [80, "90:92"]}},
            [tcp(A4, B4, each) for each in (80, 90, 92)],
            [tcp(A4, B4, each) for each in (79, 81, 89, 93)] + [Packet(A4, B4, 17, 1, 80)],
        ),
        (
            {"protocol": "TCP", "destination": {"notPorts": [80, "90:92"]}},
            [tcp(A4, B4, each) for each in (79, 81, 89, 93)],
            [tcp(A4, B4, each) for each in (80, 90, 92)],
        ),
        ({"protocol": "UDP", "source": {"ports": [53]}}, [Packet(A4, B4, 17, 53, 9)], [Packet(A4, B4, 17, 9, 53)]),
        (
            {"protocol": "TCP", "destination": {"ports": ["web", 9]}},
            [tcp(A4, B4), tcp(A4, B4, 9)],
            [tcp(A4, B4, 53), tcp(A4, B4, 81)],
        ),
        ({"protocol": "UDP", "destination": {"ports": ["web"]}}, [], [Packet(A4, B4, 17, 1, 80), tcp(A4, B4)]),
        ({"protocol": "UDP", "destination": {"ports": ["dns"]}}, [Packet(A4, B4, 17, 1, 53)], [tcp(A4, B4, 53)]),
        ({"protocol": "TCP", "destination": {"notPorts": ["web"]}}, [tcp(A4, B4, 81)], [tcp(A4, B4)]),
    ],
)  # fmt: skip
def test_fields(rule: Document, matching: Sequence[Packet], missing: Sequence[Packet]) -> None:
    assert missing
    for packet in matching:
        assert ingress(let_in(**rule), packet) == "allow rule", packet
    for packet in missing:
        assert ingress(let_in(**rule), packet) == "deny tier-end", packet


@pytest.mark.parametrize(
    ("source", "who"),
    [
        ({}, "a b c outside"),
        ({"selector": "all()"}, "a b"),
        ({"selector": "app == 'client'"}, "a"),
        ({"selector": "!has(app)"}, ""),
        ({"notSelector": "app == 'client'"}, "b"),
        ({"notSelector": "has(nothing)"}, "a b"),
        ({"selector": "app == 'client'", "namespaceSelector": "team == 'blue'"}, "c"),
        ({"selector": "app == 'client'", "namespaceSelector": "all()"}, "a c"),
        ({"namespaceSelector": "all()"}, "a b c"),
        ({"namespaceSelector": "projectcalico.org/name == 'there'"}, "c"),
        ({"notSelector": "app == 'web'", "namespaceSelector": "all()"}, "a c"),
        ({"namespaceSelector": "global()"}, ""),
        ({"serviceAccounts": {"names": ["admin"]}}, "a"),
        ({"serviceAccounts": {"names": ["admin", "default"]}}, "a b"),
        ({"serviceAccounts": {"selector": "role == 'plain'"}}, "b"),
        ({"serviceAccounts": {"names": ["default"]}, "namespaceSelector": "all()"}, "b c"),
    ],
)
def test_who_may_in_by_a_policy_of_a_namespace(source: Document, who: str) -> None:
    addresses = {"a": A4, "b": B4, "c": C4, "outside": OUTSIDE}
    documents = let_in(source=source)
    found = [name for name, each in addresses.items() if ingress(documents, tcp(each, B4)) == "allow rule"]
    assert " ".join(found) == who


@pytest.mark.parametrize(
    ("source", "who"),
    [
        ({"selector": "all()"}, "a b c"),
        ({"selector": "app == 'client'"}, "a c"),
        ({"notSelector": "app == 'client'"}, "b outside"),
        ({"selector": "app == 'client'", "namespaceSelector": "team == 'blue'"}, "c"),
        ({"serviceAccounts": {"names": ["default"]}}, "b c"),
    ],
)
def test_who_may_in_by_a_global_policy(source: Document, who: str) -> None:
    addresses = {"a": A4, "b": B4, "c": C4, "outside": OUTSIDE}
    documents = [policy("p", "", ingress=[{"action": "Allow", "source": source}])]
    found = [name for name, each in addresses.items() if ingress(documents, tcp(each, B4)) == "allow rule"]
    assert " ".join(found) == who


def test_network_sets_are_selected_like_endpoints() -> None:
    outside = {"nets": ["192.0.2.8/30"]}
    glob = document("GlobalNetworkSet", "g", outside, labels={"role": "peer"})
    own = document("NetworkSet", "n", outside, namespace="here", labels={"role": "peer"})
    other = document("NetworkSet", "n", outside, namespace="there", labels={"role": "peer"})
    rule = let_in(source={"selector": "role == 'peer'"})
    beyond = tcp("192.0.2.12", B4)
    assert ingress([*rule, own], tcp(OUTSIDE, B4)) == "allow rule"
    assert ingress([*rule, own], beyond) == "deny tier-end"
    for elsewhere in (glob, other):
        assert ingress([*rule, elsewhere], tcp(OUTSIDE, B4)) == "deny tier-end"
    everywhere = [policy("p", "", ingress=[{"action": "Allow", "source": {"selector": "role == 'peer'"}}])]
    for each in (glob, own, other):
        assert ingress([*everywhere, each], tcp(OUTSIDE, B4)) == "allow rule"
    by_team = let_in(source={"namespaceSelector": "team == 'blue'"})
    assert ingress([*by_team, other], tcp(OUTSIDE, B4)) == "allow rule"
    global_only = let_in(source={"namespaceSelector": "global()"})
    assert ingress([*global_only, glob], tcp(OUTSIDE, B4)) == "allow rule"
    assert ingress([*global_only, own], tcp(OUTSIDE, B4)) == "deny tier-end"


def test_policies_select_by_namespace_and_by_account() -> None:
    both = policy("p", "", namespaceSelector="team == 'red'", selector="app == 'web'")
    assert ingress([both], tcp(A4, B4)) == "deny tier-end"
    blue = policy("p", "", namespaceSelector="team == 'blue'", selector="app == 'web'")
    assert ingress([blue], tcp(A4, B4)) == "allow profile"
    plain = policy("p", serviceAccountSelector="role == 'plain'")
    assert ingress([plain], tcp(A4, B4)) == "deny tier-end"
    assert ingress([plain], tcp(B4, A4)) == "allow profile"


def test_services() -> None:
    service = endpoint_slice("s", "there", [C4], [("TCP", 80)])
    rule = {"action": "Allow", "destination": {"services": {"name": "s", "namespace": "there"}}}
    out = [service, policy("p", egress=[rule])]
    assert allows(out, tcp(A4, C4))
    assert not allows(out, tcp(A4, C4, 81))
    assert not allows(out, Packet(A4, C4, 17, 1, 80))
    assert not allows(out, tcp(A4, B4))
    assert not allows([policy("p", egress=[rule])], tcp(A4, C4))
    into = [service, *let_in(source={"services": {"name": "s", "namespace": "there"}})]
    assert ingress(into, tcp(C4, B4, 7)) == "allow rule"
    assert ingress(into, tcp(A4, B4, 7)) == "deny tier-end"
    own = [endpoint_slice("s", "here", [A4], []), *let_in(source={"services": {"name": "s"}})]
    assert ingress(own, tcp(A4, B4)) == "allow rule"


def test_a_named_port_is_that_of_an_endpoint_which_the_selector_matches() -> None:
    rule: Document = {"protocol": "TCP", "destination": {"ports": ["web"]}}
    egress = policy("p", egress=[{"action": "Allow", **rule}], types=["Egress"])
    assert allows([egress], tcp(A4, B4))
    assert not allows([egress], tcp(A4, OUTSIDE))
    rule["destination"]["selector"] = "app == 'client'"
    egress = policy("p", egress=[{"action": "Allow", **rule}], types=["Egress"])
    assert not allows([egress], tcp(A4, B4))


def test_misses_name_the_field() -> None:
    documents = let_in(protocol="TCP", source={"selector": "app == 'client'"}, destination={"ports": [80]})
    oracle = Oracle([*BASE, *documents])

    def missed(packet: Packet) -> list[tuple[str, ...]]:
        decision = oracle.judge(packet).ingress
        assert decision is not None
        return decision.missed

    assert missed(tcp(A4, B4)) == []
    assert missed(tcp(A4, B4, 81)) == [("destination.ports:number",)]
    assert missed(Packet(A4, B4, 17, 1, 80)) == [("protocol",)]
    assert missed(tcp(B4, B4)) == [("source.selector",)]
    assert missed(tcp(C4, B4)) == [("source.namespace",)]
    assert missed(tcp(C4, B4, 81)) == []
