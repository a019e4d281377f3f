"""Rows of endpoints to elements of the sets and verdict maps that make a workload known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.managers.frame import FrameManager
from tortie.dataplane.linux.managers.groups import Group, GroupManager
from tortie.dataplane.linux.rules.elements import families_of, of_endpoint
from tortie.dataplane.linux.rules.groups import WORKLOAD
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.policies import DIRECTIONS, POLICIES, Direction, PolicyKey, PolicyRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import FAMILIES, Family, NftKey, NftValue
from tortie.net.addresses import Address, Prefix

_KINDS = {
    (family, cuts): [WORKLOAD[direction]._replace(family=family, cuts=cuts) for direction in DIRECTIONS]
    for family in FAMILIES
    for cuts in (False, True)
}

_Groups = dict[tuple[Family, Direction], Group]
"""Those that an endpoint is in."""


class _Elements(NamedTuple):
    """All that an endpoint's elements depend on."""

    interface: str
    addresses: tuple[Address, ...]
    sources: tuple[Prefix, ...]
    groups: Mapping[tuple[Family, Direction], str]


class DispatchManager:
    """An endpoint is not real while any of its elements, the frame around them, or anything of the groups that they lead to is
    not in the kernel."""

    def __init__(
        self, tracker: DeltaTracker[NftKey, NftValue], frame: FrameManager, groups: GroupManager
    ) -> None:
        self._groups = groups
        self._joined: dict[EndpointKey, _Groups] = {}
        self._rendered: dict[EndpointKey, _Elements] = {}
        self._rows: dict[EndpointKey, EndpointRow] = {}
        self._dirty: dict[EndpointKey, None] = {}
        self._allow_sources = False
        self._cut_all = False
        self._cutting: set[PolicyKey] = set()
        self._frame = frame
        self._claims: Claims[EndpointKey, NftKey, NftValue] = Claims(ENDPOINTS.name, tracker)

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == ENDPOINTS:
            for key in delta.gone:
                self._rows.pop(key, None)
                self._dirty[key] = None
            self._rows.update(delta.put)
            self._dirty.update(dict.fromkeys(delta.put))
        elif delta.table == POLICIES:
            put: Mapping[PolicyKey, PolicyRow] = delta.put
            cutting = {key for key, row in put.items() if row.applies_to_established}
            before = len(self._cutting), self._cutting & (put.keys() | delta.gone)
            self._cutting = (self._cutting - put.keys() - delta.gone) | cutting
            if before != (len(self._cutting), cutting):
                self._dirty.update(dict.fromkeys(self._rows))
        elif delta.table == SETTINGS:
            settings: SettingsRow = delta.put.get(NODE) or SettingsRow()
            if settings.applies_to_established != self._cut_all:
                self._cut_all = settings.applies_to_established
                self._dirty.update(dict.fromkeys(self._rows))
            allow = settings.source_spoofing == "Any"
            if allow != self._allow_sources:
                self._allow_sources = allow
                self._dirty.update(
                    dict.fromkeys(key for key, row in self._rows.items() if row.allowed_sources)
                )

    def settle(self) -> None:
        for key in self._dirty:
            self._join(key, self._rows.get(key))
        for group in self._groups.elect():
            # Those in it who did not change lead to it by its new name too.
            self._dirty.update((key, None) for key in group.sharers if isinstance(key, EndpointKey))
        for key in self._dirty:
            self._settle(key, self._rows.get(key))
        self._dirty.clear()

    def _join(self, key: EndpointKey, row: EndpointRow | None) -> None:
        left, joined = self._joined.pop(key, {}), _Groups()
        if row is not None:
            cuts = self._cuts(row)
            for family in families_of(row, allow_sources=self._allow_sources):
                for kind in _KINDS[family, cuts]:
                    applied = row.egress if kind.direction == "egress" else row.ingress
                    group = self._groups.join("workload", kind, applied, key, row.created)
                    joined[family, kind.direction] = group
        for where, group in left.items():
            if joined.get(where) is not group:
                self._groups.leave(group, key)
        if joined:
            self._joined[key] = joined
        elif left:
            self._groups.forget(key)

    def _settle(self, key: EndpointKey, row: EndpointRow | None) -> None:
        if row is None:
            self._rendered.pop(key, None)
            self._claims.set(key, {})
            return
        groups = {where: group.name for where, group in self._joined.get(key, {}).items()}
        sources = row.allowed_sources if self._allow_sources else ()
        elements = _Elements(row.interface, row.addresses, sources, groups)
        if self._rendered.get(key) == elements:
            return
        self._rendered[key] = elements
        self._claims.set(key, of_endpoint(row, groups, allow_sources=self._allow_sources))

    def _cuts(self, row: EndpointRow) -> bool:
        """Whether a new deny cuts connections of this one that run."""
        if self._cut_all or not self._cutting:
            return self._cut_all
        return any(
            policy in self._cutting
            for applied in (row.ingress, row.egress)
            for tier in applied.tiers
            for policy in tier.policies
        )

    @property
    def cutting(self) -> dict[EndpointKey, EndpointRow]:
        """The endpoints whose connections a new deny cuts."""
        if not self._cut_all and not self._cutting:
            return {}
        return {key: row for key, row in self._rows.items() if self._cuts(row)}

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        if not failed:
            return {}
        broken = self._frame.broken(failed)
        if broken is not None:
            return self._claims.everyone(broken)
        found = self._claims.blame(failed)
        groups = self._groups.broken(failed)
        if groups:
            for key, joined in self._joined.items():
                for group in joined.values():
                    if group in groups:
                        found.setdefault(DesiredKey(ENDPOINTS.name, key), groups[group])
        return found
