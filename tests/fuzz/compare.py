"""The fuzz itself: many packets through each of many policy sets, the oracle on one side and an engine on the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz.counts import Counts
from tests.fuzz.engine import Answer, Engine, TortieEngine, wanted
from tests.fuzz.packets import Marksman
from tests.fuzz.policies import policy_set
from tests.oracle.documents import Document
from tests.oracle.judge import Oracle
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
        policies = [each for each in self.documents if each["kind"].endswith("Policy")]
        lines = "\n".join(json.dumps(each, sort_keys=True) for each in policies)
        return f"seed {self.seed}\n{self.packet}\noracle {self.wanted}\nengine {self.got}\n{lines}"


def policy_sets(seeds: Iterable[int]) -> Iterator[tuple[int, Random, list[Document], Oracle]]:
    """One set a seed, with what judges it; the generator goes on to draw its packets."""
    for seed in seeds:
        rng = Random(seed)
        documents = policy_set(rng)
        yield seed, rng, documents, Oracle(documents)


def differences(
    seeds: Iterable[int],
    make: MakeEngine = TortieEngine,
    *,
    counts: Counts | None = None,
    packets: int = PACKETS_A_SET,
) -> Iterator[Difference]:
    """Every pair on which they differ."""
    for seed, rng, documents, oracle in policy_sets(seeds):
        engine = make(documents)
        marksman = Marksman(rng, oracle)
        for _ in range(packets):
            packet = marksman.packet()
            verdict = oracle.judge(packet)
            if counts is not None:
                counts.add(oracle, verdict)
            right, got = wanted(verdict), engine.answer(packet)
            if right != got:
                yield Difference(seed, packet, right, got, documents)
