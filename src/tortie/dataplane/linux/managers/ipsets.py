"""Rows of IP sets and of their members to nftables sets of both families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tortie.dataplane.delta_tracker import DeltaTracker
from tortie.dataplane.linux.managers.claims import Claims
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.chains import ipset_spec
from tortie.dataplane.linux.rules.elements import of_ipset
from tortie.desired.ipsets import IPSETS, MEMBERS, IPSetRow
from tortie.desired.table import Delta, DesiredKey
from tortie.errors import TortieError
from tortie.host.nft import FAMILIES, NftKey, NftValue, SetKey
from tortie.net.addresses import Prefix


class IPSetManager:
    """Each row becomes a set a family, with intervals that do not touch. The frame owns those that it refers to."""

    def __init__(self, tracker: DeltaTracker[NftKey, NftValue]) -> None:
        self._rows: dict[str, IPSetRow] = {}
        self._members: dict[str, set[Prefix]] = {}
        self._dirty: dict[str, None] = {}
        self._claims: Claims[str, NftKey, NftValue] = Claims(IPSETS.name, tracker)

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        if delta.table == IPSETS:
            self._rows.update(delta.put)
            for name in delta.gone:
                self._rows.pop(name, None)
            self._dirty.update(dict.fromkeys((*delta.put, *delta.gone)))
        elif delta.table == MEMBERS:
            for member in delta.gone:
                self._members.get(member.ipset, set()).discard(member.prefix)
                self._dirty[member.ipset] = None
            for member in delta.put:
                self._members.setdefault(member.ipset, set()).add(member.prefix)
                self._dirty[member.ipset] = None

    def settle(self) -> None:
        for name in self._dirty:
            wanted: dict[NftKey, NftValue] = {}
            if name in self._rows:
                for family in FAMILIES:
                    if name not in names.BUILT_IN_IPSETS:
                        wanted[SetKey(family, name)] = ipset_spec(family)
                    wanted |= of_ipset(family, name, self._members.get(name, ()))
            self._claims.set(name, wanted)
        self._dirty.clear()

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        return self._claims.blame(failed)
