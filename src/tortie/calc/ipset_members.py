"""Members of the IP sets that rules use: kept for the sets in use alone, and changed at the cost of what changes."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tortie.calc.ipsets import IPSets
from tortie.calc.label_index import LabelIndex
from tortie.calc.service_members import ServiceIndex
from tortie.calc.set_definitions import NamedPortSet, SelectorSet, ServiceSet, SetDefinition
from tortie.desired.ipsets import PRESENT, Member
from tortie.net.addresses import Prefix


class NamedPort(NamedTuple):
    """A port that an endpoint has under a name."""

    name: str
    protocol: int
    port: int


class _Source:
    """One endpoint or network set."""

    __slots__ = ("ports", "prefixes")

    def __init__(self, prefixes: tuple[Prefix, ...], ports: tuple[NamedPort, ...]) -> None:
        self.prefixes = prefixes
        self.ports = ports


class IPSetMembers:
    """In: endpoints, host endpoints and network sets of the whole cluster with their labels, services, and which sets are in
    use. Out: rows of IPSETS and MEMBERS.

    A member that comes from several sources stays until the last of them goes.
    """

    def __init__(self, ipsets: IPSets) -> None:
        self._ipsets = ipsets
        self._sources: dict[Hashable, _Source] = {}
        self._index: LabelIndex[str, Hashable] = LabelIndex(self._started, self._stopped)
        self._services = ServiceIndex(self._add, self._remove)
        self._used: dict[str, SetDefinition] = {}
        self._users: dict[str, int] = {}
        self._used_by: dict[Hashable, frozenset[str]] = {}
        self._more: dict[Member, int] = {}
        """How many more sources than one a member has."""
        self._unused: set[str] = set()
        self.on_slice = self._services.on_slice
        self.on_endpoints = self._services.on_endpoints
        self.set_inherited = self._index.set_parent

    # Sources

    def put(
        self,
        key: Hashable,
        labels: Mapping[str, str],
        parents: Sequence[str],
        prefixes: tuple[Prefix, ...],
        ports: tuple[NamedPort, ...] = (),
    ) -> None:
        source = self._sources.get(key)
        if source is None:
            self._sources[key] = _Source(prefixes, ports)
        elif source.prefixes != prefixes or source.ports != ports:
            matched = list(self._index.matched(key))
            for name in matched:
                self._stopped(name, key)
            source.prefixes, source.ports = prefixes, ports
            for name in matched:
                self._started(name, key)
        self._index.put(key, labels, parents)

    def drop(self, key: Hashable) -> None:
        if key in self._sources:
            self._index.drop(key)
            del self._sources[key]

    # Sets in use

    def use(self, user: Hashable, sets: Mapping[str, SetDefinition]) -> None:
        """From now on the user (a policy, a profile) refers to these sets and no others."""
        before, now = self._used_by.get(user, frozenset[str]()), frozenset(sets)
        for name in now - before:
            self._users[name] = self._users.get(name, 0) + 1
            if name not in self._used:
                self._activate(name, sets[name])
        for name in before - now:
            self._users[name] -= 1
            if not self._users[name]:
                self._unused.add(name)
        if now:
            self._used_by[user] = now
        else:
            self._used_by.pop(user, None)

    def flush(self) -> None:
        """Forget the sets that nobody came to use again."""
        for name in self._unused:
            if not self._users[name]:
                del self._users[name]
                self._deactivate(name)
        self._unused.clear()

    def _activate(self, name: str, definition: SetDefinition) -> None:
        self._used[sys.intern(name)] = definition
        self._ipsets.sets.want(name, definition.row)
        if isinstance(definition, ServiceSet):
            self._services.watch(name, definition)
        else:
            self._index.watch(name, definition.selector)

    def _deactivate(self, name: str) -> None:
        definition = self._used[name]
        if isinstance(definition, ServiceSet):
            self._services.unwatch(name, definition)
        else:
            self._index.unwatch(name)
        del self._used[name]
        self._ipsets.sets.want(name, None)

    # Members

    def _started(self, name: str, key: Hashable) -> None:
        for member in self._members(name, key):
            self._add(member)

    def _stopped(self, name: str, key: Hashable) -> None:
        for member in self._members(name, key):
            self._remove(member)

    def _members(self, name: str, key: Hashable) -> Iterator[Member]:
        source = self._sources[key]
        match self._used[name]:
            case SelectorSet():
                for prefix in source.prefixes:
                    yield Member(name, prefix)
            case NamedPortSet(_, protocol, wanted):
                for port in source.ports:
                    if port.name == wanted and port.protocol == protocol:
                        for prefix in source.prefixes:
                            yield Member(name, prefix, protocol, port.port)
            case ServiceSet():
                return

    def _add(self, member: Member) -> None:
        if self._ipsets.members.get(member):
            self._more[member] = self._more.get(member, 0) + 1
        else:
            self._ipsets.members.want(member, PRESENT)

    def _remove(self, member: Member) -> None:
        more = self._more.get(member, 0)
        if more > 1:
            self._more[member] = more - 1
        elif more:
            del self._more[member]
        else:
            self._ipsets.members.want(member, None)
