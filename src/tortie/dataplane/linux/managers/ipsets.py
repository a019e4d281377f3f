"""Rows of IP sets to nftables sets of both families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.chains import ipset_spec
from tortie.dataplane.linux.rules.elements import of_ipset
from tortie.desired.ipsets import IPSETS, IPSetRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import FAMILIES, NftKey, NftValue, SetKey


class IPSetManager:
    """Each row becomes a set a family, with intervals that do not touch. The frame owns those that it refers to."""

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue]) -> None:
        self._dirty: dict[str, IPSetRow | None] = {}
        self._claims: Claims[str, NftKey, NftValue] = Claims(IPSETS.name, tracker)

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == IPSETS:
            self._dirty.update(dict.fromkeys(delta.gone))
            self._dirty.update(delta.put)

    def settle(self) -> None:
        for name, row in self._dirty.items():
            wanted: dict[NftKey, NftValue] = {}
            if row is not None:
                for family in FAMILIES:
                    if name not in names.BUILT_IN_IPSETS:
                        wanted[SetKey(family, name)] = ipset_spec(family)
                    wanted |= of_ipset(family, name, row.members)
            self._claims.set(name, wanted)
        self._dirty.clear()

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        return self._claims.blame(failed)
