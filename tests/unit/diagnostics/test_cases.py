"""Which legs are tried, and how their answers are judged."""

from __future__ import annotations

from tortie.diagnostics.cases import Echo, Leg, Place, all_ok, judge, legs
from tortie.diagnostics.reasons import InterfaceSeen, NodeView, RouteSeen, likely_reason
from tortie.net.addresses import Address, Prefix

V4 = {name: Address.parse(text) for name, text in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.1.1")]}
A = Place("pod", "default/a", "node1", (V4["a"], Address.parse("fd00::1")))
B = Place("pod", "default/b", "node1", (V4["b"],))
C = Place("pod", "default/c", "node2", (V4["c"], Address.parse("fd00::2")))
NODE1 = Place("node", "node1", "node1", (Address.parse("172.30.0.11"),))
NODE2 = Place("node", "node2", "node2", (Address.parse("172.30.0.12"),))
GOOD = Echo(3, 3, 0.1)


def leg(source: Place, destination: Place) -> Leg:
    return next(found for found in legs([source, destination]) if found.source == source)


def test_every_pair_of_a_rule_is_tried_once_in_each_shared_ip_version() -> None:
    found = [
        (one.case, one.source.name, one.destination.name, one.address.version) for one in legs([A, C, NODE1])
    ]
    assert sorted(found) == sorted(
        [
            ("pod-to-pod", "default/a", "default/c", 4),
            ("pod-to-pod", "default/a", "default/c", 6),
            ("pod-to-pod", "default/c", "default/a", 4),
            ("pod-to-pod", "default/c", "default/a", 6),
            ("pod-to-node", "default/a", "node1", 4),
            ("pod-to-node", "default/c", "node1", 4),
            ("node-to-pod", "node1", "default/a", 4),
            ("node-to-pod", "node1", "default/c", 4),
        ]
    )


def test_an_answer_with_the_right_source_is_good() -> None:
    row = judge(leg(A, C), GOOD, [V4["a"]], None)
    assert (row.ok, row.nat, row.loss, row.reason, row.seen_source) == (True, False, 0, None, "10.0.0.1")


def test_a_rewritten_source_is_not_good_though_the_answer_came() -> None:
    row = judge(leg(A, C), GOOD, [Address.parse("172.30.0.11")], None)
    assert (row.ok, row.nat, row.seen_source) == (False, True, "172.30.0.11")
    assert row.reason == "NAT: the packet arrived from 172.30.0.11"


def test_what_was_not_seen_at_the_destination_is_unknown_and_not_good() -> None:
    row = judge(leg(A, C), GOOD, [], None)
    assert (row.ok, row.nat) == (False, None)
    assert judge(leg(A, C), None, [], None).reason == "not tried: the source's agent did not send"
    assert judge(leg(A, C), Echo(3, 0, None), [], "no route: x").reason == "no route: x"


def test_green_needs_pairs_on_one_node_and_across_where_there_could_be() -> None:
    across = [judge(leg(A, C), GOOD, [V4["a"]], None)]
    assert all_ok(across, [A, C])
    assert not all_ok(across, [A, B, C]), "a and b on one node were not tried"
    assert not all_ok([judge(leg(A, B), GOOD, [V4["a"]], None)], [A, B, C]), "none across was tried"
    assert not all_ok([], [A])


def test_reasons_name_what_is_broken() -> None:
    up = {"default/a": InterfaceSeen("calia", True), "default/c": InterfaceSeen("calic", True)}
    to_c = RouteSeen(Prefix.parse("10.0.1.0/26"), False, "eth0")
    to_a = RouteSeen(Prefix.parse("10.0.0.0/26"), False, "eth0")
    default = RouteSeen(Prefix.parse("0.0.0.0/0"), False, "eth0")
    well = {
        "node1": NodeView(routes=(to_c, default, to_a), sessions={"node2": "Established"}, interfaces=up),
        "node2": NodeView(routes=(to_a, to_c), sessions={"node1": "Established"}, interfaces=up),
    }
    one = leg(A, C)
    assert likely_reason(one, well) is None
    lost = {**well, "node1": NodeView(routes=(default,), sessions={"node2": "Active"}, interfaces=up)}
    assert likely_reason(one, lost) == (
        "BGP session down: node1 and node2 are Active, so node1 has no route to 10.0.1.1"
    )
    gone = {**well, "node2": NodeView(routes=(), interfaces=up)}
    assert likely_reason(one, gone) == "no route: node2 has none to 10.0.0.1"
    down = {
        **well,
        "node2": NodeView(routes=(to_a,), interfaces={"default/c": InterfaceSeen("calic", False)}),
    }
    assert likely_reason(one, down) == "interface down: calic of default/c on node2"
    assert likely_reason(one, {"node1": well["node1"]}) == "the agent of node2 does not answer"
