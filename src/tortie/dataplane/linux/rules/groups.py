"""What endpoints that are treated alike share: a chain that walks their tiers, then their profiles.

A tier is a chain too, shared by every group that has the same policies in it. At its end stands its default action; a packet
that is passed on returns to the group. Chains are named after who walks them (`managers.leaders`), not after what is in them: a
policy for everybody changes them in place.

A long tier is walked in stretches of some eight policies, each a chain of its own, shared by every tier in which the same
policies follow each other. Where one ends is decided by its last policy, and by whether the next is one of the cluster too: one
policy more or less changes one or two, and the others of the tier stay. A stretch begins with what leads past all of it
(`rules.reach`), and holds the rules of those of its policies to which nobody else leads.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from tortie.dataplane.linux.rules import marks, names
from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules.elements import group_key
from tortie.dataplane.linux.rules.policies import Outline, Part, Place, deny
from tortie.dataplane.linux.rules.reach import of_several, past
from tortie.desired.policies import AppliedPolicies, Direction, PolicyKey, TierRow
from tortie.desired.settings import SettingsRow
from tortie.host.nft import (
    RETURN,
    Chain,
    ChainKey,
    Compare,
    CountBy,
    Counter,
    CounterKey,
    ElementKey,
    Family,
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
    """How a group is walked, and in which table.

    ``end``: what becomes of a packet on which nobody decided; ``tier_ends``: whether a tier denies.

    ``cuts``: a packet in the midst of a TCP connection that conntrack does not know is no new connection (it would take
    up one that was cut), and is answered with a reset.
    """

    place: Place
    direction: Direction
    end: End
    tier_ends: bool = True
    cuts: bool = False
    family: Family = "ip"

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
"""Rules and tiers' stretches that are remembered: most of them come again with the next change."""


class Stretch(NamedTuple):
    """Policies that follow each other in a tier. ``until``: the last one, where that is why it ends there; else the tier, and the
    place as counted from its end."""

    prefix: str
    direction: Direction
    place: Place
    policies: tuple[PolicyKey, ...]
    until: str
    family: Family

    @property
    def is_chain(self) -> bool:
        """A single policy's own chain needs none around it."""
        return len(self.policies) > 1

    def parts(self) -> Iterator[Part]:
        for policy in self.policies:
            yield Part(policy, self.direction, self.place, self.family)


def group_name(kind: Kind, leader: str) -> str:
    """The chain's name."""
    return f"{kind.prefix}/group/{leader}"


def tier_name(kind: Kind, tier: TierRow, leader: str) -> str:
    """The chain's name: whoever leads it has one tier of that name."""
    return names.bounded(f"{kind.prefix}/tier/{tier.name}/{leader}")


def stretch_name(stretch: Stretch, leader: str) -> str:
    """The chain's name: the leader's tier has one stretch that ends there."""
    if not stretch.is_chain:
        return next(stretch.parts()).chain
    return names.bounded(f"{stretch.prefix}/stretch/{leader}/{stretch.until}")


def profile_parts(kind: Kind, applied: AppliedPolicies) -> list[Part]:
    """The chains of profiles that it leads to."""
    if kind.end != "deny":
        return []
    return [Part(profile, kind.direction, kind.place, kind.family) for profile in applied.profiles]


def of_group(
    kind: Kind, applied: AppliedPolicies, leader: str, tiers: Sequence[str], settings: SettingsRow
) -> dict[NftKey, NftValue]:
    """The group's chain, what leads to it, and the end that it goes to. ``tiers``: the names of its tiers' chains."""
    found: dict[NftKey, NftValue] = {}
    rules: list[Rule] = (
        [m.rule(*_IN_THE_MIDST, Counter(), Reject("tcp-reset"), comment=_CUT)] if kind.cuts else []
    )
    rules += (_jump(tier) for tier in tiers)
    rules += (_jump(part.chain) for part in profile_parts(kind, applied))
    if kind.end == "deny":
        end = no_profile(kind.direction)
        rules.append(_go(end))
        found.update(_end(kind.family, end, settings))
    name = group_name(kind, leader)
    found[ChainKey(kind.family, name)] = Chain.of(*rules)
    if kind.end == "deny":
        groups = names.FROM_GROUPS if kind.direction == "egress" else names.TO_GROUPS
        found[ElementKey(kind.family, groups, names.GROUP_MARK + group_key(name))] = Verdict("goto", name)
    return found


