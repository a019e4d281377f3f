"""nfnetlink messages for nf_tables: values of ``host.nft`` to bytes and back (``linux/netfilter/nf_tables.h``). Pure."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from tortie.host.nft import (
    FIELD_BYTES,
    ChainKind,
    Compare,
    Count,
    CountBy,
    Counter,
    Ct,
    ElementKey,
    ElementValue,
    Fib,
    FieldType,
    Hook,
    HookPoint,
    InRange,
    Learn,
    Limit,
    Load,
    Log,
    Lookup,
    MapLookup,
    Mask,
    Masquerade,
    Meta,
    Nat,
    NoTrack,
    Payload,
    Reject,
    Rule,
    Set,
    SetMeta,
    Table,
    TableFamily,
    Verdict,
    VerdictKind,
    VerdictLookup,
    padded,
)
from tortie.kernel import netlink as nl

_SUBSYSTEM = 10 << 8
NEW_TABLE, GET_TABLE, DEL_TABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
NEW_CHAIN, GET_CHAIN, DEL_CHAIN = _SUBSYSTEM | 3, _SUBSYSTEM | 4, _SUBSYSTEM | 5
NEW_RULE, GET_RULE, DEL_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 7, _SUBSYSTEM | 8
NEW_SET, GET_SET, DEL_SET = _SUBSYSTEM | 9, _SUBSYSTEM | 10, _SUBSYSTEM | 11
NEW_ELEMENT, GET_ELEMENT, DEL_ELEMENT = _SUBSYSTEM | 12, _SUBSYSTEM | 13, _SUBSYSTEM | 14
NEW_GENERATION, GET_GENERATION = _SUBSYSTEM | 15, _SUBSYSTEM | 16
NEW_OBJECT, GET_OBJECT, DEL_OBJECT = _SUBSYSTEM | 18, _SUBSYSTEM | 19, _SUBSYSTEM | 20
BATCH_BEGIN, BATCH_END = 16, 17

FAMILY: dict[TableFamily, int] = {"ip": socket.AF_INET, "ip6": socket.AF_INET6, "arp": 3}
FAMILY_OF: dict[int, TableFamily] = {number: family for family, number in FAMILY.items()}

ELEMENT_BYTES = 60_000
"""The length of a nested attribute is 16 bits wide: elements go in portions below that."""

_CHAIN_KINDS: dict[str, ChainKind] = {"filter": "filter", "nat": "nat", "route": "route"}
_IP_HOOKS: tuple[HookPoint, ...] = ("prerouting", "input", "forward", "output", "postrouting")
_ARP_HOOKS: tuple[HookPoint, ...] = ("input", "output")
_VERDICTS: dict[VerdictKind, int] = {
    "drop": 0, "accept": 1, "continue": -1, "jump": -3, "goto": -4, "return": -5,
}  # fmt: skip
_VERDICT_OF: dict[int, VerdictKind] = {code: kind for kind, code in _VERDICTS.items()}
_META = {
    "nfproto": 15, "l4proto": 16, "mark": 3, "iif": 4, "oif": 5, "iifname": 6, "oifname": 7, "iiftype": 8,
    "oiftype": 9,
}  # fmt: skip
_CT = {"state": 0, "direction": 1, "status": 2, "mark": 3, "source-v4": 19, "source-v6": 21}
_OPERATORS = {"eq": 0, "neq": 1, "lt": 2, "lte": 3, "gt": 4, "gte": 5}
_FIB_RESULTS = {"oif": 1, "oifname": 2, "type": 3}
_FIB_FLAGS = {"saddr": 1, "daddr": 2, "mark": 4, "iif": 8, "oif": 16}
_TYPES: dict[FieldType, int] = {
    "ipv4_addr": 7, "ipv6_addr": 8, "inet_proto": 12, "inet_service": 13, "mark": 19, "ifname": 41,
}  # fmt: skip
_TYPE_OF: dict[int, FieldType] = {number: field for field, number in _TYPES.items()}
_VERDICT_TYPE = 0xFFFFFF00
_COUNTER_OBJECT = 1
_CONSTANT_ANONYMOUS, _INTERVAL, _MAP, _TIMEOUT, _DYNAMIC, _CONCAT = 0x3, 0x4, 0x8, 0x10, 0x20, 0x80
_INTERVAL_END = 1
_SCHEMA = "schema"
_KEY_ORDER, _DATA_ORDER = 0, 1
"""Kinds of user data on a set: in which byte order nft shows its keys and data."""
_COMMENT, _DIGEST = 0, 0xF0
"""Kinds of user data on a rule: the first is nft's, the second is ours and nft ignores it."""


