"""The rules of a thousand local pods and five thousand policies into this machine's kernel, all at once and one change at a time;
reading their counters; a set of a hundred thousand addresses.

Beside it what Debian's tools need for the same: ``nft -f`` of the very rules that stand there afterwards, and
``iptables-restore`` of linear chains that say the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.bench import crowd, linear
from tests.bench.figures import Figure
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.desired.table import Delta, Flush
from tortie.kernel import netns
from tortie.net.addresses import Address
from tortie.resources.resource import Delete, Put, Resource, Update
from tortie.resources.rules import EntityRule, Rule

RUNS = 40
NODE = "n0"
MEMBER_COUNT = 100_000
_SET = "s:many"


async def run() -> list[Figure]:
    with _namespaces(3) as (name, for_nft, for_iptables):
        crowd.wire(name, range(crowd.PODS + 1))
        figures = await _ours(name)
        # nft shows a lookup by what a map brought in words that it does not read: two rules a family less.
        shown = _inside(name, "nft", "list", "ruleset").splitlines(keepends=True)
        rules = "".join(line for line in shown if "[invalid type]" not in line)
        alone = _timed_tool(for_nft, rules, "nft", "-f", "-")
        chains = linear.chains(range(crowd.PODS), crowd.POLICIES)
        # What a tool of that kind does for one change: it hands over the chains anew.
        theirs = [_timed_tool(for_iptables, chains, *linear.RESTORE) for _ in range(3)]
    lines = len(rules.splitlines())
    return [
        *figures,
        _figure(f"`nft -f` of the rules that stand then ({lines:,} lines)", f"{alone:.2f} s", "1"),
        _figure(
            f"`{linear.RESTORE[0]}` of linear chains that say the same for IPv4 ({chains.count('-A '):,} rules), "
            "for the first time and for every change",
            f"{theirs[0]:.2f} s, then {statistics.median(theirs[1:]):.2f} s",
            "3",
        ),
    ]


async def _ours(name: str) -> list[Figure]:
    graph = CalcGraph(Scope(NODE))
    everything = [
        *crowd.namespaces(),
        *crowd.pods(NODE, versions=(4, 6)),
        *crowd.policies(),
        crowd.last_word(),
    ]
    graph.fold([Put(resource) for resource in everything])
    first = graph.flush(in_sync=True)
    plane = LinuxDataplane(namespace=name)
    await plane.start()
    load = await _seconds(plane, first)
    writes = plane.kernel_writes
    again = await _seconds(plane, first)
    rewritten = plane.kernel_writes - writes
    changes: dict[str, list[float]] = {}
    for what, updates in _changes().items():
        changes[what] = []
        for update in updates:
            graph.fold([update])
            flush = graph.flush(in_sync=True)
            assert flush.deltas, what
            changes[what].append(await _seconds(plane, flush))
    await plane.close()
    last = crowd.flushed(NODE, everything)
    successor = LinuxDataplane(namespace=name)
    await successor.start()
    adoption = await _seconds(successor, dataclasses.replace(last, generation=2))
    assert successor.kernel_writes == 0
    began = time.perf_counter()
    assert len(await successor.policy_counts()) > crowd.POLICIES
    counting = time.perf_counter() - began
    filling, *growing = [await _seconds(successor, Flush(3, deltas, in_sync=True)) for deltas in _set()]
    await successor.close()
    shape = f"{crowd.PODS:,} pods and {crowd.POLICIES:,} policies"
    return [
        _figure(f"load {shape}, IPv4 and IPv6, routes and sysctls included", f"{load:.2f} s", "1"),
        _figure(
            "apply the same again", f"{again:.2f} s, {rewritten} writes", "1", "0 writes", rewritten == 0
        ),
        _figure("a new agent adopts them", f"{adoption:.2f} s, 0 writes", "1"),
        *(
            _figure(f"{what}, beside them", _milliseconds(times), str(len(times)))
            for what, times in changes.items()
        ),
        _figure("read every rule's counter", f"{counting:.2f} s", "1"),
        _figure(f"fill a set with {MEMBER_COUNT:,} addresses", f"{filling:.2f} s", "1"),
        _figure("one address more in it", _milliseconds(growing), str(len(growing))),
    ]


def _changes() -> dict[str, list[Update]]:
    """Each ends as it began, so that a new agent finds what it wants."""
    one = next(crowd.policies())
    peer = next(crowd.pods("elsewhere", [crowd.PODS + 2], (4, 6)))
    local = next(crowd.pods(NODE, [crowd.PODS], (4, 6)))

    def ruled(port: int) -> Update:
        rule = Rule(action="Allow", protocol="TCP", destination=EntityRule(ports=(port,)))
        return Put(one.with_spec(msgspec.structs.replace(one.spec, ingress=(rule,))))

    everyone = crowd.broad("everyone", 1.0, Rule(action="Deny", protocol="UDP"))
    return {
        "a rule of a policy for ten pods changes": [*(ruled(81 + n) for n in range(RUNS - 1)), Put(one)],
        "a policy that selects all 1,000 pods comes or goes": _turns(everyone, RUNS),
        "a remote pod comes into or leaves a set": _turns(peer, RUNS),
        "a local pod with 51 policies comes or goes": _turns(local, RUNS),
    }


def _set() -> Iterator[tuple[Delta[Any, Any], ...]]:
    """One set, at first with many members, then one more each time."""
    first = Address.parse("10.128.0.0").value
    members = [Member(_SET, Address(4, first + number).prefix) for number in range(MEMBER_COUNT + RUNS)]
    yield (
        Delta(IPSETS, {_SET: IPSetRow()}),
        Delta(MEMBERS, dict.fromkeys(members[:MEMBER_COUNT], PRESENT)),
    )
    for member in members[MEMBER_COUNT:]:
        yield (Delta(MEMBERS, {member: PRESENT}),)


def _turns(resource: Resource[Any], count: int) -> list[Update]:
    return [Delete(resource.key) if number % 2 else Put(resource) for number in range(count)]


async def _seconds(plane: LinuxDataplane, flush: Flush) -> float:
    began = time.perf_counter()
    applied = await plane.apply(flush)
    took = time.perf_counter() - began
    assert not applied.failed, applied.failed
    return took


def _timed_tool(name: str, text: str, *command: str) -> float:
    began = time.perf_counter()
    _inside(name, *command, stdin=text)
    return time.perf_counter() - began


def _inside(name: str, *command: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", name, *command], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[:2000]}")
    return done.stdout


@contextlib.contextmanager
def _namespaces(count: int) -> Iterator[list[str]]:
    names = [f"bench-{os.getpid()}-{number}" for number in range(count)]
    for name in names:
        netns.create(name)
    try:
        yield names
    finally:
        for name in names:
            netns.delete(name)


def _figure(what: str, value: str, runs: str, target: str = "", met: bool | None = None) -> Figure:
    return Figure(subject="policy", what=what, value=value, runs=runs, target=target, met=met)


def _milliseconds(seconds: list[float]) -> str:
    ordered = sorted(1000 * each for each in seconds)
    return f"{statistics.median(ordered):.3g} ms, p95 {ordered[int(len(ordered) * 0.95)]:.3g} ms"
