"""The calculation alone: 100,000 endpoints of 500 nodes, 200 of them this node's, and 10,000 policies with selectors.

``python -m tests.bench.calc [some|all]`` runs this alone. *some*: each policy is for the ten pods of one application, so that
those few matter here which select a pod of this node. *all*: each policy selects every pod of the cluster, and so matters here.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure
from tests.scenarios.build import pod, profile
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.desired.table import Flush
from tortie.resources.global_network_policy import GLOBAL_NETWORK_POLICY, GlobalNetworkPolicySpec
from tortie.resources.network_policy import NETWORK_POLICY, NetworkPolicySpec
from tortie.resources.resource import Put, Resource, ResourceKey, Update
from tortie.resources.rules import EntityRule, Rule

ENDPOINTS, LOCAL, POLICIES = 100_000, 200, 10_000
PODS = 10
"""Pods of one application."""
APPLICATIONS = 10
"""Applications in one namespace."""
CHANGES = 200
LAYOUTS = ("some", "all")


async def run() -> list[Figure]:
    return [figure for layout in LAYOUTS for figure in _figures(layout)]


def _figures(layout: str) -> Iterator[Figure]:
    timed, traced = _child(layout, "time"), _child(layout, "memory")
    what = {"some": "policies for one application each", "all": "policies that all select every pod"}[layout]

    def figure(text: str, value: str, runs: str = "1") -> Figure:
        return Figure(subject="calc", what=f"{what}: {text}", value=value, runs=runs)

    rows = timed["rows"]
    shape = f"{rows['policies']:,} policies, {rows['ipsets']:,} sets, {rows['members']:,} members matter here"
    yield figure("cold start of the calculation", f"{timed['cold']:.1f} s ({shape})")
    yield figure("the process's memory after it (RSS, over an empty one)", f"{timed['rss_mib']:.0f} MiB")
    nodes = ", ".join(f"{name} {mib:.1f}" for name, mib in traced["nodes"].items())
    yield figure("memory of Python objects by node of the graph (MiB)", nodes)
    for change, milliseconds in timed["changes"].items():
        middle, worst = statistics.median(milliseconds), max(milliseconds)
        runs = str(len(milliseconds))
        yield figure(f"{change}, fold and flush", f"{middle:.3g} ms (worst {worst:.3g} ms)", runs)


def _child(layout: str, what: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.calc", layout, what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=900)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# What there is


def endpoint(number: int, *, labels: dict[str, str] | None = None, address: int = 0) -> Update:
    """Pods of one application are spread over the nodes."""
    application = number // PODS
    value = 0x0A000000 + number + address
    text = ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
    own = {"app": f"app-{application}", "version": "v1", "pod-template-hash": f"{application:08x}"}
    return Put(
        pod(
            f"n{number % (ENDPOINTS // LOCAL)}",
            f"pod-{number}",
            f"{text}/32",
            labels={**own, **(labels or {})},
            namespace=_namespace(application),
        )
    )


def _namespace(application: int) -> str:
    return f"ns-{application // APPLICATIONS}"


def namespace(number: int, team: str = "red") -> Update:
    return Put(
        profile(f"kns.ns-{number}", {"pcns.team": team, "pcns.projectcalico.org/name": f"ns-{number}"})
    )


def policy(number: int, layout: str, port: int = 80) -> Update:
    peer = EntityRule(selector=f"app == 'app-{number + 1}'")
    ports = EntityRule(ports=(port, "8080:8090"))
    rules: dict[str, Any] = {
        "types": ("Ingress", "Egress"),
        "ingress": (Rule(action="Allow", protocol="TCP", source=peer, destination=ports),),
        "egress": (Rule(action="Allow", destination=EntityRule(namespace_selector="team == 'blue'")),),
    }
    if layout == "all":
        key = ResourceKey(GLOBAL_NETWORK_POLICY, f"p-{number}")
        return Put(Resource(key=key, spec=GlobalNetworkPolicySpec(selector="has(app)", **rules)))
    key = ResourceKey(NETWORK_POLICY, f"p-{number}", _namespace(number))
    return Put(Resource(key=key, spec=NetworkPolicySpec(selector=f"app == 'app-{number}'", **rules)))


def everything(layout: str) -> Iterator[Update]:
    """In the order of arrival that costs most: what selects before what is selected."""
    yield from (policy(number, layout) for number in range(POLICIES))
    yield from (namespace(number) for number in range(ENDPOINTS // PODS // APPLICATIONS))
    yield from (endpoint(number) for number in range(ENDPOINTS))


# What it costs


def _fold(graph: CalcGraph, updates: Iterable[Update]) -> float:
    """Seconds in the graph alone, and not in making resources."""
    taken = 0.0
    batch: list[Update] = []
    for update in updates:
        batch.append(update)
        if len(batch) == 500:
            taken += _timed(graph, batch)
            batch = []
    return taken + _timed(graph, batch)


def _timed(graph: CalcGraph, updates: list[Update]) -> float:
    started = time.perf_counter()
    graph.fold(updates)
    return time.perf_counter() - started


def _time(layout: str) -> dict[str, Any]:
    gc.set_threshold(50_000, 20, 20)  # as the agent does
    before = _rss()
    graph = CalcGraph(Scope("n0"))
    cold = _fold(graph, everything(layout))
    started = time.perf_counter()
    flush = graph.flush(in_sync=True)
    cold += time.perf_counter() - started
    rows = {delta.table.name: len(delta.put) for delta in flush.deltas}
    del flush
    gc.collect()
    rss = (_rss() - before) / 2**20
    gc.freeze()
    here, there = 0, 1
    changes = {
        "a remote endpoint's address changes": [
            endpoint(there, address=n % 2 << 20) for n in range(1, CHANGES + 1)
        ],
        "a remote endpoint's label changes": [
            endpoint(there, labels={"app": f"app-{n % 7}"}) for n in range(CHANGES)
        ],
        "a local endpoint's label changes": [
            endpoint(here, labels={"app": f"app-{n % 7}"}) for n in range(CHANGES)
        ],
        "a label of a namespace of 100 endpoints changes": [
            namespace(0, "blue" if n % 2 else "red") for n in range(1, CHANGES + 1)
        ],
        "a policy's rules change": [policy(0, layout, 81 + n) for n in range(CHANGES)],
    }
    measured = {name: [_one(graph, update) for update in updates] for name, updates in changes.items()}
    return {"cold": cold, "rows": rows, "rss_mib": rss, "changes": measured}


def _one(graph: CalcGraph, update: Update) -> float:
    started = time.perf_counter()
    graph.fold([update])
    flushed: Flush = graph.flush(in_sync=True)
    milliseconds = (time.perf_counter() - started) * 1000
    assert flushed.generation
    return milliseconds


def _memory(layout: str) -> dict[str, Any]:
    graph = CalcGraph(Scope("n0"))
    tracemalloc.start()
    _fold(graph, everything(layout))
    graph.flush(in_sync=True)
    gc.collect()
    found: Counter[str] = Counter()
    for statistic in tracemalloc.take_snapshot().statistics("filename"):
        path = Path(statistic.traceback[0].filename)
        found[path.stem if path.parent.name == "calc" else "others"] += statistic.size
    return {"nodes": {name: size / 2**20 for name, size in found.most_common() if size > 2**17}}


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    layout, what = [*sys.argv[1:], "", ""][:2]
    if what:
        print(json.dumps((_time if what == "time" else _memory)(layout)))
        return
    for each in [layout] if layout else LAYOUTS:
        for figure in _figures(each):
            print(figure.row())


if __name__ == "__main__":
    main()