_HEADERS: dict[TableFamily | None, bytes] = {
    family: struct.pack("=BBH", number, 0, 0) for family, number in (*FAMILY.items(), (None, 0))
}
_LEADS_KEPT = 20_000


def header(family: TableFamily | None) -> bytes:
    return _HEADERS[family]


# Expressions


def _expression(name: str, *attributes: bytes) -> bytes:
    return nl.nested(1, nl.text(1, name), nl.nested(2, *attributes))


def _data(kind: int, data: bytes) -> bytes:
    return nl.nested(kind, nl.attr(1, data))


@lru_cache(4096)
def _verdict_data(verdict: Verdict) -> bytes:
    chain = (nl.text(2, verdict.chain),) if verdict.chain else ()
    return nl.nested(2, nl.be32(1, _VERDICTS[verdict.kind]), *chain)


def _verdict(e: Verdict) -> bytes:
    return _expression("immediate", nl.be32(1, 0), nl.nested(2, _verdict_data(e)))


def _payload(e: Payload) -> bytes:
    base = 1 if e.base == "network" else 2
    return _expression(
        "payload", nl.be32(1, e.register), nl.be32(2, base), nl.be32(3, e.offset), nl.be32(4, e.length)
    )


def _ct(e: Ct) -> bytes:
    direction = (nl.u8(3, 1 if e.direction == "reply" else 0),) if e.direction else ()
    return _expression("ct", nl.be32(2, _CT[e.key]), *direction, nl.be32(1, e.register))


def _fib(e: Fib) -> bytes:
    flags = sum(_FIB_FLAGS[flag] for flag in e.by)
    return _expression("fib", nl.be32(1, e.register), nl.be32(2, _FIB_RESULTS[e.result]), nl.be32(3, flags))


def _range(e: InRange) -> bytes:
    return _expression(
        "range", nl.be32(1, e.register), nl.be32(2, 1 if e.inverted else 0), _data(3, e.low), _data(4, e.high)
    )


def _mask(e: Mask) -> bytes:
    return _expression(
        "bitwise",
        nl.be32(1, e.register),
        nl.be32(2, e.register),
        nl.be32(3, len(e.mask)),
        _data(4, e.mask),
        _data(5, e.xor),
    )


def _lookup(e: Lookup) -> bytes:
    inverted = (nl.be32(5, 1),) if e.inverted else ()
    return _expression("lookup", nl.text(1, e.set_name), nl.be32(2, e.register), *inverted)


def _limit_parts(e: Limit) -> tuple[bytes, ...]:
    flags = 1 if e.over else 0
    return (
        nl.be64(1, e.packets),
        nl.be64(2, e.unit_seconds),
        nl.be32(3, e.burst),
        nl.be32(4, 0),
        nl.be32(5, flags),
    )


def _learn(e: Learn) -> bytes:
    parts = [nl.text(1, e.set_name), nl.be32(3, 1 if e.renew else 0), nl.be32(4, e.register)]
    if e.limit is not None:
        parts.append(nl.nested(7, nl.text(1, "limit"), nl.nested(2, *_limit_parts(e.limit))))
    return _expression("dynset", *parts)


def _log(e: Log) -> bytes:
    parts = [nl.text(2, e.prefix)]
    if e.group is not None:
        parts.insert(0, nl.be16(1, e.group))
        if e.snap_bytes:
            parts.append(nl.be32(3, e.snap_bytes))
    return _expression("log", *parts)


def _reject(e: Reject) -> bytes:
    return _expression("reject", nl.be32(1, 0 if e.kind == "icmp" else 1), nl.u8(2, e.code))


_RANDOM, _FULLY_RANDOM = 1 << 2, 1 << 4
_PORTS_GIVEN = 1 << 1


def _masquerade(e: Masquerade) -> bytes:
    flags = (_FULLY_RANDOM if e.fully_random else 0) | (_PORTS_GIVEN if e.port_low_register else 0)
    parts = [nl.be32(1, flags)] if flags else []
    if e.port_low_register:
        parts.append(nl.be32(2, e.port_low_register))
        parts.append(nl.be32(3, e.port_high_register or e.port_low_register))
    return _expression("masq", *parts)


