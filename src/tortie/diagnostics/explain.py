"""One packet's way through all policies: which rule lets it pass or drops it, and what would have to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tortie.diagnostics.cluster import Cluster, Pod
from tortie.diagnostics.ports import Port
from tortie.diagnostics.services import MOST_SHOWN, Service
from tortie.errors import UsageError
from tortie.net.addresses import Address
from tortie.resources.kubernetes import ORCHESTRATOR
from tortie.verdict.doubt import Doubt, hangs_on
from tortie.verdict.engine import asking
from tortie.verdict.journey import Asking, Journey, Traveller
from tortie.verdict.packet import SOURCE_PORT, WITH_PORTS, Packet
from tortie.verdict.steps import Decision, NearMiss, Step, Verdict


@dataclass(frozen=True, kw_only=True)
class Question:
    """``source`` and ``destination`` are NAMESPACE/POD, the name of a node, or an address."""

    source: str
    destination: str
    port: Port
    source_port: int = SOURCE_PORT
    ip_version: int | None = None
    established: bool = False


@dataclass(frozen=True, kw_only=True)
class Party:
    """Who was meant: how it was found, and its addresses."""

    name: str
    found_by: str
    addresses: tuple[Address, ...]
    pod: Pod | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``notes`` are sentences about what the answer takes for granted."""

    question: Question
    source: Party
    destination: Party
    packet: Packet
    journey: Journey
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return self.journey.verdict

    def document(self) -> dict[str, Any]:
        """The answer for machines. ``notes`` are there only when there are some."""
        found: dict[str, Any] = {
            "verdict": self.verdict,
            "egress": decision_document(self.journey.egress),
            "ingress": decision_document(self.journey.ingress),
        }
        if self.notes:
            found["notes"] = list(self.notes)
        return found


def explain(cluster: Cluster, question: Question) -> Answer:
    """Raises `UsageError` when an end or the port is not to be found."""
    source, destination = (
        _party(cluster, question.source, "--from"),
        _party(cluster, question.destination, "--to", question.port),
    )
    versions = _versions(source, destination, question)
    port = resolve(question.port, destination)
    packets = [
        packet_of(question, port, _of(source, version), _of(destination, version)) for version in versions
    ]
    journeys = [_travel(cluster, question, packet) for packet in packets]
    first, packet = journeys[0], packets[0]
    notes = [*first.notes, *_doubts(cluster, question, packet, first)]
    for other, version in zip(journeys[1:], versions[1:], strict=True):
        if other.verdict != first.verdict:
            notes.append(f"over IPv{version} the verdict is {other.verdict}: ask with --ip-version {version}")
    return Answer(
        question=question,
        source=source,
        destination=destination,
        packet=packet,
        journey=_named(cluster, first),
        notes=tuple(notes),
    )


def packet_of(question: Question, port: Port, source: Address, destination: Address) -> Packet:
    version = source.version
    protocol = port.protocol_in(version)
    with_ports = protocol in WITH_PORTS
    return Packet(
        source,
        destination,
        protocol,
        question.source_port if with_ports else None,
        port.number if with_ports else None,
        port.type_in(version),
        (port.code or 0) if port.type_in(version) is not None else None,
    )


def resolve(port: Port, destination: Party) -> Port:
    """With the number that the destination's name for it stands for."""
    if not port.name:
        return port
    pod = destination.pod
    if pod is None:
        raise UsageError(f"--port {port.name}: {destination.name} is no pod, and only pods name their ports")
    for name, protocol, number in pod.ports:
        if name == port.name and protocol == port.protocol:
            return replace(port, number=number)
    names = ", ".join(sorted({name for name, _, _ in pod.ports})) or "none"
    raise UsageError(
        f"--port {port.name}: {pod.name} has no {port.protocol_name} port of that name; its names: {names}"
    )


