"""An answer of `explain` in words: the whole way, what ended it, and what would have to change."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from tortie.diagnostics.explain import Answer, Party
from tortie.verdict.packet import protocol_name
from tortie.verdict.steps import Decision, NearMiss, Step

KUBERNETES = ("KubernetesNetworkPolicy",)
_SHOWN_RULES = 12
"""Of more rules in a row that did not match, only so many are listed."""


def tell(answer: Answer) -> str:
    """For people; ends in a newline."""
    return "".join(f"{line}\n" for line in _lines(answer))


def _lines(answer: Answer) -> Iterator[str]:
    packet = answer.packet
    what = protocol_name(packet.protocol)
    if packet.destination_port is not None:
        what += f" port {packet.destination_port}"
    if answer.question.port.name:
        what += f" ({answer.question.port.name})"
    if packet.icmp_type is not None:
        what += f" type {packet.icmp_type} code {packet.icmp_code or 0}"
    yield (
        f"{answer.source.name} ({packet.source}) to {answer.destination.name} ({packet.destination}), {what}: "
        f"{answer.verdict.upper()}"
    )
    yield ""
    yield from _direction("egress", answer.source, answer.journey.egress)
    yield from _direction("ingress", answer.destination, answer.journey.ingress)
    for note in answer.notes:
        yield f"note: {note}"


def _direction(direction: str, party: Party, decision: Decision) -> Iterator[str]:
    if decision.verdict is None:
        why = decision.reason or f"no policed endpoint stands there ({party.name}, found {party.found_by})"
        yield f"{direction}: not policed; {why}"
        yield ""
        return
    yield f"{direction} at {decision.endpoint}: {decision.verdict}, {_ended_by(decision)}"
    yield f"  {party.name} was found {party.found_by}{_standing(party)}"
    yield from _steps(direction, decision)
    if decision.reason:
        yield f"  {decision.reason}"
    if isolated := _isolation(direction, decision):
        yield f"  {isolated}"
    if decision.near_miss is not None:
        yield from _nearest(decision.near_miss)
    elif decision.verdict == "deny" and decision.decided_by == "tier-end":
        yield "  no rule that was asked would allow anything"
    yield ""


def _standing(party: Party) -> str:
    if party.pod is None:
        return ""
    on = f" on node {party.pod.node}" if party.pod.node else ""
    return f": WorkloadEndpoint {party.pod.key.name}{on}"


def _ended_by(decision: Decision) -> str:
    last = next((step for step in reversed(decision.steps) if step.matched and not step.staged), None)
    match decision.decided_by:
        case "rule" | "profile" if last is not None:
            return f"by {_rule(last)}"
        case "tier-end" if last is not None:
            return f"at the end of tier {last.tier}, where no policy decided"
        case "no-profile":
            return "as no policy and no profile allows it"
        case "host":
            return "by the node"
        case "failsafe":
            return "by a fail-safe port"
        case "established":
            return "as the connection is established"
        case _:
            return "undecided"


def _steps(direction: str, decision: Decision) -> Iterator[str]:
    if not any(step.tier for step in decision.steps) and decision.decided_by in ("profile", "no-profile"):
        yield f"  no policy selects it for {direction}"
    for (endpoint, tier), steps in groupby(decision.steps, key=lambda step: (step.endpoint, step.tier)):
        at = f" ({endpoint})" if endpoint != decision.endpoint else ""
        if tier:
            yield f"  tier {tier}{at}"
        for _, asked in groupby(steps, key=lambda step: step.policy):
            yield from _policy(list(asked))


def _policy(steps: list[Step]) -> Iterator[str]:
    first = steps[0]
    if first.policy is None:
        then = "deny" if first.action == "Deny" else "go on to the next tier"
        yield f"    end of the tier: {then}"
        return
    staged = ", staged: counted, not enforced" if first.staged else ""
    invalid = f", invalid and therefore denying: {first.invalid}" if first.invalid else ""
    yield f"    {first.policy}{_place(first) if first.rule is None else ''}{staged}{invalid}"
    if first.rule is None:
        yield "      has no rules for this direction"
        return
    missed = [step for step in steps if not step.matched]
    for step in steps:
        if step.matched:
            yield f"      rule {step.rule}: {step.action}, matches{_place(step)}"
        elif step in missed[:_SHOWN_RULES]:
            yield f"      rule {step.rule}: {step.action}, does not match{_place(step)}"
    if len(missed) > _SHOWN_RULES:
        yield f"      and {len(missed) - _SHOWN_RULES} more rules that do not match"


def _place(step: Step) -> str:
    return f" [{step.file}:{step.line}]" if step.file else ""


def _rule(step: Step) -> str:
    return f"rule {step.rule} of {step.policy}{_place(step)}"


def _isolation(direction: str, decision: Decision) -> str:
    """Names it where a deny is Kubernetes' own: whoever is selected is isolated but for what rules allow."""
    if decision.decided_by != "tier-end":
        return ""
    tier = decision.steps[-1].tier
    policies = list(
        dict.fromkeys(
            step.policy
            for step in decision.steps
            if step.policy and step.tier == tier and step.endpoint == decision.endpoint and not step.staged
        )
    )
    kubernetes = [policy for policy in policies if policy.kind in KUBERNETES]
    if not kubernetes:
        names = ", ".join(map(str, policies))
        return f"selected by {names}, and none of their rules decides: the tier's default action is Deny"
    names = ", ".join(map(str, kubernetes))
    return (
        f"this is Kubernetes' implicit isolation: {names} selects {decision.endpoint} for {direction}, "
        "so only what some policy's rule allows gets through"
    )


def _nearest(near: NearMiss) -> Iterator[str]:
    yield f"  the nearest rule that would have allowed it: {_rule(near.step)}"
    yield f"    {near.field} wants {near.wanted}"
    yield f"    {' ' * len(near.field)}   got {near.got}"
    if len(near.fields) > 1:
        yield f"    and so do not fit: {', '.join(near.fields[1:])}"
