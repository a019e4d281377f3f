"""Pods that have addresses of one IP version, of the other or of both, and gain and lose them while policies change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from tests.fuzz.engine import Deltas
from tests.fuzz.kernel.field import OUTSIDE, Field
from tests.fuzz.words import chance
from tests.kernel.dataplane_world import World
from tests.oracle.judge import Oracle
from tests.oracle.packets import Packet
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.table import Delta

_VERSIONS = ((4,), (6,), (4, 6))


class MixedField(Field):
    """With every set of policies some pods have other addresses than before."""

    def __init__(self, world: World, rng: Random) -> None:
        super().__init__(world, lambda deltas: [*self._mixed(deltas)])
        self._rng = rng
        self._rows: dict[EndpointKey, EndpointRow] = {}
        self._versions: dict[str, tuple[int, ...]] = {}

    def _mixed(self, deltas: Deltas) -> Iterator[Delta[Any, Any]]:
        gone: set[EndpointKey] = set()
        for delta in deltas:
            if delta.table == ENDPOINTS:
                gone.update(delta.gone)
                self._rows.update(delta.put)
            else:
                yield delta
        self._rows = {key: row for key, row in self._rows.items() if key not in gone}
        for interface in {row.interface: None for row in self._rows.values()}:
            if interface not in self._versions or chance(self._rng, 0.4):
                self._versions[interface] = self._rng.choice(_VERSIONS)
        yield Delta(
            ENDPOINTS, {key: self._with_some(row) for key, row in self._rows.items()}, frozenset(gone)
        )

    def _with_some(self, row: EndpointRow) -> EndpointRow:
        versions = self._versions[row.interface]
        return replace(row, addresses=tuple(each for each in row.addresses if each.version in versions))

    def expected(self, oracle: Oracle, packet: Packet) -> bool:
        ends = map(self.name, (packet.source, packet.destination))
        has = all(end == OUTSIDE or packet.version in self._versions.get(end, _VERSIONS[-1]) for end in ends)
        return has and super().expected(oracle, packet)
