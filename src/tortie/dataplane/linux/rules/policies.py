"""Policies and profiles to chains: one a policy, direction and place, shared by every endpoint that it selects.
In the table of an IP version stand those alone that an endpoint with an address of that version is led to.

A chain ends with `accept` or `drop` where a rule decides, and returns where none does. A rule with the action Pass sets a bit
of the packet's mark before it returns; whoever jumped there looks at that bit (`rules.groups`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tortie.dataplane.linux.rules import marks, names
from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules.reach import Reach, of_rules
from tortie.dataplane.linux.rules.rule_match import Matches, SetName, of_rule
from tortie.desired.policies import Direction, PolicyKey, PolicyRow, ProfileRow, RuleRow
from tortie.desired.settings import SettingsRow
from tortie.host.nft import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    ChainKey,
    CountBy,
    CounterKey,
    Expression,
    Family,
    Log,
    NamedCounter,
    NftKey,
    NftValue,
    NoTrack,
    Reject,
    Rule,
    Verdict,
)

Place = Literal["filter", "untracked", "pre-dnat"]
"""Where in a packet's way a chain is walked; the same policy allows in another way there."""
_PORT_UNREACHABLE: dict[Family, int] = {"ip": 3, "ip6": 4}
_LOG_BYTES = 126
_FEW = 8
"""Of more rules a policy has a chain of its own in any case: whoever holds them is written anew with each change of one."""


class Part(NamedTuple):
    """One policy, or one profile by its name, in one direction, place and table: what one chain is made of."""

    subject: PolicyKey | str
    direction: Direction
    place: Place = "filter"
    family: Family = "ip"

    @property
    def chain(self) -> str:
        """The chain's name, in either table; its counters' names begin with it too."""
        where = self.direction if self.place == "filter" else f"{self.place}-{self.direction}"
        if isinstance(self.subject, str):
            return names.bounded(f"{where}/Profile/{self.subject}")
        kind, namespace, name = self.subject
        return names.bounded(f"{where}/{kind}/{namespace}/{name}" if namespace else f"{where}/{kind}/{name}")


class Outline(NamedTuple):
    """What those who jump to a part's chain must know of it: whether it may set the mark that says Pass, and which packets it
    could say anything about."""

    passes: bool
    reach: Reach | None


@dataclass(frozen=True, eq=False)
class Rendered:
    """What the kernel holds for a part. ``counters``: of each rule of the row, in their order, and of what a staged policy's
    rules do not match. ``within``: rules without a chain of their own, which are to stand in that of who leads there."""

    objects: dict[NftKey, NftValue]
    counters: tuple[str, ...] = ()
    within: tuple[Rule, ...] | None = None


@dataclass
class _Building:
    part: Part
    settings: SettingsRow
    rules: list[Rule] = field(default_factory=list[Rule])
    objects: dict[NftKey, NftValue] = field(default_factory=dict[NftKey, NftValue])


def of_part(
    part: Part,
    row: PolicyRow | ProfileRow | None,
    settings: SettingsRow,
    set_name: SetName,
    *,
    alone: bool = False,
) -> Rendered:
    """A policy that has no row drops everything, for it is not known what it would allow; such a profile says nothing.

    ``alone``: there is but one who leads there, who can hold the rules if they are few. A chain costs time with every change of
    any (`docs/adr/0008`). Those of a staged policy return, and so must not stand before others' rules.
    """
    staged = isinstance(row, PolicyRow) and row.staged
    rules = row.rules(part.direction) if row is not None else ()
    counters = counter_names(part, rules)
    building = _Building(part, settings)
    for rule, counter in zip(rules, counters, strict=True):
        prefix = log_prefix(part, row, settings) if rule.action == "Log" else ""
        _add(building, rule, counter, of_rule(part.family, rule, set_name), staged=staged, prefix=prefix)
    if row is None and isinstance(part.subject, PolicyKey):
        building.rules.append(m.rule(m.counted(DROP), comment="a policy that is not known"))
    if staged:
        end = f"{part.chain}/end"
        building.objects[CounterKey(part.family, end)] = NamedCounter()
        building.rules.append(m.rule(CountBy(end), comment="no rule matched"))
        counters = (*counters, end)
    if alone and not staged and row is not None and len(building.rules) <= _FEW:
        return Rendered(building.objects, counters, tuple(building.rules))
    building.objects[ChainKey(part.family, part.chain)] = Chain.of(*building.rules, closes=not staged)
    return Rendered(building.objects, counters)


