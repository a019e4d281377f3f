"""What endpoints that are treated alike share: a chain that walks their tiers, then their profiles.

A tier is a chain too, shared by every group that has the same policies in it. At its end stands its default action; a packet
that is passed on returns to the group. Names come from the content, so that a change is another chain in the same batch.

A long tier is walked in stretches of some eight policies, each a chain of its own, shared by every tier in which the same
policies follow each other. Where one ends is decided by its last policy alone: one policy more or less is another stretch, and
the others of the tier stay. So a policy for everybody costs little where a hundred groups walk fifty others each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from tortie.dataplane.linux.rules import marks, names
from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules.elements import group_key
from tortie.dataplane.linux.rules.policies import Part, Place, deny
from tortie.desired.policies import AppliedPolicies, Direction, PolicyKey, TierRow
from tortie.desired.settings import SettingsRow
from tortie.host.nft import (
    FAMILIES,
    RETURN,
    Chain,
    ChainKey,
    Compare,
    CountBy,
    Counter,
    CounterKey,
    ElementKey,
    Mask,
    NamedCounter,
    NftKey,
    NftValue,
    Payload,
    Reject,
    Rule,
    Verdict,
)

End = Literal["deny", "return"]


class Kind(NamedTuple):
    """How a group is walked. ``end``: what becomes of a packet on which nobody decided; ``tier_ends``: whether a tier denies.

    ``cuts``: a packet in the midst of a TCP connection that conntrack does not know is no new connection (it would take
    up one that was cut), and is answered with a reset.
    """

    place: Place
    direction: Direction
    end: End
    tier_ends: bool = True
    cuts: bool = False

    @property
    def prefix(self) -> str:
        place = "" if self.place == "filter" else f"{self.place}-"
        return f"{place}{self.direction}"


WORKLOAD: dict[Direction, Kind] = {
    "ingress": Kind("filter", "ingress", "deny"),
    "egress": Kind("filter", "egress", "deny"),
}
FORWARD: dict[Direction, Kind] = {
    "ingress": Kind("filter", "ingress", "return"),
    "egress": Kind("filter", "egress", "return"),
}
UNTRACKED: dict[Direction, Kind] = {
    "ingress": Kind("untracked", "ingress", "return", tier_ends=False),
    "egress": Kind("untracked", "egress", "return", tier_ends=False),
}
PRE_DNAT = Kind("pre-dnat", "ingress", "return", tier_ends=False)

_FLAGS_OFFSET, _FIN_SYN_RST_ACK, _SYN = 13, b"\x17", b"\x02"
_IN_THE_MIDST = (
    m.protocol(6),
    (Payload("transport", _FLAGS_OFFSET, 1), Mask(_FIN_SYN_RST_ACK, b"\0"), Compare("neq", _SYN)),
)
_CUT = "in the midst of a connection that was cut"

_SHORT, _STRETCH = 16, 8
"""A tier of more policies than the first is walked in stretches, of as many as the second on average."""
_KEPT, _TIERS_KEPT = 20_000, 2_000
"""Rules and stretches that are remembered: most of them come again with the next change."""


class Stretch(NamedTuple):
    """Policies that follow each other in a tier."""

    prefix: str
    direction: Direction
    place: Place
    policies: tuple[PolicyKey, ...]

    def parts(self) -> Iterator[Part]:
        for policy in self.policies:
            yield Part(policy, self.direction, self.place)


Passes = Callable[[Stretch], tuple[bool, ...]]
"""Of each of its policies, whether it may say Pass."""


def group_name(kind: Kind, applied: AppliedPolicies) -> str:
    """The chain's name. It says what is in the tiers too, since theirs do."""
    tiers = tuple(tier_name(kind, tier) for tier in applied.tiers)
    return f"{kind.prefix}/group/{names.group_digest((kind, tiers, applied.profiles))}"


@lru_cache(_TIERS_KEPT)
def tier_name(kind: Kind, tier: TierRow) -> str:
    """The chain's name: the same whether the group cuts or not."""
    walked = tuple(_stretch_name(stretch) for stretch in stretches(kind, tier))
    content = names.digest((kind.tier_ends, tier.default_action, walked))
    return names.bounded(f"{kind.prefix}/tier/{tier.name}/{content}")


def parts(kind: Kind, applied: AppliedPolicies) -> Iterator[Part]:
    """Every chain of a policy or a profile that it leads to."""
    for tier in applied.tiers:
        yield from tier_parts(kind, tier)
    if kind.end == "deny":
        for profile in applied.profiles:
            yield Part(profile, kind.direction, kind.place)


def tier_parts(kind: Kind, tier: TierRow) -> Iterator[Part]:
    for policy in tier.policies:
        yield Part(policy, kind.direction, kind.place)


