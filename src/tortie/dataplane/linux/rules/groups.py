"""What endpoints that are treated alike share: a chain that walks their tiers, then their profiles.

A tier is a chain too, shared by every group that has the same policies in it. At its end stands its default action; a packet
that is passed on returns to the group. Names come from the content, so that a change is another chain in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from tortie.dataplane.linux.rules import marks, names
from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules.policies import Part, Place, deny
from tortie.desired.policies import AppliedPolicies, Direction, TierRow
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

Passes = Callable[[Part], bool]


def group_name(kind: Kind, applied: AppliedPolicies) -> str:
    """The chain's name."""
    return f"{kind.prefix}/group/{names.digest((kind, applied))}"


def tier_name(kind: Kind, tier: TierRow) -> str:
    """The chain's name: the same whether the group cuts or not."""
    return names.bounded(f"{kind.prefix}/tier/{tier.name}/{names.digest((kind.tier_ends, tier))}")


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
    """The group's chain, and the end that it goes to."""
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
    for family in FAMILIES:
        found[ChainKey(family, group_name(kind, applied))] = Chain.of(*rules)
    return found


def of_tier(kind: Kind, tier: TierRow, settings: SettingsRow, may_pass: Passes) -> dict[NftKey, NftValue]:
    """One tier's chain, and the end that it goes to."""
    found: dict[NftKey, NftValue] = {}
    bit = marks.passed(settings)
    rules: list[Rule] = []
    for part in tier_parts(kind, tier):
        rules.append(m.rule(Verdict("jump", part.chain)))
        if may_pass(part):
            rules.append(m.rule(marks.has(bit), marks.clear(bit), RETURN, comment="Pass: the next tier"))
    if tier.default_action == "Deny" and kind.tier_ends:
        end = tier_end(kind.direction, tier.name)
        rules.append(m.rule(Verdict("goto", end)))
        found |= _end(end, settings)
    for family in FAMILIES:
        found[ChainKey(family, tier_name(kind, tier))] = Chain.of(*rules)
    return found


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
