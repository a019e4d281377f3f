"""Words for rules: small groups of expressions that match one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tortie.host.nft import (
    Compare,
    Counter,
    Ct,
    Expression,
    Family,
    Lookup,
    Mask,
    Meta,
    Payload,
    Rule,
    Verdict,
)

ESTABLISHED, RELATED = 2, 4
INVALID = 1

_NOTHING = b"\0\0\0\0"


def _host_order(value: int) -> bytes:
    """Conntrack's states are words of the machine; every machine that Linux containers run on today is little-endian."""
    return value.to_bytes(4, "little")


def ct_state(states: int) -> tuple[Expression, ...]:
    """The flow is in one of these states."""
    return Ct("state"), Mask(_host_order(states), _NOTHING), Compare("neq", _NOTHING)


def ct_status_without(status: int) -> tuple[Expression, ...]:
    """The flow has none of these bits in its status."""
    return Ct("status"), Mask(_host_order(status), _NOTHING), Compare("eq", _NOTHING)


def interface(direction: str, prefix: str) -> tuple[Expression, ...]:
    """The interface's name begins so. ``direction`` is ``iifname`` or ``oifname``."""
    return Meta("iifname" if direction == "iifname" else "oifname"), Compare("eq", prefix.encode())


def source(family: Family, register: int = 1) -> Payload:
    return Payload("network", 12, 4, register) if family == "ip" else Payload("network", 8, 16, register)


def destination(family: Family, register: int = 1) -> Payload:
    return Payload("network", 16, 4, register) if family == "ip" else Payload("network", 24, 16, register)


def link_local(load: Payload) -> tuple[Expression, ...]:
    """The IPv6 address that is loaded is a link-local one."""
    return load, Mask(b"\xff\xc0" + bytes(14), bytes(16)), Compare("eq", b"\xfe\x80" + bytes(14))


def protocol(number: int) -> tuple[Expression, ...]:
    return Meta("l4proto"), Compare("eq", bytes([number]))


def known_interface(set_name: str) -> tuple[Expression, ...]:
    return Meta("iifname"), Lookup(set_name)


def sends_from(family: Family, set_name: str) -> tuple[Expression, ...]:
    """The pair of interface and source is in the set."""
    return Meta("iifname", 1), source(family, 2), Lookup(set_name)


def takes_part(
    family: Family, direction: Literal["original", "reply"], set_name: str
) -> tuple[Expression, ...]:
    """The pair of interface and who sends in that direction of the packet's flow is in the set."""
    sender = Ct("source-v4" if family == "ip" else "source-v6", 2, direction)
    return Meta("iifname", 1), sender, Lookup(set_name)


def arp_sender(register: int = 1) -> Payload:
    """The address that an ARP packet says to be its sender's."""
    return Payload("network", 14, 4, register)


def rule(*parts: Expression | Sequence[Expression], comment: str = "") -> Rule:
    """One rule of expressions and groups of them."""
    flat: list[Expression] = []
    for part in parts:
        if isinstance(part, Sequence):
            flat.extend(part)
        else:
            flat.append(part)
    return Rule(tuple(flat), comment)


def counted(verdict: Verdict) -> tuple[Expression, ...]:
    return Counter(), verdict
