"""Tortie's verdict engine behind the same question that the oracle answers: documents, then packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from tests.oracle import judge
from tests.oracle.documents import Document
from tests.oracle.packets import WITH_PORTS
from tests.oracle.packets import Packet as Asked
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.desired.table import Delta
from tortie.net.addresses import Address
from tortie.resources import codec, registry
from tortie.resources.resource import Put, Resource
from tortie.verdict.journey import Traveller, Whereabouts
from tortie.verdict.packet import Packet
from tortie.verdict.state import State
from tortie.verdict.steps import Decision

Deltas = Sequence[Delta[Any, Any]]
Twist = Callable[[Deltas], Deltas]


class Side(NamedTuple):
    """One direction: the verdict, and what it came from as far as two engines can be held to the same words."""

    verdict: str
    decided_by: str
    by: str


class Answer(NamedTuple):
    """None where no workload stands on that side."""

    egress: Side | None
    ingress: Side | None


class Engine(Protocol):
    """What is held against the oracle."""

    def answer(self, packet: Asked) -> Answer:
        """The verdict on this packet."""
        ...


def wanted(verdict: judge.Verdict) -> Answer:
    """The oracle's verdict in these words."""
    return Answer(_wanted(verdict.egress), _wanted(verdict.ingress))


def _wanted(decision: judge.Decision | None) -> Side | None:
    if decision is None:
        return None
    by = ""
    if decision.policy is not None:
        policy = decision.policy
        by = f"{policy.kind} {policy.namespace}/{policy.name} rule {decision.index}"
    elif decision.profile:
        by = f"Profile /{decision.profile} rule {decision.index}"
    elif decision.tier:
        by = f"tier {decision.tier}"
    return Side("allow" if decision.allowed else "deny", decision.decided_by, by)


class TortieEngine:
    """The whole way of a policy: codec and validation, calculation for everywhere, verdict. ``twist`` changes the rows."""

    def __init__(self, documents: Iterable[Document], twist: Twist | None = None) -> None:
        self.resources = resources(documents)
        deltas = calculated(self.resources)
        self.state = State(twist(deltas) if twist else deltas)
        self.traveller = Traveller(self.state, Whereabouts())

    def answer(self, packet: Asked) -> Answer:
        journey = self.traveller.journey(translated(packet))
        return Answer(_side(journey.egress), _side(journey.ingress))


def rows(documents: Iterable[Document], scope: Scope | None = None) -> Deltas:
    """What the graph makes of documents."""
    return calculated(resources(documents), scope)


def resources(documents: Iterable[Document]) -> list[Resource[Any]]:
    """As they are stored; each of the documents must be one that ``apply`` takes."""
    found: list[Resource[Any]] = []
    for document in documents:
        info = registry.by_document(document["apiVersion"], document["kind"])
        assert info is not None, f"no kind {document['apiVersion']} {document['kind']}"
        resource = codec.decode(info, document)
        findings = info.validate(resource)
        assert not findings, f"{document}: {[str(each) for each in findings]}"
        found.append(info.normalise(resource))
    return found


def calculated(stored: Iterable[Resource[Any]], scope: Scope | None = None) -> Deltas:
    graph = CalcGraph(scope or Scope(None))
    graph.fold([Put(each) for each in stored])
    flush = graph.flush(in_sync=True)
    assert not flush.problems, [str(problem) for problem in flush.problems]
    return flush.deltas


def translated(packet: Asked) -> Packet:
    """In Tortie's words."""
    has_ports = packet.protocol in WITH_PORTS
    is_icmp = packet.protocol in (1, 58)
    return Packet(
        source=Address.parse(packet.source),
        destination=Address.parse(packet.destination),
        protocol=packet.protocol,
        source_port=packet.source_port if has_ports else None,
        destination_port=packet.destination_port if has_ports else None,
        icmp_type=packet.icmp_type if is_icmp else None,
        icmp_code=packet.icmp_code if is_icmp else None,
    )


def _side(decision: Decision) -> Side | None:
    if decision.verdict is None:
        return None
    by = ""
    # Those of a HostEndpoint on the way stand there as well.
    last = next((step for step in reversed(decision.steps) if step.endpoint == decision.endpoint), None)
    if last is not None and decision.decided_by in ("rule", "profile") and last.policy is not None:
        key = last.policy
        by = f"{key.kind} {key.namespace}/{key.name} rule {last.rule}"
    elif last is not None and decision.decided_by == "tier-end":
        by = f"tier {last.tier}"
    return Side(decision.verdict, decision.decided_by or "", by)
