"""Questions about policy in a large cluster: one packet, all pairs of a thousand pods, and what a change would change."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.bench.figures import Figure, percentile
from tortie.diagnostics import preview as previews
from tortie.diagnostics.cluster import Cluster, build, overlay
from tortie.diagnostics.explain import Question, explain
from tortie.diagnostics.matrix import as_json, matrix
from tortie.diagnostics.ports import parse_port
from tortie.resources.kubernetes_network_policy import (
    KUBERNETES_NETWORK_POLICY,
    IngressRule,
    KubernetesNetworkPolicySpec,
    LabelSelector,
    PolicyPeer,
    PolicyPort,
)
from tortie.resources.namespace import NAMESPACE, NamespaceSpec
from tortie.resources.pod import POD, PodSpec
from tortie.resources.resource import Metadata, Put, Resource, ResourceKey, Update

PODS, NAMESPACES, APPS, POLICIES = 1000, 20, 50, 800
ROUNDS = 5
QUESTIONS = 400

T = TypeVar("T")


def resources() -> list[Update]:
    """A thousand pods of fifty applications in twenty namespaces. Half of the policies are of an application, half of one pod."""
    spaces = [
        Resource(
            key=ResourceKey(NAMESPACE, f"ns{number}"),
            metadata=Metadata(labels={"team": f"t{number % 5}"}),
            spec=NamespaceSpec(),
        )
        for number in range(NAMESPACES)
    ]
    pods = [
        Resource(
            key=ResourceKey(POD, f"p{number}", f"ns{number % NAMESPACES}"),
            metadata=Metadata(labels={"app": f"a{number % APPS}", "pod": f"p{number}"}),
            spec=PodSpec(node_name=f"node{number % 10}"),
        )
        for number in range(PODS)
    ]
    return [*map(Put, spaces), *map(Put, pods), *(Put(policy(number)) for number in range(POLICIES))]


def policy(number: int, *, port: int | None = None) -> Resource[KubernetesNetworkPolicySpec]:
    of_app = number % 2 == 0
    mine, theirs = (
        ({"app": f"a{number % APPS}"}, {"app": f"a{number * 7 % APPS}"})
        if of_app
        else ({"pod": f"p{number}"}, {"pod": f"p{number * 13 % PODS}"})
    )
    peers = (
        PolicyPeer(pod_selector=LabelSelector(match_labels=theirs)),
        PolicyPeer(namespace_selector=LabelSelector(match_labels={"team": f"t{number % 5}"})),
    )
    rule = IngressRule(peers=peers, ports=(PolicyPort(protocol="TCP", port=port or 80 + number % 10),))
    spec = KubernetesNetworkPolicySpec(pod_selector=LabelSelector(match_labels=mine), ingress=(rule,))
    return Resource(
        key=ResourceKey(KUBERNETES_NETWORK_POLICY, f"np{number}", f"ns{number % NAMESPACES}"), spec=spec
    )


def timed(work: Callable[[], T], rounds: int = ROUNDS) -> tuple[T, list[float]]:
    times: list[float] = []
    while True:
        begun = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - begun)
        if len(times) == rounds:
            return found, times


def figure(what: str, times: Sequence[float], target: float | None = None) -> Figure:
    middle = statistics.median(times)
    return Figure(
        subject="verdict",
        what=what,
        value=f"{middle:.2f} s (worst {max(times):.2f} s)",
        runs=f"{len(times)}",
        target="" if target is None else f"≤ {target:g} s",
        met=None if target is None else middle <= target,
    )


def questions(cluster: Cluster) -> list[float]:
    """Milliseconds of single questions, spread over the pods."""
    names = list(cluster.pods)
    times: list[float] = []
    for number in range(QUESTIONS):
        source, destination = names[number * 37 % PODS], names[number * 101 % PODS]
        asked = Question(source=source, destination=destination, port=parse_port(f"{80 + number % 12}/tcp"))
        begun = time.perf_counter()
        explain(cluster, asked)
        times.append((time.perf_counter() - begun) * 1000)
    return times


async def run() -> list[Figure]:
    updates = resources()
    size = f"{PODS:,} pods, {POLICIES} policies"
    cluster, building = timed(lambda: build(updates))
    found, asking = timed(lambda: matrix(cluster, parse_port("80/tcp")))
    pairs, writing = timed(lambda: sum(len(piece) for piece in as_json([found])))
    change = policy(0, port=443)
    changed = build(overlay(updates, [change]))
    preview, comparing = timed(lambda: previews.preview(cluster, changed))
    single = questions(cluster)
    assert preview.changes, "the change that is measured changes something"
    return [
        figure(f"rows of everywhere from resources, {size}", building),
        figure(f"who reaches whom, {PODS:,} × {PODS:,}, {size}", asking, 5),
        figure(f"its JSON, {PODS**2:,} pairs, {pairs / 1e6:.0f} MB", writing, 5),
        figure(f"preview of one changed policy, all ports, {size}", comparing, 10),
        Figure(
            subject="verdict",
            what=f"one question, {size}",
            value=f"{statistics.median(single):.2f} ms (p99 {percentile(single, 0.99):.2f} ms)",
            runs=f"{QUESTIONS}",
        ),
    ]