def _party(cluster: Cluster, text: str, option: str, port: Port | None = None) -> Party:
    if (pod := cluster.pods.get(text)) is not None:
        return Party(name=pod.name, found_by="by its name", addresses=pod.addresses, pod=pod)
    if (addresses := cluster.where.nodes.get(text)) is not None:
        if not addresses:
            raise UsageError(f"{option} {text}: the node has no address")
        return Party(name=f"node {text}", found_by="by its name", addresses=addresses)
    for service in cluster.services:
        if text == service.name:
            raise UsageError(_instead(cluster, service, f"{option} {text} is a service", port))
    try:
        address = Address.parse(text)
    except ValueError:
        raise UsageError(_nobody(cluster, text, option)) from None
    pod = cluster.pod_at(address)
    if pod is not None:
        return Party(name=pod.name, found_by=f"by its address {address}", addresses=(address,), pod=pod)
    node = next((name for name, there in cluster.where.nodes.items() if address in there), None)
    if node is not None:
        return Party(name=f"node {node}", found_by=f"by its address {address}", addresses=(address,))
    for service in cluster.services:
        if address in service.addresses:
            what = "the cluster IP" if address in service.cluster_ips else "an address"
            raise UsageError(
                _instead(cluster, service, f"{option} {text} is {what} of service {service.name}", port)
            )
    return Party(
        name=str(address), found_by="as an address that no pod and no node has", addresses=(address,)
    )


def _instead(cluster: Cluster, service: Service, what: str, port: Port | None) -> str:
    """Who stands behind a service, to be asked for instead."""
    behind = list(service.behind(port))
    if port is not None and not behind and any(service.behind(None)):
        return f"{what}, which has no port {port}; its ports: {service.shown_ports}"
    if not behind:
        return f"{what}; nothing is ready behind it"
    shown = [
        f"{pod.name if (pod := cluster.pod_at(each.address)) else each.address} --port {each.number}/{each.protocol.lower()}"
        for each in behind
    ]
    several = list(dict.fromkeys(shown))
    more = f" and {len(several) - MOST_SHOWN} more" if len(several) > MOST_SHOWN else ""
    return (
        f"{what}; policy is asked of what it is translated to: ask for one of its backends: "
        f"{', '.join(several[:MOST_SHOWN])}{more}"
    )


def _nobody(cluster: Cluster, text: str, option: str) -> str:
    namespace, slash, _ = text.partition("/")
    if (node := cluster.on_hosts.get(text)) is not None:
        return f"{option} {text} is in its node's own network: ask for the node{f' {node}' if node else ''}"
    if slash:
        there = [name for name in cluster.pods if name.startswith(f"{namespace}/")]
        known = f"those of {namespace}: {', '.join(there[:10])}" if there else f"{namespace} has none"
        return f"{option} {text}: there is no such pod with an address; {known}"
    known = ", ".join(sorted(cluster.where.nodes)[:10]) or "none"
    return f"{option} {text} is neither NAMESPACE/POD, nor a node ({known}), nor an address"


def _versions(source: Party, destination: Party, question: Question) -> list[int]:
    theirs = [{address.version for address in party.addresses} for party in (source, destination)]
    wanted = question.ip_version or question.port.ip_version
    found: list[int] = [version for version in sorted(theirs[0] & theirs[1]) if wanted in (None, version)]
    if found:
        return found
    having = " and ".join(
        f"{party.name} has {' and '.join(f'IPv{v}' for v in sorted(versions))}"
        for party, versions in zip((source, destination), theirs, strict=True)
    )
    raise UsageError(
        f"no packet goes from one to the other over {f'IPv{wanted}' if wanted else 'IP'}: {having}"
    )


def _of(party: Party, version: int) -> Address:
    return next(address for address in party.addresses if address.version == version)


def _travel(cluster: Cluster, question: Question, packet: Packet, ask: Asking = asking) -> Journey:
    traveller = Traveller(cluster.state, cluster.where, established=question.established, ask=ask)
    return traveller.journey(packet)


def _doubts(cluster: Cluster, question: Question, packet: Packet, journey: Journey) -> Iterator[str]:
    """Says which address the answer hangs on, if it is one that nobody knows yet."""
    doubt = Doubt(cluster.stand_ins.addresses, cluster.stand_ins.ranges)
    if not doubt.concerns(packet):
        return
    rules = hangs_on(doubt, lambda ask: _travel(cluster, question, packet, ask).verdict, journey.verdict)
    if not rules:
        return
    criteria = {each for rule in rules for each in doubt.open(rule, packet, cluster.state)}
    unknown = [
        pod.name
        for side, address in (("source", packet.source), ("destination", packet.destination))
        if any(each.startswith(side) for each in criteria) and (pod := cluster.pod_at(address)) is not None
    ]
    policies = sorted(
        {
            str(key)
            for key, row in cluster.state.policies.items()
            for rule in (*row.ingress, *row.egress)
            if any(rule is each for each in rules)
        }
    )
    having = "has no address yet" if len(unknown) == 1 else "have no addresses yet"
    yield (
        f"the answer depends on an address: {' and '.join(unknown)} {having}, "
        f"and {', '.join(policies) or 'a profile'} asks in which net it is; a stand-in was taken"
    )