def _nat(e: Nat) -> bytes:
    flags = 1 | (_FULLY_RANDOM if e.fully_random else 0) | (_PORTS_GIVEN if e.port_low_register else 0)
    parts = [
        nl.be32(1, 0 if e.kind == "snat" else 1),
        nl.be32(2, FAMILY[e.family]),
        nl.be32(3, e.address_register),
    ]
    if e.port_low_register:
        parts.append(nl.be32(5, e.port_low_register))
        parts.append(nl.be32(6, e.port_high_register or e.port_low_register))
    return _expression("nat", *parts, nl.be32(7, flags))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Verdict: _verdict,
    Meta: lambda e: _expression("meta", nl.be32(2, _META[e.key]), nl.be32(1, e.register)),
    SetMeta: lambda e: _expression("meta", nl.be32(2, _META[e.key]), nl.be32(3, e.register)),
    Payload: _payload,
    Ct: _ct,
    Fib: _fib,
    Compare: lambda e: _expression(
        "cmp", nl.be32(1, e.register), nl.be32(2, _OPERATORS[e.operator]), _data(3, e.data)
    ),
    InRange: _range,
    Mask: _mask,
    Lookup: _lookup,
    VerdictLookup: lambda e: _expression(
        "lookup", nl.text(1, e.set_name), nl.be32(2, e.register), nl.be32(3, 0)
    ),
    MapLookup: lambda e: _expression(
        "lookup", nl.text(1, e.set_name), nl.be32(2, e.register), nl.be32(3, e.into)
    ),
    CountBy: lambda e: _expression("objref", nl.be32(1, _COUNTER_OBJECT), nl.text(2, e.name)),
    Load: lambda e: _expression("immediate", nl.be32(1, e.register), _data(2, e.data)),
    Counter: lambda _: _expression("counter"),
    Limit: lambda e: _expression("limit", *_limit_parts(e)),
    Learn: _learn,
    Log: _log,
    Reject: _reject,
    Masquerade: _masquerade,
    Nat: _nat,
    NoTrack: lambda _: _expression("notrack"),
}


def expressions(rule: Rule) -> bytes:
    """All of a rule's expressions."""
    return b"".join(_ENCODERS[type(e)](e) for e in rule.expressions)


def user_data(rule: Rule) -> bytes:
    """What travels with a rule: its digest and its comment."""
    comment = rule.comment.encode()[:120]
    shown = bytes([_COMMENT, len(comment) + 1]) + comment + b"\0" if comment else b""
    return shown + bytes([_DIGEST, len(rule.digest)]) + rule.digest


def digest_of(data: bytes) -> bytes:
    """The digest in a rule's user data; empty when it is none of ours."""
    offset = 0
    while offset + 2 <= len(data):
        kind, length = data[offset], data[offset + 1]
        if kind == _DIGEST:
            return data[offset + 2 : offset + 2 + length]
        offset += 2 + length
    return b""


# Objects


def table_body(table: Table) -> bytes:
    comment = f"{_SCHEMA} {table.schema}".encode() + b"\0"
    return nl.text(1, table.name) + nl.attr(6, bytes([_COMMENT, len(comment)]) + comment)


def _hooks(family: TableFamily | None) -> tuple[HookPoint, ...]:
    """The hooks of a family as the kernel numbers them."""
    return _ARP_HOOKS if family == "arp" else _IP_HOOKS


def chain_body(family: TableFamily, table: str, name: str, hook: Hook | None) -> bytes:
    body = nl.text(1, table) + nl.text(3, name)
    if hook is not None:
        body += nl.nested(4, nl.be32(1, _hooks(family).index(hook.point)), nl.be32(2, hook.priority))
        body += nl.be32(5, 1) + nl.text(7, hook.kind)
    return body


def rule_body(table: str, chain: str, rule: Rule) -> bytes:
    counts = CountBy in map(type, rule.expressions)
    return nl.text(1, table) + nl.text(2, chain) + (_rule if counts else _lead)(rule)


def _rule(rule: Rule) -> bytes:
    return nl.nested(4, expressions(rule)) + nl.attr(7, user_data(rule))


@lru_cache(_LEADS_KEPT)
def _lead(rule: Rule) -> bytes:
    """A rule that does nothing but lead somewhere stands in many chains; what counts by name is one policy's own."""
    return _rule(rule)


