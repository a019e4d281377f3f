"""Profiles: the labels that endpoints inherit, and the rules that hold where no policy decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec

from tortie.calc.ipset_members import IPSetMembers
from tortie.calc.outlet import Rows
from tortie.calc.problems import Problems
from tortie.calc.rules import RuleCompiler
from tortie.calc.set_definitions import SetDefinition
from tortie.desired.policies import DIRECTIONS, PROFILES, Direction, ProfileRow, RuleRow, Written
from tortie.desired.table import Problem
from tortie.errors import InvalidResource
from tortie.resources.profile import ProfileSpec
from tortie.resources.resource import Resource

Inherit = Callable[[str, Mapping[str, str] | None], None]


class _Compiled:
    """The rules of a profile. Those of most are the same, and then one object."""

    __slots__ = ("__weakref__", "row", "sets")

    def __init__(self, row: ProfileRow, sets: Mapping[str, SetDefinition]) -> None:
        self.row = row
        self.sets = sets


_DENY = (RuleRow(action="Deny", written=(Written("invalid", "there is no such profile"),)),)
_MISSING = _Compiled(ProfileRow(ingress=_DENY, egress=_DENY), {})


class ProfilesNode:
    """In: Profile, and which local endpoints have which. Out: PROFILES for those, and labels through ``inherit``.

    A profile that an endpoint names and that is not there denies, as in Calico: it may have been meant to.
    """

    def __init__(self, members: IPSetMembers, inherit: Sequence[Inherit], problems: Problems) -> None:
        self.rows = Rows(PROFILES)
        self._members = members
        self._inherit = inherit
        self._problems = problems
        self._profiles: dict[str, _Compiled] = {}
        self._interned: WeakValueDictionary[bytes, _Compiled] = WeakValueDictionary()
        self._named_by: dict[Hashable, tuple[str, ...]] = {}
        self._users: Counter[str] = Counter()
        self._dirty: set[str] = set()

    def __len__(self) -> int:
        return len(self._profiles)

    def on_update(self, name: str, resource: Resource[ProfileSpec] | None) -> None:
        if resource is None:
            self._profiles.pop(name, None)
        else:
            self._profiles[name] = self._compiled(resource.spec)
        labels = None if resource is None else resource.spec.labels_to_apply
        for inherit in self._inherit:
            inherit(name, labels)
        self._dirty.add(name)

    def _compiled(self, spec: ProfileSpec) -> _Compiled:
        written = msgspec.msgpack.encode((spec.ingress, spec.egress))
        found = self._interned.get(written)
        if found is None:
            compiler = RuleCompiler()
            rules = {direction: _rules(spec, direction, compiler) for direction in DIRECTIONS}
            row = ProfileRow(ingress=rules["ingress"], egress=rules["egress"])
            found = self._interned[written] = _Compiled(row, compiler.sets)
        return found

    def name(self, user: Hashable, profiles: Sequence[str]) -> None:
        """The local endpoint has these profiles from now on."""
        before, now = self._named_by.get(user, ()), tuple(dict.fromkeys(profiles))
        if before == now:
            return
        self._users.update(now)
        self._users.subtract(before)
        self._dirty.update(before, now)
        if now:
            self._named_by[user] = now
        else:
            del self._named_by[user]

    def flush(self) -> None:
        for name in self._dirty:
            used = self._users[name] > 0
            if not used:
                del self._users[name]
            found = self._profiles.get(name, _MISSING) if used else None
            self.rows.want(name, None if found is None else found.row)
            self._members.use(("profile", name), {} if found is None else found.sets)
            missing = Problem(
                f"Profile {name}", "", "is named by a local endpoint and is not there: it denies"
            )
            self._problems.report(("missing profile", name), (missing,) if found is _MISSING else ())
        self._dirty.clear()


def _rules(spec: ProfileSpec, direction: Direction, compiler: RuleCompiler) -> tuple[RuleRow, ...]:
    rules = spec.ingress if direction == "ingress" else spec.egress
    for number, rule in enumerate(rules):
        if rule.action == "Pass":
            raise InvalidResource(f"spec.{direction}[{number}].action", "Pass", "has no meaning in a profile")
    return tuple(
        compiler.rule(rule, f"spec.{direction}[{number}]", index=number) for number, rule in enumerate(rules)
    )
