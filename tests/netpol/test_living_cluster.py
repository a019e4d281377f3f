"""Policies of a cluster that lives: rules that others break, agents that die, pods that come. Scenarios 55 and 56, and that a
pod has its policy before its first packet."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from tests.lab.lab_command import wait_until
from tests.netpol.cluster import Cluster, stand_of
from tests.netpol.documents import EVERYTHING, Document, labels, namespaces, pods, policy, port
from tests.netpol.model import ANY, Case, Pair, Step
from tests.netpol.prober import Question

pytestmark = pytest.mark.needs("bird", "nftables")
NODES = ("node1", "node2")
Damage = Callable[[str, str], list[str]]
"""From the table's listing and its family to what ``nft`` is told."""
TAKES_B = Step(
    policies=(policy("x", "a-takes-b", labels(pod="a"), ingress=[{"from": [pods(labels(pod="b"))]}]),),
    expect={ANY: ("deny * x/a", "allow x/b x/a")},
)
CASE = Case(number=0, name="", pods="x/a x/b x/c y/a y/b", steps=(TAKES_B,))


def calico(kind: str, name: str, namespace: str = "", /, **spec: object) -> Document:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


@contextmanager
def enforced(shared: Cluster) -> Iterator[dict[Pair, bool]]:
    """The policy, and its table."""
    try:
        shared.run_step(CASE, TAKES_B)
        yield CASE.table(TAKES_B)
    finally:
        shared.undo(CASE)


def _flush(_: str, family: str) -> list[str]:
    return [f"delete table {family} tortie"]


def _open(ruleset: str, family: str) -> list[str]:
    """A rule before all others wherever packets are forwarded."""
    hooked = re.findall(r"chain (\S+) \{\s+type filter hook forward", ruleset)
    assert hooked
    return [f"insert rule {family} tortie {chain} accept" for chain in hooked]


def _unhook(ruleset: str, family: str) -> list[str]:
    return [each for chain in re.findall(r"chain (\S+) \{\s+type filter hook forward", ruleset)
            for each in (f"flush chain {family} tortie {chain}", f"delete chain {family} tortie {chain}")]  # fmt: skip


def _empty(ruleset: str, family: str) -> list[str]:
    sets = re.findall(r"\tset (\S+) \{", ruleset)
    assert sets
    return [f"flush set {family} tortie {name}" for name in sets]


@pytest.mark.parametrize("damage", [_flush, _open, _unhook, _empty])
def test_what_others_break_is_repaired_at_once(shared: Cluster, damage: Damage) -> None:
    with enforced(shared) as table:
        before = {node: _rules(shared, node) for node in NODES}
        for node in NODES:
            for family in ("ip", "ip6"):
                ruleset = shared.lab.here(node, "nft", "list", "table", family, "tortie")
                shared.lab.here(node, "nft", "; ".join(damage(ruleset, family)))
        shared.check(table)
        for node in NODES:
            wait_until(partial(_is_as, shared, node, before[node]), f"{node} is as before", 30)


def _is_as(shared: Cluster, node: str, before: list[str]) -> bool:
    return _rules(shared, node) == before


def _rules(shared: Cluster, node: str) -> list[str]:
    """Without handles and counts, and in no order: sets and maps have none."""
    text = shared.lab.here(node, "nft", "-s", "list", "ruleset")
    return sorted(re.sub(r"elements = \{[^}]*\}", _sorted_elements, text).splitlines())


def _sorted_elements(found: re.Match[str]) -> str:
    return " ".join(sorted(found[0].replace(",", " ").split()))


def test_policies_hold_while_agents_are_killed(shared: Cluster) -> None:
    with enforced(shared) as table:
        for node in NODES:
            before = shared.lab.pid(f"{node}/agent")
            assert before is not None
            os.kill(before, signal.SIGKILL)

            def is_back(node: str = node, before: int = before) -> bool:
                return shared.lab.pid(f"{node}/agent") not in (None, before) and shared.lab.ready(node)

            shared.stays(table, is_back)
        # And the new agents hear of what is new.
        deny = Step(
            policies=(policy("x", "a-takes-b", labels(pod="a"), ingress=[]),), expect={ANY: ("deny * x/a",)}
        )
        shared.run_step(CASE, deny)


def test_a_pod_has_its_policy_before_its_first_packet(shared: Cluster) -> None:
    late: list[Document] = [
        policy("x", "late-goes-nowhere", labels(pod="late"), egress=[]),
        policy("x", "late-takes-nobody", labels(pod="late"), ingress=[]),
    ]
    every = Case(number=0, name="", pods="x/a x/b", steps=(Step(policies=tuple(late), expect={ANY: ()}),))
    shared.run_step(every, every.steps[0])
    try:
        for number in range(6):
            node = NODES[number % 2]
            made = shared.lab.add_pod(f"late{number}", node, "-n", "x", "--labels", "pod=late")
            name = f"x/late{number}"
            shared.prober.add(name, stand_of(made))
            try:
                wanted = {
                    Question(Pair(source, destination, protocol, 80), version): source == "x/a"
                    and destination == "x/b"
                    for source, destination in ((name, "x/a"), (name, "x/b"), ("x/a", name), ("x/a", "x/b"))
                    for protocol in ("TCP", "UDP", "SCTP")
                    for version in (4, 6)
                }
                seen = shared.prober.ask(wanted)
                assert not [str(each) for each, was in seen.items() if was and not wanted[each]]
            finally:
                shared.prober.forget(name)
                shared.lab.run("lab", "pod", "rm", name)
    finally:
        shared.undo(every)


