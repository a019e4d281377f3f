"""Who reaches whom, and what a change would change, each against single questions."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.unit.diagnostics.shop import FROM_NET, PODS, POOL, WEB_FROM_CLIENTS, cluster, updates
from tortie.diagnostics import matrix as matrices
from tortie.diagnostics import preview as previews
from tortie.diagnostics.cluster import build, overlay
from tortie.diagnostics.explain import Question, explain
from tortie.diagnostics.ports import parse_port
from tortie.resources.reading import read

BOTH = POOL % "10.0.0.0/16" + "---" + (POOL % "fd00::/64").replace("name: pods", "name: six")


def pairs(*texts: str, port: str = "http") -> list[dict[str, Any]]:
    found = matrices.matrix(cluster(*texts), parse_port(port))
    document: dict[str, list[dict[str, Any]]] = json.loads("".join(matrices.as_json([found])))
    assert set(document) == {"pairs"}
    return document["pairs"]


@pytest.mark.parametrize("port", ["80", "8080", "53/udp", "icmp", "proto/47"])
@pytest.mark.parametrize("texts", [(), (WEB_FROM_CLIENTS,), (FROM_NET, BOTH), (WEB_FROM_CLIENTS, FROM_NET)])
def test_every_pair_is_what_explain_says(texts: tuple[str, ...], port: str) -> None:
    world = cluster(*texts)
    asked = parse_port(port)
    expected = [
        {
            "source": source,
            "destination": destination,
            "port": asked.shown,
            "protocol": asked.protocol_name,
            "verdict": explain(world, Question(source=source, destination=destination, port=asked)).verdict,
        }
        for source, destination in itertools.product(world.pods, repeat=2)
    ]
    assert pairs(*texts, port=port) == expected
    assert len(expected) == 9


def test_a_name_is_that_of_the_destination() -> None:
    found = pairs(WEB_FROM_CLIENTS)
    assert {pair["destination"] for pair in found} == {"shop/web"}
    assert {pair["source"]: pair["verdict"] for pair in found} == {
        "other/stranger": "deny",
        "shop/client": "allow",
        "shop/web": "allow",
    }
    assert {(pair["port"], pair["protocol"]) for pair in found} == {("http", "tcp")}


def test_for_people_alike_pods_stand_together() -> None:
    text = "".join(matrices.as_text(matrices.matrix(cluster(WEB_FROM_CLIENTS), parse_port("8080"))))
    assert text.startswith("8080/tcp: 8 of 9 pairs of pods may talk")
    assert "shop/web" in text
    assert "deny" in text


def test_pairs_that_differ_by_ip_version_are_told() -> None:
    found = matrices.matrix(cluster(FROM_NET, BOTH), parse_port("80"))
    assert found.notes == ("2 pairs have another verdict over IPv6: ask with --ip-version 6",)


def test_verdicts_that_may_hang_on_an_address_are_told() -> None:
    """Of a pod in a file alone; not where no rule asks in which net it is, nor where every address it may get is in the net."""
    (note,) = matrices.matrix(cluster(FROM_NET), parse_port("80")).notes
    assert note.startswith("3 pods have no addresses yet, and NetworkPolicy shop/net asks in which net")
    assert previews.preview(cluster(), cluster(FROM_NET)).notes == (note,)
    assert matrices.matrix(cluster(WEB_FROM_CLIENTS), parse_port("80")).notes == ()
    within = cluster(FROM_NET, POOL % "10.1.0.0/16")
    assert matrices.matrix(within, parse_port("80")).notes == ()


def test_a_preview_without_pods_says_that_nothing_was_compared() -> None:
    nobody = build(updates(WEB_FROM_CLIENTS))
    text = "".join(previews.as_text(previews.preview(nobody, nobody)))
    assert text.endswith("note: there are no pods to compare\n")


def change(before: str, after: str, *ports: str) -> list[tuple[Any, ...]]:
    below = updates(PODS, before) if before else updates(PODS)
    found = previews.preview(
        build(below), build(overlay(below, read(after, "new.yaml"))), [parse_port(port) for port in ports]
    )
    document = json.loads("".join(previews.as_json(found)))
    assert set(document) == {"pairs"}
    fields = ("source", "destination", "port", "protocol", "before", "after")
    assert all(set(pair) == set(fields) for pair in document["pairs"])
    return [tuple(pair[field] for field in fields) for pair in document["pairs"]]


def test_a_preview_tells_what_changes_and_on_which_ports() -> None:
    found = change("", WEB_FROM_CLIENTS)
    assert [each for each in found if each[0] == "shop/client"] == [
        ("shop/client", "shop/web", "1-8079", "tcp", "allow", "deny"),
        ("shop/client", "shop/web", "8081-65535", "tcp", "allow", "deny"),
        ("shop/client", "shop/web", "1-65535", "udp", "allow", "deny"),
        ("shop/client", "shop/web", "1-65535", "sctp", "allow", "deny"),
        ("shop/client", "shop/web", None, "icmp", "allow", "deny"),
    ]
    assert [each[2] for each in found if each[0] == "other/stranger" and each[3] == "tcp"] == [
        "1-8079",
        8080,
        "8081-65535",
    ]
    assert {each[1] for each in found} == {"shop/web"}


def test_a_preview_of_one_port() -> None:
    assert change("", WEB_FROM_CLIENTS, "8080", "443") == [
        ("other/stranger", "shop/web", 8080, "tcp", "allow", "deny"),
        ("other/stranger", "shop/web", 443, "tcp", "allow", "deny"),
        ("shop/client", "shop/web", 443, "tcp", "allow", "deny"),
    ]


def test_a_preview_of_what_is_there_already_changes_nothing() -> None:
    assert change(WEB_FROM_CLIENTS, WEB_FROM_CLIENTS) == []
    text = "".join(previews.as_text(previews.preview(cluster(), cluster())))
    assert text == "no pair of pods gets another verdict\n"


def test_other_labels_change_verdicts_too() -> None:
    relabelled = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: none}}
spec: {nodeName: two, serviceAccountName: payer}
"""
    assert change(WEB_FROM_CLIENTS, relabelled) == [("shop/client", "shop/web", 8080, "tcp", "allow", "deny")]


