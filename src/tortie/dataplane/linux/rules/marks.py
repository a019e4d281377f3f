"""The two bits of a packet's mark that policy needs; between two chains, never longer than the packet is in the node."""

from __future__ import annotations

import sys

from tortie.desired.settings import SettingsRow
from tortie.host.nft import Compare, Expression, Mask, Meta, SetMeta

_ALL = 0xFFFFFFFF


def passed(settings: SettingsRow) -> int:
    """A rule said Pass: the highest bit of ours."""
    return 1 << settings.mark_mask.bit_length() - 1


def accepted(settings: SettingsRow) -> int:
    """An untracked or pre-DNAT policy said Allow: the bit after that."""
    rest = settings.mark_mask & ~passed(settings)
    return 1 << rest.bit_length() - 1


def put(bit: int) -> tuple[Expression, ...]:
    return Meta("mark"), Mask(_word(_ALL & ~bit), _word(bit)), SetMeta("mark")


def clear(bit: int) -> tuple[Expression, ...]:
    return Meta("mark"), Mask(_word(_ALL & ~bit), _word(0)), SetMeta("mark")


def has(bit: int) -> tuple[Expression, ...]:
    return Meta("mark"), Mask(_word(bit), _word(0)), Compare("neq", _word(0))


def _word(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)