def counter_names(part: Part, rules: Sequence[RuleRow]) -> tuple[str, ...]:
    """A rule's counter is named by what the rule does: it keeps its count when others come, go or change places."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for rule in rules:
        bare = dataclasses.replace(rule, index=0, written=(), line=0)
        name = names.digest(bare)
        seen[name] += 1
        found.append(f"{part.chain}/{name}" if seen[name] == 1 else f"{part.chain}/{name}.{seen[name]}")
    return tuple(found)


def outline(part: Part, row: PolicyRow | ProfileRow | None) -> Outline:
    """Of a policy that is not known, which drops everything, too. A staged one counts whatever comes."""
    if not isinstance(row, PolicyRow) or row.staged:
        return Outline(passes=False, reach=None)
    rules = row.rules(part.direction)
    return Outline(any(rule.action == "Pass" for rule in rules), of_rules(rules))


def _add(
    building: _Building, rule: RuleRow, counter: str, matches: Matches, *, staged: bool, prefix: str
) -> None:
    if not matches.alternatives:
        return
    action: Sequence[Expression]
    if staged:
        action = () if rule.action == "Log" else (RETURN,)
    else:
        action = _action(building, rule, prefix)
    building.objects |= matches.sets
    building.objects[CounterKey(building.part.family, counter)] = NamedCounter()
    does = (CountBy(counter), *action)
    comment = f"{rule.index}: {rule.action}"
    if len(matches.alternatives) == 1 or isinstance(does[-1], Verdict):
        building.rules += (m.rule(match, does, comment=comment) for match in matches.alternatives)
        return
    # What does not end at the first match must not happen twice for one packet.
    apart = Chain.of(*(m.rule(match, does, RETURN) for match in matches.alternatives), closes=False)
    building.objects[ChainKey(building.part.family, counter)] = apart
    building.rules.append(m.rule(Verdict("jump", counter), comment=comment))


def _action(building: _Building, rule: RuleRow, prefix: str) -> Sequence[Expression]:
    settings, place = building.settings, building.part.place
    if rule.action == "Log":
        return (Log(prefix, settings.log_group),)
    if rule.action == "Pass":
        of_policy = isinstance(building.part.subject, PolicyKey)
        return (*marks.put(marks.passed(settings)), RETURN) if of_policy else (RETURN,)
    if rule.action == "Deny":
        return deny(building.part.family, settings) if place == "filter" else (DROP,)
    if place == "filter":
        return (ACCEPT,)
    untracked = (NoTrack(),) if place == "untracked" else ()
    return (*untracked, *marks.put(marks.accepted(settings)), ACCEPT)


def deny(family: Family, settings: SettingsRow) -> Sequence[Expression]:
    """What becomes of a packet that is denied."""
    if settings.deny_action == "Reject":
        return (Reject("icmp", _PORT_UNREACHABLE[family]),)
    return (DROP,)


def log_prefix(part: Part, row: PolicyRow | ProfileRow | None, settings: SettingsRow) -> str:
    """Felix's own words: %t the tier, %k the kind, %p the policy, %n its name."""
    if isinstance(part.subject, str):
        kind, whole, name = "Profile", part.subject, part.subject
    else:
        kind, name = part.subject.kind, part.subject.name
        whole = f"{part.subject.namespace}/{name}" if part.subject.namespace else name
    tier = row.tier if isinstance(row, PolicyRow) else ""
    prefix = settings.log_prefix
    for sign, text in (("%t", tier), ("%k", kind), ("%p", whole), ("%n", name)):
        prefix = prefix.replace(sign, text)
    return (prefix + ": ").encode()[:_LOG_BYTES].decode(errors="ignore")