def set_body(table: str, name: str, spec: Set, set_id: int) -> bytes:
    flags = (_INTERVAL if spec.intervals else 0) | (_MAP if spec.verdicts or spec.data_bytes else 0)
    flags |= _TIMEOUT | _DYNAMIC if spec.lasts_seconds else 0
    concatenated = len(spec.fields) > 1
    if concatenated and spec.intervals:
        flags |= _CONCAT
    kind = 0
    for field in spec.fields:
        kind = kind << 6 | _TYPES[field]
    body = (
        nl.text(1, table)
        + nl.text(2, name)
        + nl.be32(3, flags)
        + nl.be32(4, kind)
        + nl.be32(5, spec.key_bytes)
    )
    if spec.verdicts:
        body += nl.be32(6, _VERDICT_TYPE) + nl.be32(7, 16)
    elif spec.data_bytes:
        body += nl.be32(6, _TYPES["ifname"]) + nl.be32(7, spec.data_bytes)
    if concatenated and spec.intervals:
        lengths = (nl.nested(1, nl.be32(1, padded(FIELD_BYTES[field]))) for field in spec.fields)
        body += nl.nested(9, nl.nested(2, *lengths))
    if spec.lasts_seconds:
        body += nl.nested(9, nl.be32(1, spec.size)) + nl.be64(11, spec.lasts_seconds * 1000)
    if not concatenated:
        # nft shows the keys of a set without this in its own idea of a byte order.
        order = 1 if spec.fields[0] in ("ifname", "mark") else 2
        orders = bytes([_KEY_ORDER, 4]) + struct.pack("=I", order)
        if spec.data_bytes:
            orders += bytes([_DATA_ORDER, 4]) + struct.pack("=I", 1)
        body += nl.attr(13, orders)
    return body + nl.be32(10, set_id)


def element(spec: Set, key: ElementKey, value: ElementValue) -> bytes:
    """One element, or the two that bound an interval."""
    data = _element_key(key.key)
    if value is not None:
        data += _element_value(value)
    if not spec.intervals:
        return nl.nested(1, data)
    if len(spec.fields) > 1:
        return nl.nested(1, data, nl.nested(10, nl.attr(1, key.last)))
    bounds = nl.nested(1, data)
    end = int.from_bytes(key.last, "big") + 1
    if end >> (8 * len(key.last)):
        return bounds  # up to the last key there is: the kernel needs no end
    return bounds + nl.nested(1, nl.be32(3, _INTERVAL_END), _element_key(end.to_bytes(len(key.last), "big")))


@lru_cache(4096)
def _element_value(value: Verdict | bytes) -> bytes:
    return nl.nested(2, nl.attr(1, value) if isinstance(value, bytes) else _verdict_data(value))


def _element_key(key: bytes) -> bytes:
    return nl.nested(1, nl.attr(1, key))


def element_bodies(table: str, name: str, elements: Iterable[bytes]) -> Iterator[bytes]:
    """Messages' bodies for encoded elements, each below the limit."""
    start = nl.text(1, table) + nl.text(2, name)
    portion: list[bytes] = []
    size = 0
    for encoded in elements:
        if portion and size + len(encoded) > ELEMENT_BYTES:
            yield start + nl.nested(3, *portion)
            portion, size = [], 0
        portion.append(encoded)
        size += len(encoded)
    if portion:
        yield start + nl.nested(3, *portion)


def counter_body(table: str, name: str) -> bytes:
    """It begins with nothing counted."""
    return nl.text(1, table) + nl.text(2, name) + nl.be32(3, _COUNTER_OBJECT) + nl.nested(4)


def counters_wanted(table: str) -> bytes:
    """The body of a request for all counters of a table."""
    return nl.text(1, table) + nl.be32(3, _COUNTER_OBJECT)


# Reading back


def decode_table(body: bytes) -> Table | None:
    family = FAMILY_OF.get(body[0])
    if family is None:
        return None
    found = nl.attributes(body, 4)
    words = nl.as_text(found.get(6, b"")[2:]).split()
    schema = int(words[1]) if len(words) == 2 and words[0] == _SCHEMA and words[1].isdigit() else 0
    return Table(family, nl.as_text(found[1]), schema)


