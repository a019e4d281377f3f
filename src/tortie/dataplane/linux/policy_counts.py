"""Named counters, as read from the kernel, to what they count. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Literal

from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.dataplane.linux.rules.policies import Part
from tortie.desired.policies import DIRECTIONS, PolicyRow
from tortie.host.nft import Count, CounterKey
from tortie.host.policy_counts import PolicyCount


def policy_counts(policies: PolicyManager, counted: Mapping[CounterKey, Count]) -> tuple[PolicyCount, ...]:
    """Both families together, by policy and rule; then what no rule decided.."""
    totals: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for key, count in counted.items():
        packets, size = totals[key.name]
        totals[key.name] = packets + count.packets, size + count.bytes
    found = [
        row
        for part, rendered in policies.rendered.items()
        for row in _of_part(policies, part, rendered.counters, totals)
    ]
    found += _of_ends(totals)
    return tuple(
        sorted(
            found, key=lambda row: (row.direction, row.tier, row.kind, row.namespace, row.name, row.rule or 0)
        )
    )


def _of_part(
    policies: PolicyManager, part: Part, counters: tuple[str, ...], totals: Mapping[str, tuple[int, int]]
) -> Iterator[PolicyCount]:
    row = policies.row(part.subject)
    if row is None:
        return
    decided_by: Literal["rule", "profile"]
    if isinstance(part.subject, str):
        decided_by, kind, namespace, name, tier, staged = "profile", "Profile", "", part.subject, "", False
    else:
        assert isinstance(row, PolicyRow)
        decided_by, tier, staged = "rule", row.tier, row.staged
        kind, namespace, name = part.subject
    for rule, counter in zip(row.rules(part.direction), counters, strict=True):
        packets, size = totals.get(counter, (0, 0))
        yield PolicyCount(
            direction=part.direction,
            decided_by=decided_by,
            action=rule.action,
            tier=tier,
            kind=kind,
            namespace=namespace,
            name=name,
            rule=rule.index,
            staged=staged,
            packets=packets,
            bytes=size,
        )


def _of_ends(totals: Mapping[str, tuple[int, int]]) -> Iterator[PolicyCount]:
    for direction in DIRECTIONS:
        for name, (packets, size) in totals.items():
            start = f"{direction}/tier-end/"
            if name.startswith(start):
                tier = name.removeprefix(start)
                yield PolicyCount(
                    direction=direction, decided_by="tier-end", action="Deny", tier=tier, packets=packets, bytes=size
                )  # fmt: skip
            elif name == f"{direction}/no-profile":
                yield PolicyCount(
                    direction=direction, decided_by="no-profile", action="Deny", packets=packets, bytes=size
                )
