"""nftables objects as values: tables, chains, rules, sets, elements (nft(8), ``linux/netfilter/nf_tables.h``).

A rule is a tuple of the kernel's own small expressions, which work on registers. `kernel.nft` turns these into bytes; what
they are for is said in ``dataplane.linux.rules``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

Family = Literal["ip", "ip6"]
FAMILIES: tuple[Family, ...] = ("ip", "ip6")
TableFamily = Literal["ip", "ip6", "arp"]
"""What a table sees: packets of one IP version, or ARP."""
TABLE_FAMILIES: tuple[TableFamily, ...] = (*FAMILIES, "arp")

FieldType = Literal["ipv4_addr", "ipv6_addr", "inet_proto", "inet_service", "mark", "ifname"]
FIELD_BYTES: dict[FieldType, int] = {
    "ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 1, "inet_service": 2, "mark": 4, "ifname": 16,
}  # fmt: skip
ADDRESS_FIELD: dict[Family, FieldType] = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}

ChainKind = Literal["filter", "nat", "route"]
HookPoint = Literal["prerouting", "input", "forward", "output", "postrouting"]
VerdictKind = Literal["accept", "drop", "return", "continue", "jump", "goto"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet; ``chain`` for jump and goto."""

    kind: VerdictKind
    chain: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.chain}".strip()


ACCEPT = Verdict("accept")
DROP = Verdict("drop")
RETURN = Verdict("return")

# Expressions. A register holds 16 bytes (1 to 4) or 4 bytes (8 to 23, which lie in the same place).


@dataclass(frozen=True, slots=True)
class Meta:
    """Load something that is known of the packet."""

    key: Literal["iifname", "oifname", "mark", "l4proto", "nfproto", "iif", "oif", "iiftype", "oiftype"]
    register: int = 1


@dataclass(frozen=True, slots=True)
class SetMeta:
    """Write the packet's mark from a register."""

    key: Literal["mark"]
    register: int = 1


@dataclass(frozen=True, slots=True)
class Payload:
    """Load bytes of a header."""

    base: Literal["network", "transport"]
    offset: int
    length: int
    register: int = 1


@dataclass(frozen=True, slots=True)
class Ct:
    """Load something that conntrack knows of the packet's flow. ``source-v4`` and ``source-v6``: who sends in ``direction``."""

    key: Literal["state", "direction", "status", "mark", "source-v4", "source-v6"]
    register: int = 1
    direction: Literal["", "original", "reply"] = ""


@dataclass(frozen=True, slots=True)
class Fib:
    """Look the packet up in the FIB: ``by`` flags as nft writes them (``saddr``, ``daddr``, ``mark``, ``iif``, ``oif``)."""

    result: Literal["oif", "oifname", "type"]
    by: tuple[Literal["saddr", "daddr", "mark", "iif", "oif"], ...]
    register: int = 1


@dataclass(frozen=True, slots=True)
class Compare:
    """Go on only if the register compares so with ``data``."""

    operator: Literal["eq", "neq", "lt", "lte", "gt", "gte"]
    data: bytes
    register: int = 1


@dataclass(frozen=True, slots=True)
class InRange:
    """Go on only if the register is within (``inverted``: outside) two values."""

    low: bytes
    high: bytes
    inverted: bool = False
    register: int = 1


@dataclass(frozen=True, slots=True)
class Mask:
    """register = (register & mask) ^ xor."""

    mask: bytes
    xor: bytes
    register: int = 1


@dataclass(frozen=True, slots=True)
class Lookup:
    """Go on only if the register is (``inverted``: is not) in the set."""

    set_name: str
    inverted: bool = False
    register: int = 1


@dataclass(frozen=True, slots=True)
class VerdictLookup:
    """Do what the verdict map says of the register; go on when it has no such key."""

    set_name: str
    register: int = 1


@dataclass(frozen=True, slots=True)
class MapLookup:
    """Put what the map says of one register into another; go no further when it has no such key."""

    set_name: str
    register: int
    into: int


@dataclass(frozen=True, slots=True)
class Load:
    """Put a constant into a register."""

    data: bytes
    register: int = 1


@dataclass(frozen=True, slots=True)
class Counter:
    """Count packets and bytes."""


@dataclass(frozen=True, slots=True)
class CountBy:
    """Count by a `NamedCounter`, which outlives the rule."""

    name: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Go on for so many packets a unit, with a burst beyond."""

    packets: int
    unit_seconds: int
    burst: int = 5
    over: bool = False


@dataclass(frozen=True, slots=True)
class Learn:
    """Put the register into a set that rules fill (`Set.lasts_seconds`), and go on unless the set is full.

    ``renew``: an element that is there already lasts anew. With a ``limit`` each element has one of its own, which says
    whether to go on.
    """

    set_name: str
    register: int = 1
    renew: bool = False
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """Tell the log, or an NFLOG group: the log is silent in a namespace."""

    prefix: str
    group: int | None = None
    snap_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer with an ICMP unreachable (``code``), or with a TCP reset."""

    kind: Literal["icmp", "tcp-reset"]
    code: int = 0


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Take the outgoing interface's address as source; the registers hold the first and last port (0: any)."""

    fully_random: bool = False
    port_low_register: int = 0
    port_high_register: int = 0


