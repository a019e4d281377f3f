"""What would change if these resources were applied: the pairs of pods, and the ports, that get another verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from tortie.desired.policies import DIRECTIONS, AppliedPolicies, PolicyKey, RuleRow
from tortie.diagnostics.cluster import Cluster, Pod
from tortie.diagnostics.matrix import Bits, indexes, matrix, names, on_stand_ins
from tortie.diagnostics.ports import Port
from tortie.verdict.packet import ICMP, ICMPV6, SCTP, TCP, UDP, WITH_PORTS
from tortie.verdict.state import State

LAST_PORT = 65535
ALWAYS = (TCP, UDP, SCTP)


@dataclass(frozen=True)
class PortClass:
    """Ports that no rule tells apart, from the first to ``last``; the first speaks for them all."""

    port: Port
    last: int | None = None

    @property
    def shown(self) -> int | str | None:
        first = self.port.number
        if first is None or self.last in (None, first):
            return self.port.shown if self.port.type is None else f"type {self.port.type}"
        return f"{first}-{self.last}"

    def __str__(self) -> str:
        protocol = self.port.protocol_name
        return protocol if self.shown is None else f"{self.shown}/{protocol}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """For one class of ports: of each pod, the pods that it reaches no more, and those that it reaches from now on."""

    ports: PortClass
    lost: tuple[Bits, ...]
    won: tuple[Bits, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Preview:
    """``changes`` in the order of protocols and ports."""

    pods: tuple[Pod, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def preview(
    before: Cluster, after: Cluster, ports: Sequence[Port] = (), *, ip_version: int | None = None
) -> Preview:
    """Between the pods that are there before and after. Without ``ports`` all that can matter are looked at."""
    names_of_both = [name for name in before.pods if name in after.pods]
    pods = tuple(before.pods[name] for name in names_of_both)
    then = tuple(after.pods[name] for name in names_of_both)
    classes = [PortClass(port) for port in ports] or list(port_classes(before, after))
    changes: list[Change] = []
    for each in classes:
        old = matrix(before, each.port, ip_version=ip_version, pods=pods)
        new = matrix(after, each.port, ip_version=ip_version, pods=then)
        both = [a & b for a, b in zip(old.asked, new.asked, strict=True)]
        rows = list(zip(old.rows, new.rows, both, strict=True))
        change = Change(
            ports=each,
            lost=tuple(a & ~b & asked for a, b, asked in rows),
            won=tuple(b & ~a & asked for a, b, asked in rows),
        )
        if any(change.lost) or any(change.won):
            _append(changes, change)
    notes: list[str] = []
    for word, some, others in (("new", after, before), ("gone", before, after)):
        count = len(some.pods.keys() - others.pods.keys())
        if count:
            notes.append(f"{count} pod{'s are' if count > 1 else ' is'} {word}, and not compared")
    notes += dict.fromkeys((*on_stand_ins(before, pods), *on_stand_ins(after, then)))
    if not pods:
        notes.append("there are no pods to compare")
    return Preview(pods=pods, changes=tuple(changes), notes=tuple(notes))


def _append(changes: list[Change], change: Change) -> None:
    """Neighbouring classes that change alike are one."""
    if changes and _continues(changes[-1], change):
        last = changes.pop()
        change = Change(ports=PortClass(last.ports.port, change.ports.last), lost=change.lost, won=change.won)
    changes.append(change)


def _continues(last: Change, change: Change) -> bool:
    if last.ports.last is None or change.ports.port.number != last.ports.last + 1:
        return False
    same_protocol = last.ports.port.protocol == change.ports.port.protocol
    return same_protocol and (last.lost, last.won) == (change.lost, change.won)


def port_classes(before: Cluster, after: Cluster) -> Iterator[PortClass]:
    """Every port once, those together that no rule tells apart of a policy that matters; then ICMP, and other protocols."""
    rules = [rule for state, keys in _concerned(before.state, after.state) for rule in _rules(state, keys)]
    if not rules:
        return
    states = (before.state, after.state)
    for protocol in ALWAYS:
        cuts = {1, LAST_PORT + 1}
        for rule in rules:
            if rule.protocol in (None, protocol):
                cuts.update(_cuts(rule, protocol, states))
        ordered = sorted(cut for cut in cuts if 1 <= cut <= LAST_PORT + 1)
        for first, end in pairwise(ordered):
            yield PortClass(Port(protocol, first), end - 1)
    yield PortClass(Port(ICMP))
    for protocol in (ICMP, ICMPV6):
        types = {
            match.type
            for rule in rules
            for match in (rule.icmp, rule.not_icmp)
            if match and rule.protocol == protocol
        }
        for number in sorted(types - {8 if protocol == ICMP else 128}):
            yield PortClass(Port(protocol, type=number, code=0))
    others = {number for rule in rules for number in (rule.protocol, rule.not_protocol) if number is not None}
    for number in sorted(others - WITH_PORTS - {ICMP, ICMPV6}):
        yield PortClass(Port(number))


def _cuts(rule: RuleRow, protocol: int, states: Iterable[State]) -> Iterator[int]:
    """Where a new class begins."""
    entity = rule.destination
    for first, last in (*entity.ports, *entity.not_ports):
        yield first
        yield last + 1
    for name in (*entity.named_ports, *entity.not_named_ports):
        for state in states:
            for _, number, port in state.set_of(name).ports:
                if number == protocol:
                    yield port
                    yield port + 1


def _concerned(before: State, after: State) -> Iterator[tuple[State, set[PolicyKey]]]:
    """On each side the policies of those endpoints for which something differs."""
    sets = {
        name
        for name in before.members.keys() | after.members.keys()
        if (before.set_of(name).contents() != after.set_of(name).contents())
    }
    changed = {
        key
        for key in before.policies.keys() | after.policies.keys()
        if before.policies.get(key) != after.policies.get(key)
    }
    for state in (before, after):
        changed.update(
            key
            for key, row in state.policies.items()
            if sets and _mentions((*row.ingress, *row.egress), sets)
        )
    others_differ = before.profiles != after.profiles or before.host_endpoints != after.host_endpoints
    found: dict[int, set[PolicyKey]] = {0: set(), 1: set()}
    for endpoint in before.endpoints.keys() | after.endpoints.keys():
        rows = [state.endpoints.get(endpoint) for state in (before, after)]
        for direction in DIRECTIONS:
            held = [None if row is None else getattr(row, direction) for row in rows]
            keys = [_keys(each) for each in held]
            if others_differ or held[0] != held[1] or any(key in changed for each in keys for key in each):
                for side in (0, 1):
                    found[side].update(keys[side])
    yield before, found[0]
    yield after, found[1]


def _keys(applied: AppliedPolicies | None) -> list[PolicyKey]:
    return [key for tier in applied.tiers for key in tier.policies] if applied else []


def _mentions(rules: Iterable[RuleRow], sets: set[str]) -> bool:
    return any(
        name in sets
        for rule in rules
        for entity in (rule.source, rule.destination)
        for name in (*entity.sets, *entity.not_sets, *entity.named_ports, *entity.not_named_ports)
    )


def _rules(state: State, keys: Iterable[PolicyKey]) -> Iterator[RuleRow]:
    for key in keys:
        if (row := state.policies.get(key)) is not None:
            yield from (*row.ingress, *row.egress)
    for profile in state.profiles.values():
        yield from (*profile.ingress, *profile.egress)
    for host in state.host_endpoints.values():
        for applied in (host.forward_ingress, host.forward_egress, host.untracked_ingress, host.pre_dnat):
            for key in _keys(applied):
                if (policy := state.policies.get(key)) is not None:
                    yield from (*policy.ingress, *policy.egress)


def as_json(found: Preview) -> Iterator[str]:
    """``{"pairs": […]}`` in pieces, one pair a line."""
    yield '{"pairs": ['
    between = "\n"
    quoted = [json.dumps(pod.name) for pod in found.pods]
    for change in found.changes:
        port, protocol = json.dumps(change.ports.shown), json.dumps(change.ports.port.protocol_name)
        for rows, verdicts in ((change.lost, ("allow", "deny")), (change.won, ("deny", "allow"))):
            tail = f', "port": {port}, "protocol": {protocol}, "before": "{verdicts[0]}", "after": "{verdicts[1]}"}}'
            for source, row in zip(quoted, rows, strict=True):
                if row:
                    head = f'{{"source": {source}, "destination": '
                    yield between + ",\n".join(head + quoted[index] + tail for index in indexes(row))
                    between = ",\n"
    yield "\n]}\n"


def as_text(found: Preview) -> Iterator[str]:
    """For people: sources that change alike together."""
    if not found.changes:
        yield "no pair of pods gets another verdict\n"
    for (lost, won), changes in groupby(found.changes, key=lambda change: (change.lost, change.won)):
        yield f"{', '.join(str(change.ports) for change in changes)}\n"
        for rows, words in ((lost, "allow becomes deny"), (won, "deny becomes allow")):
            for sources, destinations in _alike(rows):
                yield f"  {words}: from {names(found.pods, sources)} to {names(found.pods, destinations)}\n"
    for note in found.notes:
        yield f"note: {note}\n"


def _alike(rows: Sequence[Bits]) -> Iterator[tuple[Bits, Bits]]:
    """Sources with the same destinations; also those that differ in nothing but themselves, as a pod always reaches itself."""
    by_row: dict[Bits, Bits] = {}
    for index, row in enumerate(rows):
        if row:
            by_row[row] = by_row.get(row, 0) | 1 << index
    merged: dict[Bits, Bits] = {}
    for row, sources in by_row.items():
        whole = row | sources if sources.bit_count() == 1 else row
        merged[whole] = merged.get(whole, 0) | sources
    for row, sources in merged.items():
        yield sources, row & ~sources if sources.bit_count() == 1 else row
