"""Named counters, as read from the kernel, to what they count. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.rules.groups import no_profile, tier_end
from tortie.dataplane.linux.rules.policies import Part
from tortie.desired.policies import DIRECTIONS, PolicyRow, ProfileRow
from tortie.host.nft import Count, CounterKey
from tortie.host.policy_counts import PolicyCount


class Counted(NamedTuple):
    """A part that stands in the kernel: its row, and the counters of the row's rules."""

    part: Part
    row: PolicyRow | ProfileRow
    counters: tuple[str, ...]


def snapshot(policies: PolicyManager) -> list[Counted]:
    """What there is to count now, once for both tables. Its values never change, so that another thread may work on them."""
    rendered = {part._replace(family="ip"): found.counters for part, found in policies.rendered.items()}
    return [
        Counted(part, row, counters)
        for part, counters in rendered.items()
        if (row := policies.row(part.subject)) is not None
    ]


def policy_counts(parts: Iterable[Counted], counted: Mapping[CounterKey, Count]) -> tuple[PolicyCount, ...]:
    """Both families together, by policy and rule; then what no rule decided."""
    totals: dict[str, Count] = {}
    for key, count in counted.items():
        before = totals.get(key.name)
        totals[key.name] = count if before is None else Count(*map(sum, zip(before, count, strict=True)))
    found = [row for each in parts for row in _of_part(each, totals)]
    return tuple(sorted((*found, *_of_ends(totals)), key=_place))


def _place(row: PolicyCount) -> tuple[str, str, str, str, str, int]:
    return row.direction, row.tier, row.kind, row.namespace, row.name, row.rule or 0


def _of_part(counted: Counted, totals: Mapping[str, Count]) -> Iterator[PolicyCount]:
    part, row, counters = counted
    decided_by: Literal["rule", "profile"] = "rule" if isinstance(row, PolicyRow) else "profile"
    kind, namespace, name = ("Profile", "", part.subject) if isinstance(part.subject, str) else part.subject
    for rule, counter in zip(row.rules(part.direction), counters, strict=True):
        packets, size = totals.get(counter, Count(0, 0))
        yield PolicyCount(
            direction=part.direction,
            decided_by=decided_by,
            action=rule.action,
            tier=row.tier if isinstance(row, PolicyRow) else "",
            kind=kind,
            namespace=namespace,
            name=name,
            rule=rule.index,
            staged=isinstance(row, PolicyRow) and row.staged,
            packets=packets,
            bytes=size,
        )


def _of_ends(totals: Mapping[str, Count]) -> Iterator[PolicyCount]:
    for direction in DIRECTIONS:
        start, last = tier_end(direction, ""), no_profile(direction)
        for name, (packets, size) in totals.items():
            if name.startswith(start) or name == last:
                yield PolicyCount(
                    direction=direction,
                    decided_by="no-profile" if name == last else "tier-end",
                    action="Deny",
                    tier="" if name == last else name.removeprefix(start),
                    packets=packets,
                    bytes=size,
                )
