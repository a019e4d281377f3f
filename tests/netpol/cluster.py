"""The cluster of the reachability cases: a lab of two nodes with every pod, and beside them a fence.

A table that says "all is allowed" is true before its policy is enforced, too. So with every change goes one to the fence: a
policy of two more pods, one on each node, that lets in one port, the next time the other. What was written before it is enforced
when the fence is seen to have changed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.lab.lab_command import LabCommand, finish, lab
from tests.netpol.documents import EVERYTHING, Document, namespace, policy, port
from tests.netpol.model import NAMED_PORTS, NODES, Case, Pair, Step, differences
from tests.netpol.prober import Prober, Question, Stand

FENCE = {"fence/a": "node1", "fence/b": "node2"}
SETTLE_SECONDS = 30.0


class Cluster:
    """``prober`` asks the pods; `run_step` changes policies and compares."""

    def __init__(
        self, command: LabCommand, prober: Prober, addresses: Mapping[str, Mapping[int, str]]
    ) -> None:
        self.lab = command
        self.prober = prober
        self.addresses = addresses
        self.datastore = ("--datastore", str(command.status()["datastore"]))
        self._fence_port = 80

    def apply(self, documents: Sequence[Document]) -> None:
        """``tortie apply``, with a change of the fence."""
        self._fence_port = 81 if self._fence_port == 80 else 80
        fence = policy("fence", "fence", EVERYTHING, ingress=[{"ports": [port(self._fence_port)]}])
        self._run("apply", "-f", "-", documents=[*documents, fence])

    def delete(self, names: Sequence[str]) -> None:
        """Policies by namespace/name."""
        if names:
            keys = [name.split("/") for name in names]
            found = [policy(where, name, EVERYTHING) for where, name in keys]
            self._run("delete", "-f", "-", documents=found)

    def label(self, what: str, labels: Mapping[str, str | None]) -> None:
        """``what`` is ``pod x/a`` or ``namespace y``; None takes a label away."""
        changes = [f"{name}-" if value is None else f"{name}={value}" for name, value in labels.items()]
        self._run("label", *what.split(), *changes)

    def check(self, expected: Mapping[Pair, bool]) -> None:
        """The whole table is as expected, over both IP versions, within a generous time; and again once it is."""
        wanted = {**expected, **self._fence()}
        deadline = time.monotonic() + SETTLE_SECONDS
        while wrong := self._differences(wanted):
            assert time.monotonic() < deadline, "\n".join(["these are not as expected:", *wrong[:40]])
        assert not (wrong := self._differences(wanted)), "\n".join(["it did not stay so:", *wrong[:40]])

    def stays(self, expected: Mapping[Pair, bool], done: Callable[[], bool]) -> None:
        """The whole table is as expected all the time, until it is done."""
        wanted = {**expected, **self._fence()}
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            over = done()
            assert not (wrong := self._differences(wanted)), "\n".join(
                ["for a while it was not so:", *wrong[:40]]
            )
            if over:
                return
            assert time.monotonic() < deadline, "it is not done"

    def run_step(self, case: Case, step: Step) -> None:
        self.delete(step.gone)
        for what, labels in step.labelled.items():
            self.label(what, labels)
        self.apply(case.documents(step, self.addresses))
        self.check(case.table(step))

    def undo(self, case: Case) -> None:
        """What the case's steps have left is removed."""
        made = {
            f"{each['metadata']['namespace']}/{each['metadata']['name']}"
            for step in case.steps
            for each in step.policies
        }
        gone = {name for step in case.steps for name in step.gone}
        self.delete(sorted(made - gone))
        for step in case.steps:
            for what, labels in step.labelled.items():
                self.label(what, dict.fromkeys(labels))

    def _fence(self) -> dict[Pair, bool]:
        return {
            Pair(source, destination, "TCP", number): number == self._fence_port
            for source, destination in (("fence/a", "fence/b"), ("fence/b", "fence/a"))
            for number in (80, 81)
        }

    def _differences(self, expected: Mapping[Pair, bool]) -> list[str]:
        questions = {
            Question(pair, version): allowed for pair, allowed in expected.items() for version in (4, 6)
        }
        seen = self.prober.ask(questions)
        return [
            f"over IPv{version}: {each}"
            for version in (4, 6)
            for each in differences(
                expected, {q.pair: was for q, was in seen.items() if q.version == version}
            )
        ]

    def _run(self, *argv: str, documents: Sequence[Document] = ()) -> None:
        text = "\n".join(f"---\n{json.dumps(document)}" for document in documents)
        self.lab.run(*self.datastore, *argv, stdin=text)


@contextmanager
def cluster(name: str, *options: str) -> Iterator[Cluster]:
    """Two nodes, both IP versions, and the pods of all cases; ``options`` are further ones of ``lab up``."""
    with lab(name, "--nodes", "2", "--dual-stack", *options) as made:
        made.apply(*(namespace(each) for each in ("x", "y", "z", "fence")))
        places = {**NODES, **FENCE}
        asyncio.run(_add_pods(made, places))
        found = {
            f"{pod['namespace']}/{pod['name']}": pod
            for node in made.status()["nodes"]
            for pod in node["pods"]
        }
        assert found.keys() == places.keys()
        stands = {name: stand_of(pod) for name, pod in found.items()}
        prober = Prober(stands)
        try:
            yield Cluster(made, prober, {name: stand.addresses for name, stand in stands.items()})
        finally:
            prober.close()


def stand_of(pod: Mapping[str, Any]) -> Stand:
    """Of a pod as the lab tells it."""
    return Stand(pod["netns"], {6 if ":" in ip else 4: ip for ip in pod["ips"]})


async def _add_pods(made: LabCommand, places: Mapping[str, str]) -> None:
    ports = ",".join(
        f"{name}:{protocol.lower()}:{number}" for name, (protocol, number) in NAMED_PORTS.items()
    )
    said = await asyncio.gather(
        *(
            finish(
                "env",
                f"TORTIE_LAB={made.name}",
                *(sys.executable, "-m", "tortie", "lab", "pod", "add", pod.split("/")[1]),
                *("--namespace", pod.split("/")[0], "--node", node),
                *("--labels", f"pod={pod.split('/')[1]}", "--ports", ports),
            )
            for pod, node in places.items()
        )
    )
    assert all("runs on" in each for each in said), said
