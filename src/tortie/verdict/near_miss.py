"""For what was dropped: the rule that came nearest to letting it through, and the field that missed."""

from __future__ import annotations

from collections.abc import Sequence

from tortie.desired.policies import EntityMatch, RuleRow
from tortie.verdict.matching import misses
from tortie.verdict.packet import Packet, protocol_name
from tortie.verdict.state import State
from tortie.verdict.steps import NearMiss, Step

_NEARNESS = ("ports", "notPorts", "icmp", "notICMP", "protocol", "notProtocol", "ipVersion")
"""Missing by these, a rule is nearer than one that means other ends; the first is the nearest."""

_NAMED_BY = {
    "selector": ("selector", "namespaceSelector", "serviceAccounts", "services", "podSelector"),
    "notSelector": ("notSelector",),
    "ports": ("ports", "services"),
}


def near_miss(steps: Sequence[Step], packet: Packet, state: State) -> NearMiss | None:
    """The best of the rules that were asked and would have allowed; of equals the first. Staged ones allow nothing."""
    best: tuple[tuple[int, int], Step, tuple[str, ...]] | None = None
    for step in steps:
        if step.row is None or step.matched or step.staged or step.action != "Allow":
            continue
        missed = tuple(misses(step.row, packet, state))
        if missed:
            score = (len(missed), _distance(missed))
            if best is None or score < best[0]:
                best = (score, step, missed)
    if best is None:
        return None
    _, step, missed = best
    assert step.row is not None, "only rules were looked at"
    field = _field_of(step.row, missed[0])
    had = got(packet, missed[0])
    if field == "destination.services":
        had = (
            f"{packet.destination}" if packet.destination_port is None else f"{packet.destination} port {had}"
        )
    return NearMiss(
        step=step,
        criterion=missed[0],
        field=field,
        wanted=wanted(step.row, missed[0], state),
        got=had,
        fields=tuple(_field_of(step.row, each) for each in missed),
    )


def _distance(missed: tuple[str, ...]) -> int:
    return sum(_rank(criterion.rpartition(".")[2]) for criterion in missed)


def _rank(criterion: str) -> int:
    return _NEARNESS.index(criterion) if criterion in _NEARNESS else len(_NEARNESS)


def _written(rule: RuleRow, criterion: str) -> list[tuple[str, str]]:
    """What its author wrote for the criterion, field by field."""
    side, _, last = criterion.rpartition(".")
    names = {f"{side}.{name}" if side else name for name in _NAMED_BY.get(last, (last,))}
    return [
        (field, text)
        for field, text in rule.written
        if field in names or field.startswith(tuple(f"{n}." for n in names))
    ]


def _field_of(rule: RuleRow, criterion: str) -> str:
    """The field as its author knows it."""
    found = _written(rule, criterion)
    return found[0][0] if found else criterion


def wanted(rule: RuleRow, criterion: str, state: State) -> str:
    """What the rule asks for, in its author's words where they are known."""
    if found := _written(rule, criterion):
        first = found[0][1]
        return " && ".join([first, *(f"{field}: {text}" for field, text in found[1:])])
    side, _, last = criterion.rpartition(".")
    entity = rule.source if side == "source" else rule.destination
    match last:
        case "ipVersion":
            return str(rule.ip_version)
        case "protocol":
            return protocol_name(rule.protocol or 0)
        case "notProtocol":
            return f"not {protocol_name(rule.not_protocol or 0)}"
        case "icmp" | "notICMP":
            match = rule.icmp if last == "icmp" else rule.not_icmp
            assert match is not None, "a criterion that was missed is set"
            text = f"type {match.type}" + ("" if match.code is None else f" code {match.code}")
            return text if last == "icmp" else f"not {text}"
        case _:
            return _wanted_of(entity, last, state)


def _wanted_of(entity: EntityMatch, criterion: str, state: State) -> str:
    def meanings(names: tuple[str, ...], joint: str) -> str:
        return joint.join(
            (row.meaning or name) if (row := state.ipsets.get(name)) else name for name in names
        )

    match criterion:
        case "nets":
            return ", ".join(map(str, entity.nets or ())) or "no address at all"
        case "notNets":
            return f"not {', '.join(map(str, entity.not_nets))}"
        case "selector":
            return meanings(entity.sets, " && ")
        case "notSelector":
            return f"not {meanings(entity.not_sets, ' or ')}"
        case "ports":
            return ", ".join([*map(str, entity.ports), *filter(None, [meanings(entity.named_ports, ", ")])])
        case _:
            named = meanings(entity.not_named_ports, ", ")
            return f"not {', '.join([*map(str, entity.not_ports), *filter(None, [named])])}"


def got(packet: Packet, criterion: str) -> str:
    """What the packet has there."""
    side, _, last = criterion.rpartition(".")
    match last:
        case "ipVersion":
            return str(packet.source.version)
        case "protocol" | "notProtocol":
            return protocol_name(packet.protocol)
        case "icmp" | "notICMP":
            if packet.icmp_type is None:
                return protocol_name(packet.protocol)
            return f"type {packet.icmp_type} code {packet.icmp_code or 0}"
        case "ports" | "notPorts":
            port = packet.source_port if side == "source" else packet.destination_port
            return "no port" if port is None else str(port)
        case _:
            return str(packet.source if side == "source" else packet.destination)