def of_group(kind: Kind, applied: AppliedPolicies, settings: SettingsRow) -> dict[NftKey, NftValue]:
    """The group's chain, what leads to it, and the end that it goes to."""
    found: dict[NftKey, NftValue] = {}
    rules: list[Rule] = (
        [m.rule(*_IN_THE_MIDST, Counter(), Reject("tcp-reset"), comment=_CUT)] if kind.cuts else []
    )
    rules += (m.rule(Verdict("jump", tier_name(kind, tier))) for tier in applied.tiers)
    if kind.end == "deny":
        rules += (
            m.rule(Verdict("jump", Part(profile, kind.direction, kind.place).chain))
            for profile in applied.profiles
        )
        end = no_profile(kind.direction)
        rules.append(m.rule(Verdict("goto", end)))
        found |= _end(end, settings)
    name, whole = group_name(kind, applied), Chain.of(*rules)
    for family in FAMILIES:
        found[ChainKey(family, name)] = whole
        if kind.end == "deny":
            groups = names.FROM_GROUPS if kind.direction == "egress" else names.TO_GROUPS
            found[ElementKey(family, groups, names.GROUP_MARK + group_key(name))] = Verdict("goto", name)
    return found


def of_tier(kind: Kind, tier: TierRow, settings: SettingsRow, may_pass: Passes) -> dict[NftKey, NftValue]:
    """One tier's chain, its stretches, and the end that it goes to."""
    found: dict[NftKey, NftValue] = {}
    bit = marks.passed(settings)
    rules: list[Rule] = []
    for stretch in stretches(kind, tier):
        passing = may_pass(stretch)
        name, chain = _of_stretch(stretch, passing, bit)
        rules.append(_jump(name))
        if True in passing:
            rules.append(m.rule(marks.has(bit), marks.clear(bit), RETURN, comment="Pass: the next tier"))
        if chain is not None:
            found.update((ChainKey(family, name), chain) for family in FAMILIES)
    if tier.default_action == "Deny" and kind.tier_ends:
        end = tier_end(kind.direction, tier.name)
        rules.append(m.rule(Verdict("goto", end)))
        found |= _end(end, settings)
    whole = Chain.of(*rules)
    for family in FAMILIES:
        found[ChainKey(family, tier_name(kind, tier))] = whole
    return found


@lru_cache(_TIERS_KEPT)
def stretches(kind: Kind, tier: TierRow) -> tuple[Stretch, ...]:
    """The policies of a tier in pieces: equal ones where other tiers have the same. Those of a short tier one by one."""
    policies = tier.policies
    ends = [
        place
        for place, policy in enumerate(policies, 1)
        if len(policies) <= _SHORT
        or place == len(policies)
        or not zlib.crc32("/".join(policy).encode()) % _STRETCH
    ]
    return tuple(
        Stretch(kind.prefix, kind.direction, kind.place, policies[begin:end])
        for begin, end in pairwise((0, *ends))
    )


@lru_cache(_KEPT)
def _of_stretch(stretch: Stretch, passing: tuple[bool, ...], bit: int) -> tuple[str, Chain | None]:
    """The chain that walks these; a single policy's own needs none around it."""
    parts = list(stretch.parts())
    name = _stretch_name(stretch)
    if len(parts) == 1:
        return name, None
    rules: list[Rule] = []
    for part, passes in zip(parts, passing, strict=True):
        rules.append(_jump(part.chain))
        if passes:
            rules.append(m.rule(marks.has(bit), RETURN, comment="Pass: the next tier"))
    return name, Chain.of(*rules)


@lru_cache(_KEPT)
def _stretch_name(stretch: Stretch) -> str:
    if len(stretch.policies) == 1:
        return Part(stretch.policies[0], stretch.direction, stretch.place).chain
    return f"{stretch.prefix}/stretch/{names.digest(stretch.policies)}"


@lru_cache(_KEPT)
def _jump(chain: str) -> Rule:
    return m.rule(Verdict("jump", chain))


def tier_end(direction: Direction, tier: str) -> str:
    """The chain, and the counter, of what a tier denies since none of its policies said a word."""
    return f"{direction}/tier-end/{tier}"


def no_profile(direction: Direction) -> str:
    """The chain, and the counter, of what no profile allows."""
    return f"{direction}/no-profile"


def _end(name: str, settings: SettingsRow) -> dict[NftKey, NftValue]:
    found: dict[NftKey, NftValue] = {}
    for family in FAMILIES:
        found[CounterKey(family, name)] = NamedCounter()
        found[ChainKey(family, name)] = Chain.of(m.rule(CountBy(name), *deny(family, settings)))
    return found
