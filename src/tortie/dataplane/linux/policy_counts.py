"""Named counters, as read from the kernel, to what they count. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple

from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.rules.groups import no_profile, tier_end
from tortie.dataplane.linux.rules.policies import Part, Rendered
from tortie.desired.policies import DIRECTIONS, PolicyKey, PolicyRow, ProfileRow
from tortie.host.nft import Count, CounterKey
from tortie.host.policy_counts import NO_MATCH, PolicyCount


class Snapshot(NamedTuple):
    """What there is to count now, for another thread: the values in it never change."""

    rendered: Mapping[Part, Rendered]
    rows: Mapping[PolicyKey | str, PolicyRow | ProfileRow]


def snapshot(policies: PolicyManager) -> Snapshot:
    """Taken in the event loop, where everything else waits: nothing but copies."""
    return Snapshot(dict(policies.rendered), dict(policies.rows))


def policy_counts(
    there: Snapshot, counted: Mapping[CounterKey, Count], *, every_rule: bool
) -> tuple[PolicyCount, ...]:
    """Both families together, by policy and rule; then what no rule decided. Without ``every_rule``: only what has counted
    anything."""
    totals: dict[str, Count] = {}
    for key, count in counted.items():
        if count.packets or every_rule:
            before = totals.get(key.name)
            totals[key.name] = count if before is None else Count(*map(sum, zip(before, count, strict=True)))
    parts: dict[Part, tuple[str, ...]] = {}
    for part, rendered in there.rendered.items():
        if every_rule or not totals.keys().isdisjoint(rendered.counters):
            parts[part if part.family == "ip" else part._replace(family="ip")] = rendered.counters
    found = [
        row
        for part, counters in parts.items()
        if part.subject in there.rows
        for row in _of_part(part, there.rows[part.subject], counters, totals)
        if row.packets or every_rule
    ]
    return tuple(sorted((*found, *_of_ends(totals)), key=_place))


def _place(row: PolicyCount) -> tuple[str, str, str, str, str, bool, int]:
    return row.direction, row.tier, row.kind, row.namespace, row.name, row.rule is None, row.rule or 0


def _of_part(
    part: Part, row: PolicyRow | ProfileRow, counters: Sequence[str], totals: Mapping[str, Count]
) -> Iterator[PolicyCount]:
    decided_by: Literal["rule", "profile"] = "rule" if isinstance(row, PolicyRow) else "profile"
    kind, namespace, name = ("Profile", "", part.subject) if isinstance(part.subject, str) else part.subject
    staged = isinstance(row, PolicyRow) and row.staged
    for rule, counter in zip_longest(row.rules(part.direction), counters):
        packets, size = totals.get(counter, Count(0, 0))
        yield PolicyCount(
            direction=part.direction,
            decided_by=decided_by if rule is not None else "tier-end",
            action=rule.action if rule is not None else NO_MATCH,
            tier=row.tier if isinstance(row, PolicyRow) else "",
            kind=kind,
            namespace=namespace,
            name=name,
            rule=rule.index if rule is not None else None,
            staged=staged,
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