def test_a_new_pod_without_policy_is_open(shared: Cluster) -> None:
    """That the pods above reach nobody is the policies' doing."""
    made = shared.lab.add_pod("free", "node1", "-n", "x", "--labels", "pod=free")
    shared.prober.add("x/free", stand_of(made))
    try:
        free = Case(number=0, name="", pods="x/a x/b x/free", steps=(Step(expect={f"{ANY}, SCTP 80": ()}),))
        shared.run_step(free, free.steps[0])
    finally:
        shared.prober.forget("x/free")
        shared.lab.run("lab", "pod", "rm", "x/free")


def test_pods_of_a_namespace_that_was_deleted_and_made_again_are_open(shared: Cluster) -> None:
    for _ in range(2):
        made = shared.lab.add_pod("one", "node1", "-n", "again")
        shared.prober.add("again/one", stand_of(made))
        try:
            both = Case(number=0, name="", pods="x/a x/b again/one", steps=(Step(expect={"TCP 80": ()}),))
            shared.run_step(both, both.steps[0])
        finally:
            shared.prober.forget("again/one")
            shared.lab.run("lab", "pod", "rm", "again/one")
        shared.lab.delete("namespace", "again")


RICH: tuple[Document, ...] = (
    calico("Tier", "platform", order=100, defaultAction="Pass"),
    calico(
        "GlobalNetworkPolicy",
        "platform.guard",
        tier="platform",
        namespaceSelector="ns in {'x', 'y'}",
        types=["Ingress", "Egress"],
        ingress=[
            {"action": "Deny", "protocol": "UDP", "source": {"namespaceSelector": "ns == 'z'"}},
            {
                "action": "Allow",
                "protocol": "TCP",
                "source": {"selector": "pod == 'c'"},
                "destination": {"ports": [80]},
            },
        ],
        egress=[
            {"action": "Deny", "destination": {"selector": "pod == 'b'", "namespaceSelector": "ns == 'z'"}}
        ],
    ),
    calico(
        "NetworkPolicy",
        "named",
        "y",
        selector="pod in {'a', 'b'}",
        ingress=[
            {"action": "Allow", "protocol": "TCP", "destination": {"ports": ["serve-81-tcp"]}},
            {"action": "Allow", "protocol": "UDP", "source": {"notSelector": "pod == 'b'"}},
        ],
    ),
    policy("x", "from-y", labels(pod="a"), ingress=[{"from": [namespaces(labels(ns="y"))]}]),
    policy("z", "own", EVERYTHING, ingress=[{"from": [pods(EVERYTHING)]}, {"ports": [port(80, "SCTP")]}]),
)


def test_the_matrix_of_the_living_cluster_is_what_packets_say(shared: Cluster) -> None:
    shared.apply(RICH)
    try:
        ports = [(protocol, number) for protocol in ("TCP", "UDP", "SCTP") for number in (80, 81)]
        expected = {version: _matrix(shared, ports, version) for version in (4, 6)}
        assert expected[4] == expected[6]
        assert len(expected[4]) == 8 * 7 * len(ports)
        for port_ in ports:
            answers = {
                allowed for pair, allowed in expected[4].items() if (pair.protocol, pair.port) == port_
            }
            assert answers == {True, False}, f"{port_} is open to some and closed to others"
        shared.check(expected[4])
    finally:
        shared.lab.run(
            *shared.datastore,
            "delete",
            "-f",
            "-",
            stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": list(RICH)}),
        )


def _matrix(shared: Cluster, ports: Sequence[tuple[str, int]], version: int) -> dict[Pair, bool]:
    """What ``tortie policy matrix`` says of the lab's datastore, without the fence."""
    options = [word for protocol, number in ports for word in ("--port", f"{number}/{protocol.lower()}")]
    said = shared.lab.tortie("policy", "matrix", *options, "--ip-version", str(version), "-o", "json").stdout
    found: dict[Pair, bool] = {}
    for each in json.loads(said)["pairs"]:
        pair = Pair(each["source"], each["destination"], each["protocol"].upper(), int(each["port"]))
        ends = {pair.source, pair.destination}
        if len(ends) == 2 and not any(end.startswith("fence/") for end in ends):
            found[pair] = each["verdict"] == "allow"
    return found


def test_everything_is_open_again(shared: Cluster) -> None:
    whole = Case(number=0, name="", pods="x/a x/b y/a y/b z/a z/b", steps=(Step(expect={ANY: ()}),))
    shared.run_step(whole, whole.steps[0])
    left = shared.lab.get("kubernetesnetworkpolicies", "-A")["items"]
    assert [each["metadata"]["name"] for each in left] == ["fence"]
