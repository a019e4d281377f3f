"""Rows of IP sets and of their members to nftables sets of both families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.elements import FAMILY_OF, SetKind, ipset_spec, of_interval, of_member
from tortie.dataplane.linux.rules.intervals import Interval, Intervals
from tortie.desired.ipsets import IPSETS, MEMBERS, IPSetRow, Member
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import FAMILIES, ElementKey, Family, NftKey, NftValue, SetKey
from tortie.net.addresses import Address


@dataclass
class _Half:
    """One set in one family: how it stands, and what of it the tracker was told."""

    members: set[Member] = field(default_factory=set[Member])
    nets: Counter[int] = field(default_factory=Counter[int])
    """How many members are no single address, by their length: while there are any the set holds intervals."""
    kind: SetKind | None = None
    """None: it stands nowhere."""
    intervals: Intervals = field(default_factory=Intervals)
    changed: dict[Member, None] = field(default_factory=dict[Member, None])


class IPSetManager:
    """A set a row and family. One member more or less is one element more or less, however many there are; in a set of
    intervals it is those around it.

    The frame owns the sets that it refers to; those always hold intervals.
    """

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue]) -> None:
        self._tracker = tracker
        self._rows: dict[str, IPSetRow] = {}
        self._halves: dict[tuple[Family, str], _Half] = {}
        self._dirty: dict[str, None] = {}
        self._renamed: set[str] = set()

    def name_of(self, family: Family, ipset: str) -> str:
        """Under which name the kernel has it, after `settle`."""
        half = self._halves.get((family, ipset))
        return _name(ipset, (half.kind if half else None) or "")

    def holds(self, ipset: str, address: Address) -> bool:
        """Whether the address is in a set of prefixes."""
        half = self._halves.get((FAMILY_OF[address.version], ipset))
        if half is None:
            return False
        single = address.prefix
        return Member(ipset, single) in half.members or any(
            Member(ipset, single.supernet(length)) in half.members for length in half.nets
        )

    def holds_port(self, ipset: str, address: Address, protocol: int, port: int) -> bool:
        """Whether the three are in a set of ports."""
        half = self._halves.get((FAMILY_OF[address.version], ipset))
        return half is not None and Member(ipset, address.prefix, protocol, port) in half.members

    def take_renamed(self) -> set[str]:
        """The sets that changed their names since the last call."""
        renamed, self._renamed = self._renamed, set()
        return renamed

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == IPSETS:
            self._rows.update(delta.put)
            for name in delta.gone:
                self._rows.pop(name, None)
            self._dirty.update(dict.fromkeys((*delta.put, *delta.gone)))
        elif delta.table == MEMBERS:
            for member in delta.gone:
                self._change(member, there=False)
            for member in delta.put:
                self._change(member, there=True)

    def _change(self, member: Member, *, there: bool) -> None:
        family = FAMILY_OF[member.prefix.version]
        half = self._halves.setdefault((family, member.ipset), _Half())
        if (member in half.members) == there:
            return
        if there:
            half.members.add(member)
        else:
            half.members.discard(member)
        if not member.prefix.is_single:
            length = member.prefix.length
            half.nets[length] += 1 if there else -1
            if not half.nets[length]:
                del half.nets[length]
        half.changed[member] = None
        self._dirty[member.ipset] = None

    def settle(self) -> None:
        for name in self._dirty:
            for family in FAMILIES:
                self._settle(family, name)
        self._dirty.clear()

    def _settle(self, family: Family, ipset: str) -> None:
        half = self._halves.setdefault((family, ipset), _Half())
        row = self._rows.get(ipset)
        kind = None if row is None else _kind(ipset, row, half)
        if kind != half.kind:
            self._withdraw(family, ipset, half)
            half.changed = dict.fromkeys(half.members) if kind is not None else {}
            half.kind = kind
            self._renamed.add(ipset)
            if kind is not None and ipset not in names.BUILT_IN_IPSETS:
                self._tracker.want(SetKey(family, _name(ipset, kind)), ipset_spec(family, kind))
        if kind is None:
            if not half.members:
                del self._halves[family, ipset]
            half.changed.clear()
            return
        name = _name(ipset, kind)
        if kind == "nets":
            self._change_intervals(family, name, half)
        else:
            for member in half.changed:
                element = of_member(family, name, member)
                if member in half.members:
                    self._tracker.want(element, None)
                else:
                    self._tracker.unwant(element)
        half.changed.clear()

    def _change_intervals(self, family: Family, name: str, half: _Half) -> None:
        there = {True: set[Interval](), False: set[Interval]()}
        for member in half.changed:
            there[member in half.members].add((member.prefix.value, member.prefix.last))
        gone, new = half.intervals.change(there[True], there[False])
        for interval in gone:
            self._tracker.unwant(of_interval(family, name, interval))
        for interval in new:
            self._tracker.want(of_interval(family, name, interval), None)

    def _withdraw(self, family: Family, ipset: str, half: _Half) -> None:
        """Nothing of it shall stand as it does."""
        if half.kind is None:
            return
        name = _name(ipset, half.kind)
        if half.kind == "nets":
            for interval in half.intervals.merged:
                self._tracker.unwant(of_interval(family, name, interval))
            half.intervals = Intervals()
        else:
            for member in half.members | half.changed.keys():
                self._tracker.unwant(of_member(family, name, member))
        if ipset not in names.BUILT_IN_IPSETS:
            self._tracker.unwant(SetKey(family, name))

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        if not failed:
            return {}
        names_failed = {
            (key.family, key.set_name if isinstance(key, ElementKey) else key.name): error
            for key, error in failed.items()
            if isinstance(key, ElementKey | SetKey)
        }
        found: dict[DesiredKey, TortieError] = {}
        for (family, ipset), half in self._halves.items():
            if half.kind is not None and (family, _name(ipset, half.kind)) in names_failed:
                found[DesiredKey(IPSETS.name, ipset)] = names_failed[family, _name(ipset, half.kind)]
        return found


def _kind(ipset: str, row: IPSetRow, half: _Half) -> SetKind:
    if row.holds == "ports":
        return "ports"
    return "nets" if half.nets or ipset in names.BUILT_IN_IPSETS else ""


def _name(ipset: str, kind: SetKind) -> str:
    return ipset if ipset in names.BUILT_IN_IPSETS else names.ipset(ipset, kind)
