"""The rows of `desired` as the engine looks them up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.host_endpoints import HOST_ENDPOINTS, HostEndpointRow
from tortie.desired.ipsets import IPSETS, MEMBERS, IPSetRow
from tortie.desired.policies import POLICIES, PROFILES, PolicyKey, PolicyRow, ProfileRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta
from tortie.net.addresses import Address
from tortie.verdict.members import NO_MEMBERS, MemberIndex


class State:
    """Give it every delta of a graph, in the order of its flushes. Rows of other tables are passed over."""

    def __init__(self, deltas: Iterable[Delta[Any, Any]] = ()) -> None:
        self.endpoints: dict[EndpointKey, EndpointRow] = {}
        self.host_endpoints: dict[str, HostEndpointRow] = {}
        self.policies: dict[PolicyKey, PolicyRow] = {}
        self.profiles: dict[str, ProfileRow] = {}
        self.ipsets: dict[str, IPSetRow] = {}
        self.members: dict[str, MemberIndex] = {}
        self.holders: dict[Address, EndpointKey] = {}
        """Whose address it is."""
        self._settings: dict[str, SettingsRow] = {}
        self._tables: dict[str, dict[Any, Any]] = {
            ENDPOINTS.name: self.endpoints,
            HOST_ENDPOINTS.name: self.host_endpoints,
            POLICIES.name: self.policies,
            PROFILES.name: self.profiles,
            IPSETS.name: self.ipsets,
            SETTINGS.name: self._settings,
        }
        self.take(deltas)

    @property
    def settings(self) -> SettingsRow:
        return self._settings.get(NODE) or SettingsRow()

    def take(self, deltas: Iterable[Delta[Any, Any]]) -> None:
        """Bring the rows up to date."""
        for delta in deltas:
            if delta.table == MEMBERS:
                self._take_members(delta)
                continue
            rows = self._tables.get(delta.table.name)
            if rows is None:
                continue
            if delta.table == ENDPOINTS:
                self._take_holders(delta)
            for key in delta.gone:
                rows.pop(key, None)
            rows.update(delta.put)

    def set_of(self, name: str) -> MemberIndex:
        return self.members.get(name, NO_MEMBERS)

    def _take_members(self, delta: Delta[Any, Any]) -> None:
        for member in delta.gone:
            if (found := self.members.get(member.ipset)) is not None:
                found.discard(member)
        for member in delta.put:
            if (found := self.members.get(member.ipset)) is None:
                found = self.members[member.ipset] = MemberIndex()
            found.add(member)

    def _take_holders(self, delta: Delta[Any, Any]) -> None:
        for key in (*delta.gone, *delta.put):
            old = self.endpoints.get(key)
            for address in old.addresses if old else ():
                if self.holders.get(address) == key:
                    del self.holders[address]
        for key, row in delta.put.items():
            self.holders.update(dict.fromkeys(row.addresses, key))