def of_tier(
    kind: Kind, tier: TierRow, name: str, walked: Sequence[tuple[str, bool]], settings: SettingsRow
) -> dict[NftKey, NftValue]:
    """One tier's chain and the end that it goes to. ``walked``: the chain of each stretch, and whether it may say Pass."""
    found: dict[NftKey, NftValue] = {}
    bit = marks.passed(settings)
    rules: list[Rule] = []
    for stretch, passes in walked:
        rules.append(_jump(stretch))
        if passes:
            rules.append(m.rule(marks.has(bit), marks.clear(bit), RETURN, comment="Pass: the next tier"))
    if tier.default_action == "Deny" and kind.tier_ends:
        end = tier_end(kind.direction, tier.name)
        rules.append(_go(end))
        found.update(_end(kind.family, end, settings))
    found[ChainKey(kind.family, name)] = Chain.of(*rules)
    return found


def of_stretch(
    stretch: Stretch,
    name: str,
    held: Sequence[tuple[Outline, tuple[Rule, ...] | None]],
    settings: SettingsRow,
) -> dict[NftKey, NftValue]:
    """The chain that walks these; ``held``: of each of its policies the outline, and rules that have no chain of their own."""
    bit = marks.passed(settings)
    rules = list(past(of_several([outline.reach for outline, _ in held])))
    for part, (outline, within) in zip(stretch.parts(), held, strict=True):
        if within is not None:
            rules += within
            continue
        rules.append(_jump(part.chain))
        if outline.passes:
            rules.append(m.rule(marks.has(bit), RETURN, comment="Pass: the next tier"))
    return {ChainKey(stretch.family, name): Chain.of(*rules)}


@lru_cache(_TIERS_KEPT)
def stretches(kind: Kind, tier: TierRow) -> tuple[Stretch, ...]:
    """The policies of a tier in pieces: equal ones where other tiers have the same. Those of a short tier one by one."""
    policies = tier.policies
    if len(policies) <= _SHORT:
        untils = dict.fromkeys(range(1, len(policies) + 1), tier.name)
    else:
        turns = [place for place, pair in enumerate(pairwise(policies), 1) if _turns(*pair)]
        untils = {place: f"{tier.name}.{left}" for left, place in enumerate(reversed(turns), 1)}
        untils[len(policies)] = tier.name
        untils |= {place: "/".join(each) for place, each in enumerate(policies, 1) if _ends_one(each)}
    return tuple(
        Stretch(kind.prefix, kind.direction, kind.place, policies[begin:end], untils[end], kind.family)
        for begin, end in pairwise((0, *sorted(untils)))
    )


@lru_cache(_KEPT)
def _ends_one(policy: PolicyKey) -> bool:
    return not zlib.crc32("/".join(policy).encode()) % _STRETCH


def _turns(policy: PolicyKey, following: PolicyKey) -> bool:
    """From those of a namespace to those of the cluster, or back: these are for many, and stand in nobody's midst."""
    return bool(policy.namespace) != bool(following.namespace)


@lru_cache(_KEPT)
def _jump(chain: str) -> Rule:
    return m.rule(Verdict("jump", chain))


@lru_cache(_KEPT)
def _go(chain: str) -> Rule:
    return m.rule(Verdict("goto", chain))


def tier_end(direction: Direction, tier: str) -> str:
    """The chain, and the counter, of what a tier denies since none of its policies said a word."""
    return f"{direction}/tier-end/{tier}"


def no_profile(direction: Direction) -> str:
    """The chain, and the counter, of what no profile allows."""
    return f"{direction}/no-profile"


@lru_cache(_TIERS_KEPT)
def _end(family: Family, name: str, settings: SettingsRow) -> Mapping[NftKey, NftValue]:
    return {
        CounterKey(family, name): NamedCounter(),
        ChainKey(family, name): Chain.of(m.rule(CountBy(name), *deny(family, settings))),
    }