@dataclass(frozen=True, slots=True)
class Nat:
    """Translate to the address in a register, and ports in two others (0: leave them)."""

    kind: Literal["snat", "dnat"]
    family: Family
    address_register: int
    port_low_register: int = 0
    port_high_register: int = 0
    fully_random: bool = False


@dataclass(frozen=True, slots=True)
class NoTrack:
    """Keep conntrack away from this packet."""


Expression = (
    Meta | SetMeta | Payload | Ct | Fib | Compare | InRange | Mask | Lookup | VerdictLookup | MapLookup | Load | Counter
    | CountBy | Limit | Learn | Log | Reject | Masquerade | Nat | NoTrack | Verdict
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One rule. ``comment`` is shown by ``nft list`` (at most 120 bytes of it)."""

    expressions: tuple[Expression, ...]
    comment: str = ""

    @cached_property
    def digest(self) -> bytes:
        """Eight bytes that tell this rule from another; they travel with it in the kernel."""
        return hashlib.blake2b(repr((self.expressions, self.comment)).encode(), digest_size=8).digest()

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class Hook:
    """Where a base chain is called from. ``priority`` as the kernel counts; its policy is accept."""

    kind: ChainKind
    point: HookPoint
    priority: int


@dataclass(frozen=True)
class Table:
    """A table of ours. ``schema`` says which shape its sets have: with another one it is replaced as a whole."""

    family: TableFamily
    name: str
    schema: int = 1


class TableKey(NamedTuple):
    family: TableFamily


class ChainKey(NamedTuple):
    """``kind`` keeps it from being equal to the key of a set of that name: both are tuples."""

    family: TableFamily
    name: str
    kind: Literal["chain"] = "chain"


class SetKey(NamedTuple):
    family: TableFamily
    name: str
    kind: Literal["set"] = "set"


class CounterKey(NamedTuple):
    family: TableFamily
    name: str
    kind: Literal["counter"] = "counter"


class ElementKey(NamedTuple):
    """An element of a set by its bytes: the key, or in an interval set its first and last key (both inclusive)."""

    family: TableFamily
    set_name: str
    key: bytes
    last: bytes = b""


@dataclass(frozen=True)
class Chain:
    """A chain with its rules. Compared by the digests of its rules, so that what was read back compares too.

    ``closes``: when the kernel refuses the chain, one that drops everything stands in its place, else an empty one.
    """

    hook: Hook | None
    digests: tuple[bytes, ...]
    rules: tuple[Rule, ...] = ()
    closes: bool = True

    @staticmethod
    def of(*rules: Rule, hook: Hook | None = None, closes: bool = True) -> Chain:
        return Chain(hook, tuple(rule.digest for rule in rules), rules, closes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and (self.hook, self.digests) == (other.hook, other.digests)

    def __hash__(self) -> int:
        return hash((self.hook, self.digests))

    def references(self) -> frozenset[str]:
        """The chains that its rules go to."""
        return frozenset(
            expression.chain
            for rule in self.rules
            for expression in rule.expressions
            if isinstance(expression, Verdict) and expression.chain
        )


@dataclass(frozen=True)
class Set:
    """A set, a verdict map, or a map to values of ``data_bytes``. ``fields`` of more than one are a concatenation; ``intervals``
    holds ranges.

    One with ``lasts_seconds`` is filled by rules (`Learn`) with at most ``size`` elements, each of which is gone after that time:
    its elements are none of ours, neither read nor wanted.
    """

    fields: tuple[FieldType, ...]
    intervals: bool = False
    verdicts: bool = False
    data_bytes: int = 0
    lasts_seconds: int = 0
    size: int = 0

    @property
    def key_bytes(self) -> int:
        """Each field takes a multiple of four bytes in a concatenation."""
        if len(self.fields) == 1:
            return FIELD_BYTES[self.fields[0]]
        return sum(padded(FIELD_BYTES[field]) for field in self.fields)


@dataclass(frozen=True)
class NamedCounter:
    """An object that rules count by. What it has counted is read apart, and is no part of what is wanted."""


class Count(NamedTuple):
    """What a counter has counted."""

    packets: int
    bytes: int


def padded(length: int) -> int:
    """Rounded up to a register's four bytes."""
    return (length + 3) & ~3


def interface_key(name: str) -> bytes:
    """An interface's name as a set's key."""
    return name.encode().ljust(16, b"\0")


NftKey = TableKey | ChainKey | SetKey | CounterKey | ElementKey
"""What there is in our tables, by key."""
ElementValue = Verdict | bytes | None
"""What an element of a verdict map, of another map, and of a plain set leads to."""
NftValue = Table | Chain | Set | NamedCounter | ElementValue
