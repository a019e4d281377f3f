"""The fuzz itself: many packets through each of many policy sets, the oracle on one side and an engine on the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from tests.fuzz.engine import Answer, Engine, TortieEngine, wanted
from tests.fuzz.hosts import HostEngine, HostMarksman, host_set
from tests.fuzz.packets import Marksman
from tests.fuzz.policies import policy_set
from tests.oracle.documents import Document
from tests.oracle.hosts import HostOracle
from tests.oracle.judge import Oracle, Verdict
from tests.oracle.packets import Packet

PACKETS_A_SET = 200
MakeEngine = Callable[[Sequence[Document]], Engine]


@dataclass(frozen=True)
class Difference:
    """Where the two do not agree. ``seed`` alone makes the whole set again."""

    seed: int
    packet: Packet
    wanted: Answer
    got: Answer
    documents: Sequence[Document]

    def __str__(self) -> str:
        shown = ("HostEndpoint", "FelixConfiguration")
        policies = [
            each for each in self.documents if each["kind"].endswith("Policy") or each["kind"] in shown
        ]
        lines = "\n".join(json.dumps(each, sort_keys=True) for each in policies)
        return f"seed {self.seed}\n{self.packet}\noracle {self.wanted}\nengine {self.got}\n{lines}"


class Counting(Protocol):
    """Takes note of what decided."""

    def add(self, oracle: Oracle, verdict: Verdict) -> None: ...


@dataclass(frozen=True)
class Realm:
    """What is fuzzed: how documents are drawn, who judges by them, who draws packets, and the engine that is held against it."""

    documents: Callable[[Random], list[Document]]
    judge: Callable[[Sequence[Document]], Oracle]
    marksman: Callable[[Random, Any], Marksman]
    engine: MakeEngine


PODS = Realm(policy_set, Oracle, Marksman, TortieEngine)
HOSTS = Realm(host_set, HostOracle, HostMarksman, HostEngine)


def policy_sets(
    seeds: Iterable[int], realm: Realm = PODS
) -> Iterator[tuple[int, Random, list[Document], Oracle]]:
    """One set a seed, with what judges it; the generator goes on to draw its packets."""
    for seed in seeds:
        rng = Random(seed)
        documents = realm.documents(rng)
        yield seed, rng, documents, realm.judge(documents)


def differences(
    seeds: Iterable[int],
    make: MakeEngine | None = None,
    *,
    counts: Counting | None = None,
    packets: int = PACKETS_A_SET,
    realm: Realm = PODS,
) -> Iterator[Difference]:
    """Every pair on which they differ. ``make`` makes another engine than the realm's own."""
    for seed, rng, documents, oracle in policy_sets(seeds, realm):
        engine = (make or realm.engine)(documents)
        marksman = realm.marksman(rng, oracle)
        for _ in range(packets):
            packet = marksman.packet()
            verdict = oracle.judge(packet)
            if counts is not None:
                counts.add(oracle, verdict)
            right, got = wanted(verdict), engine.answer(packet)
            if right != got:
                yield Difference(seed, packet, right, got, documents)