def test_new_pods_are_told_and_not_compared() -> None:
    below = updates(PODS)
    new = "{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: shop}, spec: {}}"
    found = previews.preview(build(below), build(overlay(below, read(new, "new.yaml"))))
    assert found.notes == ("1 pod is new, and not compared",)
    lines = "".join(previews.as_text(previews.preview(cluster(), cluster(WEB_FROM_CLIENTS))))
    assert (
        "1-65535/udp, 1-65535/sctp, icmp\n  allow becomes deny: from other/stranger, shop/client to shop/web"
        in lines
    )


def test_what_apply_would_change_besides_is_previewed_too() -> None:
    """Stored endpoints and profiles follow the labels of their pods and namespaces."""
    real = PODS + "---" + STORED
    policy = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: app == 'web'
  ingress:
  - {action: Allow, source: {selector: app == 'client', namespaceSelector: team == 'a'}}
"""
    below = updates(real, policy)
    before = build(below)
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: other}}
spec: {nodeName: two}
"""
    namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: z}}}"
    for text in (pod, namespace):
        after = build(overlay(below, read(text, "new.yaml")))
        found = previews.preview(before, after, [parse_port("80")])
        document = json.loads("".join(previews.as_json(found)))
        assert [(pair["source"], pair["after"]) for pair in document["pairs"]] == [("shop/client", "deny")], (
            text
        )


STORED = """
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: kns.shop}
spec:
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
  labelsToApply: {pcns.projectcalico.org/name: shop, pcns.team: a}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata:
  name: two-k8s-client-eth0
  namespace: shop
  labels: {app: client, projectcalico.org/namespace: shop, projectcalico.org/orchestrator: k8s}
spec:
  orchestrator: k8s
  node: two
  pod: client
  endpoint: eth0
  containerID: abc
  interfaceName: cali123
  ipNetworks: [10.0.0.9/32]
  profiles: [kns.shop]
"""


def test_a_stored_endpoint_without_its_profile_is_shut_as_in_the_kernel() -> None:
    orphan = updates(
        PODS, STORED.replace("name: kns.shop", "name: kns.else").replace("[kns.shop]", "[kns.gone]")
    )
    question = Question(source="shop/web", destination="shop/client", port=parse_port("80"))
    assert explain(build(orphan), question).verdict == "deny"
    assert explain(build(orphan, offline=True), question).verdict == "allow"


def test_a_network_set_that_might_hold_the_pod_leaves_a_doubt() -> None:
    policy = FROM_NET.replace("nets: [10.0.0.0/8]", "selector: zone == 'x'")
    nets = """
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: x, namespace: shop, labels: {zone: x}}
spec: {nets: [%s]}
"""
    question = Question(source="shop/client", destination="shop/web", port=parse_port("80"))
    for net, pool, doubt in (
        ("10.0.0.0/8", "", True),
        ("10.0.0.7/32", "", True),
        ("10.0.0.0/8", "10.1.0.0/16", False),
        ("10.1.0.0/24", "10.1.0.0/16", True),
        ("172.16.0.0/12", "10.1.0.0/16", False),
    ):
        texts = (policy, nets % net, POOL % pool) if pool else (policy, nets % net)
        assert bool(explain(cluster(*texts), question).notes) is doubt, (net, pool)
