"""Rows of HostEndpoints to base chains and the verdict maps in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.groups import Group, GroupManager
from tortie.dataplane.linux.rules.host import HostPlace, applied, map_name, of_place, places_of
from tortie.desired.host_endpoints import ALL_INTERFACES, HOST_ENDPOINTS, HostEndpointRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import FAMILIES, ElementKey, Family, NftKey, NftValue, Verdict, interface_key
from tortie.net.addresses import Address


class _Member(NamedTuple):
    """An interface at one place, and the HostEndpoint that guards it."""

    place: str
    interface: str
    name: str


class HostEndpointManager:
    """There are few of these: all are settled anew when one changes. Where two mean one interface the first by name stands."""

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue], groups: GroupManager) -> None:
        self._rows: dict[str, HostEndpointRow] = {}
        self._settings = SettingsRow()
        self._addresses: Mapping[str, frozenset[Address]] = {}
        self._groups = groups
        self._joined: dict[tuple[Family, _Member], Group] = {}
        self._claimed: set[str] = set()
        self._dirty = False
        self._claims: Claims[str, NftKey, NftValue] = Claims(HOST_ENDPOINTS.name, tracker)
        self._frame: Claims[str, NftKey, NftValue] = Claims("host-places", tracker)
        self._places: list[HostPlace] = []

    @property
    def needs_addresses(self) -> bool:
        """Whether any row is known by the addresses that it expects alone."""
        return any(not row.interface for row in self._rows.values())

    def saw_addresses(self, addresses: Mapping[str, frozenset[Address]]) -> None:
        """The node's interfaces and what they carry."""
        if addresses != self._addresses:
            self._addresses = addresses
            self._dirty = self._dirty or self.needs_addresses

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == HOST_ENDPOINTS:
            for name in delta.gone:
                self._rows.pop(name, None)
            self._rows.update(delta.put)
            self._dirty = True
        elif delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            self._dirty = self._dirty or settings != self._settings
            self._settings = settings

    def settle(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        meant = self._meant()
        everywhere = next(
            (name for name, row in sorted(self._rows.items()) if row.interface == ALL_INTERFACES), None
        )
        places = places_of(self._rows.values())
        for place in self._places:
            if place not in places:
                self._frame.set(place.chain, {})
        self._places = places
        self._join(meant if everywhere is None else {**meant, ALL_INTERFACES: everywhere})
        wanted: dict[str, dict[NftKey, NftValue]] = {name: {} for name in self._rows}
        for place in places:
            elsewhere = _Member(place.chain, ALL_INTERFACES, everywhere or "")
            chains: dict[Family, str] = {}
            for family in FAMILIES:
                if (family, elsewhere) in self._joined:
                    chains[family] = self._joined[family, elsewhere].name
            self._frame.set(place.chain, of_place(place, self._settings, chains))
            for interface, name in meant.items():
                for family in FAMILIES:
                    group = self._joined[family, _Member(place.chain, interface, name)]
                    key = ElementKey(family, map_name(place), interface_key(interface))
                    wanted[name][key] = Verdict("goto", group.name)
        for name in self._claimed - wanted.keys():
            self._claims.set(name, {})
        for name, elements in wanted.items():
            self._claims.set(name, elements)
        self._claimed = set(wanted)

    def _join(self, meant: Mapping[str, str]) -> None:
        """Each interface is a member of the groups of the HostEndpoint that guards it, at every place."""
        left, self._joined = self._joined, {}
        for place in self._places:
            for interface, name in meant.items():
                member, row = _Member(place.chain, interface, name), applied(self._rows[name], place)
                for family in FAMILIES:
                    kind = place.kind._replace(family=family)
                    self._joined[family, member] = self._groups.join("host", kind, row, member)
        for (family, member), group in left.items():
            now = self._joined.get((family, member))
            if now is not group:
                self._groups.leave(group, member)
            if now is None:
                self._groups.forget(member)
        self._groups.elect()

    def _meant(self) -> dict[str, str]:
        """Interface to the HostEndpoint that guards it."""
        found: dict[str, str] = {}
        for name, row in sorted(self._rows.items()):
            for interface in self._interfaces(row):
                found.setdefault(interface, name)
        return found

    def _interfaces(self, row: HostEndpointRow) -> Iterator[str]:
        if row.interface == ALL_INTERFACES:
            return
        if row.interface:
            yield row.interface
            return
        expected = frozenset(row.expected)
        yield from (name for name, carried in sorted(self._addresses.items()) if carried & expected)

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        if not failed:
            return {}
        frame = next((error for key, error in failed.items() if self._frame.owners_of(key)), None)
        if frame is not None:
            return {DesiredKey(HOST_ENDPOINTS.name, name): frame for name in self._rows}
        found = self._claims.blame(failed)
        groups = self._groups.broken(failed)
        for (_, member), group in self._joined.items():
            if group in groups:
                found.setdefault(DesiredKey(HOST_ENDPOINTS.name, member.name), groups[group])
        return found
