"""What nftables does with a packet, rule by rule, as the kernel itself tells (nft trace).

A table of its own marks the packets that are asked about, before every other chain; the kernel then tells of each rule that
they match, over netlink (``linux/netfilter/nf_tables.h``, NFT_MSG_TRACE). The table stands while a `PacketTrace` is open; one
that was left behind is replaced by the next. Rules are named by listing them once, at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tortie.errors import KernelError
from tortie.kernel import netlink as nl
from tortie.kernel import process
from tortie.net.addresses import Address

TABLE = "tortie-trace"
_GROUP = 1 << 8
"""NFNLGRP_NFTRACE as a mask."""
_TRACE = 10 << 8 | 17
_CHAIN, _HANDLE, _TYPE, _VERDICT, _ID, _IP_HEADER = 2, 3, 4, 5, 6, 8
_TABLE_NAME = 1
_KINDS = {1: "policy", 2: "return", 3: "rule"}
_CODE, _TARGET = 1, 2
_VERDICTS = {
    0: "drop",
    1: "accept",
    2: "stolen",
    3: "queue",
    -1: "continue",
    -2: "break",
    -3: "jump",
    -4: "goto",
    -5: "return",
}
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
_HANDLE_COMMENT = re.compile(r"^(.*\S)\s*# handle (\d+)$")
MOST_EVENTS = 2000


@dataclass(frozen=True, kw_only=True)
class TraceEvent:
    """One rule that the packet matched, or the policy of a base chain. ``number`` is the packet's; ``rule`` as nft prints it;
    ``ttl`` are the hops that the packet had left when it came, 0 where nobody told."""

    number: int
    family: str
    table: str
    chain: str
    kind: str
    verdict: str
    target: str = ""
    handle: int = 0
    rule: str = ""
    ttl: int = 0

    @property
    def says_nothing(self) -> bool:
        """The end of a chain's rules, of which the policy of the chain, or the chain that called, says more."""
        return self.kind == "rule" and not self.handle


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Which packets: between any of ``sources`` and ``destination``; ports where the protocol has some."""

    sources: tuple[Address, ...]
    destination: Address
    protocol: int
    port: int | None = None

    def matches(self) -> str:
        """As nft reads it."""
        family = "ip" if self.destination.version == 4 else "ip6"
        sources = ", ".join(str(each) for each in self.sources if each.version == self.destination.version)
        text = (
            f"{family} saddr {{ {sources} }} {family} daddr {self.destination} meta l4proto {self.protocol}"
        )
        name = _WITH_PORTS.get(self.protocol)
        return f"{text} {name} dport {self.port}" if name and self.port is not None else text


class PacketTrace:
    """Traces in the process's own network namespace until it is closed. Raises `KernelError`, `ProgramFailed`."""

    def __init__(self, traced: Traced) -> None:
        self._traced = traced
        self._netlink = nl.NetlinkSocket(nl.NETFILTER, groups=_GROUP)

    async def start(self) -> None:
        """Every packet that is sent after this is told of."""
        rule = f"{self._traced.matches()} meta nftrace set 1"
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority -400; policy accept; {rule}; }}\n"
            for hook in ("prerouting", "output")
        )
        text = f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{chains}}}\n"
        await process.run(["nft", "-f", "-"], stdin=text.encode())

    async def stop(self) -> list[TraceEvent]:
        """What was told, in its order; nothing is traced any more."""
        try:
            events = self._read()
        finally:
            await self.close()
        if not events:
            return []
        listed = await process.run(["nft", "-a", "-t", "list", "ruleset"])
        rules = rules_by_handle(listed.stdout.decode(errors="replace"))
        # The kernel shows a packet's header with the first event of each base chain alone.
        came = {event.number: event.ttl for event in reversed(events) if event.ttl}
        return [
            replace(_with_rule(event, rules), ttl=came.get(event.number, 0))
            for event in events
            if event.table != TABLE and not event.says_nothing
        ]

    async def close(self) -> None:
        """Idempotent."""
        if self._netlink.fileno() < 0:
            return
        self._netlink.close()
        await remove()

    def abandon(self) -> None:
        """Hear no more. The table stays, which without a listener costs next to nothing, until the next trace replaces it."""
        self._netlink.close()

    def _read(self) -> list[TraceEvent]:
        found: list[TraceEvent] = []
        try:
            for message in self._netlink.receive_waiting():
                if message.kind == _TRACE and len(found) < MOST_EVENTS:
                    found.append(decode(message.body))
        except OSError as error:
            raise KernelError(error.errno or 5, "read the trace", "", "some of it was lost") from error
        return found


async def remove() -> None:
    """The table, if there is one; while a trace runs it is the trace's."""
    await process.run(["nft", "delete", "table", "inet", TABLE], check=False)


def decode(body: bytes) -> TraceEvent:
    """One message, without its header."""
    values = nl.attributes(body, 4)
    verdict = nl.attributes(values.get(_VERDICT, b""))
    code = int.from_bytes(verdict.get(_CODE, b"\xff\xff\xff\xff"), "big", signed=True)
    policy = values.get(16)
    if policy is not None and _VERDICT not in values:
        code = int.from_bytes(policy, "big", signed=True)
    return TraceEvent(
        number=int.from_bytes(values.get(_ID, b""), "big"),
        family=_FAMILIES.get(body[0], str(body[0])),
        table=nl.as_text(values.get(_TABLE_NAME, b"")),
        chain=nl.as_text(values.get(_CHAIN, b"")),
        kind=_KINDS.get(int.from_bytes(values.get(_TYPE, b""), "big"), "unknown"),
        verdict=_VERDICTS.get(code if code < 0 else code & 0xFF, str(code)),
        target=nl.as_text(verdict.get(_TARGET, b"")),
        handle=int.from_bytes(values.get(_HANDLE, b""), "big"),
        ttl=_hops_left(values.get(_IP_HEADER, b"")),
    )


def _hops_left(header: bytes) -> int:
    if len(header) < 20:
        return 0
    return header[8] if header[0] >> 4 == 4 else header[7]


Handles = Mapping[tuple[str, str, str, int], str]


def rules_by_handle(listing: str) -> Handles:
    """Rules as ``nft -a list ruleset`` prints them, by family, table, chain and handle."""
    found: dict[tuple[str, str, str, int], str] = {}
    family = table = chain = ""
    for line in listing.splitlines():
        words = line.split()
        if line.startswith("table "):
            family, table = words[1], words[2]
        elif len(words) >= 3 and words[0] == "chain" and words[2] == "{":
            chain = words[1].strip('"')
        elif chain and (match := _HANDLE_COMMENT.match(line.strip())):
            found[family, table, chain, int(match[2])] = match[1]
        elif words == ["}"]:
            chain = ""
    return found


def _with_rule(event: TraceEvent, rules: Handles) -> TraceEvent:
    rule = rules.get((event.family, event.table, event.chain, event.handle), "")
    return replace(event, rule=rule)


def packets(events: Sequence[TraceEvent]) -> list[list[TraceEvent]]:
    """Apart by packet, in the order in which they came."""
    found: dict[int, list[TraceEvent]] = {}
    for event in events:
        found.setdefault(event.number, []).append(event)
    return list(found.values())