def decode_chain(body: bytes) -> tuple[str, str, Hook | None]:
    """The table's name, the chain's, and its hook."""
    found = nl.attributes(body, 4)
    hook: Hook | None = None
    if 4 in found:
        inside = nl.attributes(found[4])
        number = int.from_bytes(inside[1], "big")
        priority = int.from_bytes(inside[2], "big", signed=True)
        kind = _CHAIN_KINDS.get(nl.as_text(found.get(7, b"filter")))
        hooks = _hooks(FAMILY_OF.get(body[0]))
        if kind is not None and number < len(hooks):
            hook = Hook(kind, hooks[number], priority)
    return nl.as_text(found[1]), nl.as_text(found[3]), hook


def decode_rule(body: bytes) -> tuple[str, str, bytes]:
    """The table's name, the chain's, and the digest (empty: not a rule of ours)."""
    found = nl.attributes(body, 4)
    return nl.as_text(found[1]), nl.as_text(found[2]), digest_of(found.get(7, b""))


def decode_set(body: bytes) -> tuple[str, str, Set | None]:
    """The table's name, the set's, and what it is; None for one that we would not make (anonymous, another type)."""
    found = nl.attributes(body, 4)
    table, name = nl.as_text(found[1]), nl.as_text(found[2])
    flags = int.from_bytes(found.get(3, b"\0"), "big")
    number = int.from_bytes(found.get(4, b"\0"), "big")
    fields: list[FieldType] = []
    known = number != 0
    while number:
        field = _TYPE_OF.get(number & 63)
        known = known and field is not None
        fields[:0] = [field] if field else []
        number >>= 6
    data_type = int.from_bytes(found.get(6, b"\0"), "big")
    verdicts = bool(flags & _MAP) and data_type == _VERDICT_TYPE
    data_bytes = int.from_bytes(found.get(7, b""), "big") if data_type == _TYPES["ifname"] else 0
    if flags & _CONSTANT_ANONYMOUS or not known or (data_type and not verdicts and not data_bytes):
        return table, name, None
    lasts = size = 0
    if flags & _DYNAMIC:
        lasts = int.from_bytes(found.get(11, b""), "big") // 1000
        size = int.from_bytes(nl.attributes(found.get(9, b"")).get(1, b""), "big")
    kinds = {"intervals": bool(flags & _INTERVAL), "verdicts": verdicts}
    return table, name, Set(tuple(fields), **kinds, data_bytes=data_bytes, lasts_seconds=lasts, size=size)


def decode_counter(body: bytes) -> tuple[str, str, Count]:
    """The table's name, the counter's, and what it has counted."""
    found = nl.attributes(body, 4)
    counted = nl.attributes(found.get(4, b""))
    size, packets = (int.from_bytes(counted.get(kind, b""), "big") for kind in (1, 2))
    return nl.as_text(found[1]), nl.as_text(found[2]), Count(packets, size)


def decode_elements(body: bytes) -> Iterator[tuple[bytes, bytes, bool, ElementValue]]:
    """Each element as (key, last key of a concatenated interval, whether it is an interval's end, value)."""
    found = nl.attributes(body, 4)
    for _, encoded in nl.attribute_list(found.get(3, b"")):
        inside = nl.attributes(encoded)
        key = nl.attributes(inside[1])[1] if 1 in inside else b""
        last = nl.attributes(inside[10])[1] if 10 in inside else b""
        flags = int.from_bytes(inside.get(3, b"\0"), "big")
        value: ElementValue = None
        if 2 in inside:
            told = nl.attributes(inside[2])
            value = told.get(1)
            data = nl.attributes(told.get(2, b""))
            code = int.from_bytes(data.get(1, b"\0\0\0\0"), "big", signed=True)
            if data and code in _VERDICT_OF:
                value = Verdict(_VERDICT_OF[code], nl.as_text(data.get(2, b"")))
        yield key, last, bool(flags & _INTERVAL_END), value


def pair_intervals(
    marks: Iterable[tuple[bytes, bytes, bool, ElementValue]],
) -> Iterator[tuple[bytes, bytes, ElementValue]]:
    """Starts and ends of an interval set to (first, last, verdict). The kernel may tell them in any order."""
    start: tuple[bytes, ElementValue] | None = None
    for key, _, ends, verdict in sorted(marks, key=lambda mark: (mark[0], not mark[2])):
        if start is not None:
            last = (int.from_bytes(key, "big") - 1).to_bytes(len(key), "big")
            yield start[0], last, start[1]
        start = None if ends else (key, verdict)
    if start is not None:
        yield start[0], b"\xff" * len(start[0]), start[1]