def _named(cluster: Cluster, journey: Journey) -> Journey:
    """With pods by their names instead of their endpoints', and with labels where a selector missed."""
    return replace(
        journey,
        egress=_named_decision(cluster, journey.egress),
        ingress=_named_decision(cluster, journey.ingress),
    )


def _named_decision(cluster: Cluster, decision: Decision) -> Decision:
    names = {str(pod.key): pod.name for pod in cluster.pods.values()}
    near = decision.near_miss
    return replace(
        decision,
        endpoint=names.get(decision.endpoint, decision.endpoint),
        steps=tuple(
            replace(step, endpoint=names.get(step.endpoint, step.endpoint)) for step in decision.steps
        ),
        near_miss=None if near is None else _with_labels(cluster, near),
    )


def _with_labels(cluster: Cluster, near: NearMiss) -> NearMiss:
    """Against a selector it is labels that count, not the address; and a policy in a namespace means its own pods."""
    side, _, criterion = near.criterion.rpartition(".")
    if criterion not in ("selector", "notSelector"):
        return near
    rule, policy = near.step.row, near.step.policy
    fields = [each.field for each in rule.written if each.field.startswith(f"{side}.")] if rule else []
    of_namespaces = any("namespaceSelector" in each for each in fields)
    wanted = near.wanted.removeprefix(f"{ORCHESTRATOR} && ").replace(ORCHESTRATOR, "any pod")
    if (
        criterion == "selector"
        and policy
        and policy.namespace
        and not of_namespaces
        and near.field != f"{side}.services"
    ):
        wanted += f" in namespace {policy.namespace}"
    pod = cluster.pod_at(Address.parse(near.got))
    if pod is None:
        return replace(near, wanted=wanted, got=f"{near.got}, which is no pod's")
    got = f"{pod.name} with {_labels(pod, '')}"
    if of_namespaces:
        got += f" in a namespace with {_labels(pod, 'pcns.')}"
    if any("serviceAccounts" in each for each in fields):
        account = pod.labels.get("projectcalico.org/serviceaccount", "none")
        got += f" as service account {account} with {_labels(pod, 'pcsa.')}"
    return replace(near, wanted=wanted, got=got)


def _labels(pod: Pod, prefix: str) -> str:
    """Its own labels, or those that it inherits under a prefix."""
    inherited = ("pcns.", "pcsa.", "projectcalico.org/")
    shown = [
        f"{label.removeprefix(prefix)}={value}"
        for label, value in sorted(pod.labels.items())
        if (label.startswith(prefix) if prefix else not label.startswith(inherited))
    ]
    return ", ".join(shown) or "no labels"


def decision_document(decision: Decision) -> dict[str, Any]:
    near = decision.near_miss
    return {
        "verdict": decision.verdict,
        "endpoint": decision.endpoint or None,
        "decided_by": decision.decided_by,
        "steps": [
            {**step_document(step), "matched": step.matched, **_origin(step)} for step in decision.steps
        ],
        "near_miss": None
        if near is None
        else {
            "rule": {**step_document(near.step), **_origin(near.step)},
            "field": near.field,
            "wanted": near.wanted,
            "got": near.got,
        },
    }


def step_document(step: Step) -> dict[str, Any]:
    policy = step.policy
    return {
        "tier": step.tier or None,
        "kind": policy.kind if policy else None,
        "namespace": (policy.namespace or None) if policy else None,
        "name": policy.name if policy else None,
        "rule": step.rule,
        "action": step.action or None,
    }


def _origin(step: Step) -> dict[str, Any]:
    return {"file": step.file or None, "line": step.line or None}
