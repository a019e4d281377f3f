"""What a reachability case is: policies that come and go, and after each step who reaches whom.

The 48 cases are those of Kubernetes' own suite (``test/e2e/network/netpol``), whose names and pods they bear; policies and tables
are written here. A table says everything: each pod to each other pod of the case, in each protocol and port that is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from tests.netpol.documents import Addresses, Document, Labels, filled

NODES: Mapping[str, str] = {
    "x/a": "node1", "x/b": "node2", "x/c": "node1",
    "y/a": "node2", "y/b": "node1", "y/c": "node2",
    "z/a": "node1", "z/b": "node2",
}  # fmt: skip
"""Every pod of every case, and where it runs: each table has pairs on one node and across."""

PORTS = (80, 81)
PROTOCOLS = ("TCP", "UDP", "SCTP")
NAMED_PORTS = {
    f"serve-{number}-{protocol.lower()}": (protocol, number) for number in PORTS for protocol in PROTOCOLS
}
"""The names of every pod's ports."""

ANY = "TCP 80 81, UDP 80 81"
"""For policies that say nothing of ports."""


class Pair(NamedTuple):
    """One question: does ``source`` reach ``destination`` there?"""

    source: str
    destination: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} {self.protocol} {self.port}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """``policies`` are applied, ``gone`` (by namespace/name) deleted, ``labelled`` pods and namespaces given further labels.

    ``expect`` says for ``TCP 80 81`` what differs from "everything is allowed", as ``deny FROM TO`` and ``allow FROM TO`` with
    ``*`` for any name; what comes later weighs more.
    """

    expect: Mapping[str, tuple[str, ...]]
    policies: tuple[Document, ...] = ()
    gone: tuple[str, ...] = ()
    labelled: Mapping[str, Labels] = field(default_factory=dict[str, "Labels"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """``besides`` are pods that Kubernetes' suite does not look at here, and that show what would not be seen else."""

    number: int
    name: str
    pods: str
    steps: tuple[Step, ...]
    besides: str = ""

    @property
    def all_pods(self) -> tuple[str, ...]:
        return tuple(f"{self.pods} {self.besides}".split())

    def table(self, step: Step) -> dict[Pair, bool]:
        """The whole of what is expected after the step."""
        return {
            Pair(source, destination, protocol, port): _allowed(exceptions, source, destination)
            for where, exceptions in step.expect.items()
            for protocol, port in _ports(where)
            for source in self.all_pods
            for destination in self.all_pods
            if source != destination
        }

    def documents(self, step: Step, addresses: Addresses) -> list[Document]:
        return [filled(each, addresses) for each in step.policies]


def _ports(where: str) -> Iterator[tuple[str, int]]:
    """``TCP 80 81, UDP 80`` one by one."""
    for part in where.split(","):
        protocol, *numbers = part.split()
        assert protocol in PROTOCOLS, where
        for number in numbers:
            yield protocol, int(number)


def _allowed(exceptions: tuple[str, ...], source: str, destination: str) -> bool:
    allowed = True
    for each in exceptions:
        action, sources, destinations = each.split()
        assert action in ("allow", "deny"), each
        if fnmatchcase(source, sources) and fnmatchcase(destination, destinations):
            allowed = action == "allow"
    return allowed


def differences(expected: Mapping[Pair, bool], seen: Mapping[Pair, bool]) -> list[str]:
    """Each pair that is not as it should be."""
    return [
        f"{pair}: {'denied' if wanted else 'allowed'}"
        for pair, wanted in expected.items()
        if seen.get(pair) is not wanted
    ]
