"""The tables of IP sets, which several nodes of the graph fill."""

from __future__ import annotations

from tortie.calc.outlet import Rows
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.net.addresses import Prefix


class IPSets:
    """``sets`` and ``members`` may be written to directly, member by member; `fill` is for sets that are few and small."""

    def __init__(self) -> None:
        self.sets = Rows(IPSETS)
        self.members = Rows(MEMBERS)
        self._filled: dict[str, frozenset[Prefix]] = {}

    def fill(self, name: str, prefixes: frozenset[Prefix]) -> None:
        """These are all members of the set, which exists from now on."""
        self.sets.want(name, IPSetRow())
        before = self._filled.get(name, frozenset())
        for prefix in before - prefixes:
            self.members.want(Member(name, prefix), None)
        for prefix in prefixes - before:
            self.members.want(Member(name, prefix), PRESENT)
        self._filled[name] = prefixes
