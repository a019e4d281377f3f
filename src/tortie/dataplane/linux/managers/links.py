"""Rows of endpoints to what their interfaces must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError

Aspect = Literal["up", "ipv4", "ipv6"]


class LinkKey(NamedTuple):
    """One aspect of a workload's interface: whether it is up, and whether it is made for an IP version."""

    interface: str
    aspect: Aspect


class LinkManager:
    """``ipv4`` and ``ipv6`` are wanted for the versions that the workload has addresses of, ``up`` always."""

    def __init__(self, tracker: DeltaTracker[LinkKey, bool]) -> None:
        self._dirty: dict[EndpointKey, EndpointRow | None] = {}
        self._names: dict[EndpointKey, str] = {}
        self._interfaces: Counter[str] = Counter()
        self._claims: Claims[EndpointKey, LinkKey, bool] = Claims(ENDPOINTS.name, tracker)

    @property
    def interfaces(self) -> Collection[str]:
        """Those of all workloads."""
        return self._interfaces.keys()

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == ENDPOINTS:
            self._dirty.update(dict.fromkeys(delta.gone))
            self._dirty.update(delta.put)

    def settle(self) -> None:
        # Of two that name one interface, the one that holds an address by right has the last word.
        for key, row in sorted(self._dirty.items(), key=lambda item: item[1] is not None and item[1].up):
            self._count(key, row)
            self._claims.set(key, {} if row is None else _wanted(row))
        self._dirty.clear()

    def _count(self, key: EndpointKey, row: EndpointRow | None) -> None:
        before = self._names.pop(key, None)
        if before is not None:
            self._interfaces[before] -= 1
            if not self._interfaces[before]:
                del self._interfaces[before]
        if row is not None:
            self._names[key] = row.interface
            self._interfaces[row.interface] += 1

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        return self._claims.blame(failed)


def _wanted(row: EndpointRow) -> dict[LinkKey, bool]:
    found: dict[LinkKey, bool] = {}
    versions = {address.version for address in row.addresses}
    if 4 in versions:
        found[LinkKey(row.interface, "ipv4")] = True
    if 6 in versions:
        found[LinkKey(row.interface, "ipv6")] = True
    found[LinkKey(row.interface, "up")] = row.up
    return found
