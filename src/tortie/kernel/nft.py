"""nf_tables of one network namespace, through one nfnetlink socket: read our tables, change them in atomic batches.

libnftables re-reads a whole set for each element that changes; this does not (``docs/benchmarks.md``).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from tortie.errors import KernelError
from tortie.host.nft import (
    TABLE_FAMILIES,
    Chain,
    ChainKey,
    Count,
    CounterKey,
    ElementKey,
    ElementValue,
    Hook,
    NamedCounter,
    NftKey,
    NftValue,
    Rule,
    Set,
    SetKey,
    Table,
    TableFamily,
    TableKey,
)
from tortie.kernel import netlink as nl
from tortie.kernel import nft_codec as codec
from tortie.kernel.netns import Namespace, open_netlink
from tortie.kernel.nft_news import News, NftNews

_SEND_BYTES = 128 << 20
"""A whole batch goes in one send: that makes it atomic."""
_RECEIVE_BYTES = 16 << 20
_BATCH = struct.Struct("=IHHIIBBH")
_BATCH_SUBSYSTEM = struct.unpack("=H", struct.pack(">H", 10))[0]


@dataclass
class Batch:
    """Changes that the kernel makes at once or not at all. Each message has an owner, so that a refusal can be blamed."""

    table: str
    owners: list[NftKey] = field(default_factory=list[NftKey])
    requests: list[nl.Request] = field(default_factory=list[nl.Request])

    def __len__(self) -> int:
        return len(self.requests)

    def is_elements(self, place: int) -> bool:
        """Whether the message in that place carries elements of a set."""
        return self.requests[place].kind in (codec.NEW_ELEMENT, codec.DEL_ELEMENT)

    def _add(
        self, owner: NftKey, kind: int, family: TableFamily, body: bytes, operation: str, flags: int = 0
    ) -> None:
        """The subject is made when something is to be said of it: a batch may have a hundred thousand messages."""
        self.owners.append(owner)
        self.requests.append(nl.Request(kind, flags, codec.header(family) + body, operation))

    def put_table(self, table: Table) -> None:
        self._add(
            TableKey(table.family),
            codec.NEW_TABLE,
            table.family,
            codec.table_body(table),
            "make the table",
            nl.CREATE,
        )

    def delete_table(self, family: TableFamily) -> None:
        self._add(TableKey(family), codec.DEL_TABLE, family, nl.text(1, self.table), "delete the table")

    def put_set(self, key: SetKey, spec: Set) -> None:
        body = codec.set_body(self.table, key.name, spec, len(self.requests) + 1)
        self._add(key, codec.NEW_SET, key.family, body, "make the set", nl.CREATE)

    def delete_set(self, key: SetKey) -> None:
        body = nl.text(1, self.table) + nl.text(2, key.name)
        self._add(key, codec.DEL_SET, key.family, body, "delete the set")

    def put_chain(self, key: ChainKey, hook: Hook | None) -> None:
        """The chain without its rules; one that exists already stays as it is."""
        body = codec.chain_body(key.family, self.table, key.name, hook)
        self._add(key, codec.NEW_CHAIN, key.family, body, "make the chain", nl.CREATE)

    def flush_chain(self, key: ChainKey) -> None:
        body = nl.text(1, self.table) + nl.text(2, key.name)
        self._add(key, codec.DEL_RULE, key.family, body, "empty the chain")

    def add_rule(self, key: ChainKey, rule: Rule) -> None:
        body = codec.rule_body(self.table, key.name, rule)
        self._add(key, codec.NEW_RULE, key.family, body, "add a rule to the chain", nl.CREATE | nl.APPEND)

    def delete_chain(self, key: ChainKey) -> None:
        body = nl.text(1, self.table) + nl.text(3, key.name)
        self._add(key, codec.DEL_CHAIN, key.family, body, "delete the chain")

    def put_counter(self, key: CounterKey) -> None:
        """One that exists already goes on counting."""
        body = codec.counter_body(self.table, key.name)
        self._add(key, codec.NEW_OBJECT, key.family, body, "make the counter", nl.CREATE)

    def delete_counter(self, key: CounterKey) -> None:
        body = codec.counter_body(self.table, key.name)
        self._add(key, codec.DEL_OBJECT, key.family, body, "delete the counter")

    def put_elements(self, key: SetKey, spec: Set, elements: Mapping[ElementKey, ElementValue]) -> None:
        """One message a portion; a refusal is blamed on the set, unless there is but one element in it."""
        self._elements(codec.NEW_ELEMENT, key, spec, elements, "add elements to the set", nl.CREATE)

    def delete_elements(self, key: SetKey, spec: Set, elements: Mapping[ElementKey, ElementValue]) -> None:
        self._elements(codec.DEL_ELEMENT, key, spec, elements, "delete elements of the set", 0)

    def _elements(
        self,
        kind: int,
        key: SetKey,
        spec: Set,
        elements: Mapping[ElementKey, ElementValue],
        operation: str,
        flags: int,
    ) -> None:
        owner: NftKey = next(iter(elements)) if len(elements) == 1 else key
        encoded = (codec.element(spec, element, verdict) for element, verdict in elements.items())
        for body in codec.element_bodies(self.table, key.name, encoded):
            self._add(owner, kind, key.family, body, operation, flags)


@dataclass(frozen=True, eq=False)
class Refused:
    """Why the kernel took nothing of a batch: by message, or as a whole (``-1``), where it does not say which."""

    errors: Mapping[int, KernelError]

    @property
    def unattributed(self) -> KernelError | None:
        return self.errors.get(-1)


class NftSocket:
    """Reads and changes one table name of the families ip, ip6 and arp. Blocking; one thread at a time. Raises `KernelError`."""

    def __init__(self, namespace: Namespace | None = None, *, table: str = "tortie") -> None:
        self.table = table
        self.batches = 0
        """How many batches were sent: none for a state that needs no change."""
        self.netlink = open_netlink(namespace, nl.NETFILTER)
        self.netlink.grow_buffers(send=_SEND_BYTES, receive=_RECEIVE_BYTES)
        self.namespace = namespace
        self._news: NftNews | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.netlink.close()
        if self._news is not None:
            self._news.close()

    def generation(self) -> int:
        """Counts every change of any table in the namespace; equal numbers say that nothing changed between."""
        answer = self.netlink.ask(
            nl.Request(codec.GET_GENERATION, 0, codec.header(None), "read the generation of nf_tables")
        )
        return 0 if answer is None else int.from_bytes(nl.attributes(answer.body, 4)[1], "big")

    def news(self) -> News:
        """What others did since the last time this was asked; the first time it begins to listen."""
        if self._news is None:
            self._news = NftNews(self.namespace, table=self.table, own_port=self.netlink.port)
        return self._news.take()

    def commit(self, batch: Batch) -> Refused | None:
        """Send a batch; None says that all of it is done, else none of it is."""
        if not batch.requests:
            return None
        self.batches += 1
        count = len(batch.requests)
        first = self.netlink.next_sequence(count + 2)
        parts = [_BATCH.pack(20, codec.BATCH_BEGIN, nl.REQUEST, first, 0, 0, 0, _BATCH_SUBSYSTEM)]
        for place, request in enumerate(batch.requests):
            parts.append(nl.encode(request, first + 1 + place, nl.ACK if place == count - 1 else 0))
        parts.append(
            _BATCH.pack(20, codec.BATCH_END, nl.REQUEST, first + count + 1, 0, 0, 0, _BATCH_SUBSYSTEM)
        )
        errors: dict[int, KernelError] = {}
        try:
            self.netlink.send(b"".join(parts))
            self.netlink.sent_messages += count
            # The kernel has done it all by now: what it has to say is waiting.
            for message in self.netlink.receive_waiting():
                end = nl.refusal(message)
                place = message.sequence - first - 1
                if end is None or not end.errno or not -1 <= place <= count:
                    continue
                if place in (-1, count):
                    errors[-1] = KernelError(end.errno, "commit a batch to nf_tables", self.table, end.detail)
                else:
                    subject = _subject(batch.owners[place])
                    errors[place] = KernelError(
                        end.errno, batch.requests[place].operation, subject, end.detail
                    )
        except OSError as error:
            # ENOBUFS: more refusals than the buffer holds. All else is as bad: nothing is known but that it failed.
            errors[-1] = KernelError(error.errno or errno.EIO, "commit a batch to nf_tables", self.table)
        return Refused(errors) if errors else None

    def read(self) -> dict[NftKey, NftValue]:
        """Everything in our tables. Chains come with their rules' digests alone."""
        found: dict[NftKey, NftValue] = {}
        for message in self._dump(codec.GET_TABLE, None, b"", "list the tables"):
            table = codec.decode_table(message.body)
            if table is not None and table.name == self.table:
                found[TableKey(table.family)] = table
        for family in TABLE_FAMILIES:
            if TableKey(family) in found:
                self._read_family(family, found)
        return found

    def _read_family(self, family: TableFamily, found: dict[NftKey, NftValue]) -> None:
        own = nl.text(1, self.table)
        digests: dict[str, list[bytes]] = {}
        for message in self._dump(codec.GET_RULE, family, own, "list the rules"):
            table, chain, digest = codec.decode_rule(message.body)
            if table == self.table:
                digests.setdefault(chain, []).append(digest)
        for message in self._dump(codec.GET_CHAIN, family, b"", "list the chains"):
            table, chain, hook = codec.decode_chain(message.body)
            if table == self.table:
                found[ChainKey(family, chain)] = Chain(hook, tuple(digests.get(chain, ())))
        for message in self._dump(codec.GET_SET, family, own, "list the sets"):
            table, name, spec = codec.decode_set(message.body)
            if table == self.table and spec is not None:
                key = SetKey(family, name)
                found[key] = spec
                if not spec.lasts_seconds:
                    found |= dict(self.elements(key, spec).items())
        found |= dict.fromkeys((key for key in self._counters(family)), NamedCounter())

    def counters(self) -> dict[CounterKey, Count]:
        """What every named counter of ours has counted."""
        return {key: count for family in TABLE_FAMILIES for key, count in self._counters(family).items()}

    def _counters(self, family: TableFamily) -> dict[CounterKey, Count]:
        found: dict[CounterKey, Count] = {}
        body = codec.counters_wanted(self.table)
        for message in self._dump(codec.GET_OBJECT, family, body, "list the counters"):
            table, name, count = codec.decode_counter(message.body)
            if table == self.table:
                found[CounterKey(family, name)] = count
        return found

    def elements(self, key: SetKey, spec: Set) -> dict[ElementKey, ElementValue]:
        """The elements of one set; of an interval set its intervals."""
        body = nl.text(1, self.table) + nl.text(2, key.name)
        marks = [
            mark
            for message in self._dump(codec.GET_ELEMENT, key.family, body, f"list the set {key.name}")
            for mark in codec.decode_elements(message.body)
        ]
        if spec.intervals and len(spec.fields) == 1:
            return {
                ElementKey(key.family, key.name, first, last): verdict
                for first, last, verdict in codec.pair_intervals(marks)
            }
        return {ElementKey(key.family, key.name, start, last): verdict for start, last, _, verdict in marks}

    def _dump(
        self, kind: int, family: TableFamily | None, body: bytes, operation: str
    ) -> Iterable[nl.Message]:
        return self.netlink.dump(nl.Request(kind, 0, codec.header(family) + body, operation, self.table))


def _subject(owner: NftKey) -> str:
    if isinstance(owner, TableKey):
        return owner.family
    return f"{owner.family} {owner.set_name if isinstance(owner, ElementKey) else owner.name}"
