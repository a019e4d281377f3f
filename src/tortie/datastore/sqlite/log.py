"""The versioned log inside the file: reads, all-or-nothing writes, history, leases. Synchronous; called by one thread.

A key's present value is the event that its ``entry`` row points to, so a value is written once. History is bounded:
`Writing.compact` forgets superseded events in slices, each event looked at once, and moves ``state.compacted`` up.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tortie.datastore.keyvalue import Entry, Event, Events
from tortie.errors import Conflict, HistoryGone, NotFound

ORDINAL_BITS = 16
COMPACT_SLICE = 500
"""Revisions forgotten in one go: about a millisecond."""

EVENTS_AT_ONCE = 500


class State(NamedTuple):
    """``compacted`` is the last revision whose events are no longer all there."""

    revision: int
    compacted: int


def prefix_end(prefix: str) -> str:
    """The first string after all that begin with ``prefix``, in the order of code points."""
    head = prefix
    while head:
        last = ord(head[-1]) + 1
        if last == 0xD800:
            last = 0xE000
        if last <= 0x10FFFF:
            return head[:-1] + chr(last)
        head = head[:-1]
    return "\U0010ffff"


@cache
def boot_id() -> str:
    """Which run of the kernel this is: leases of an earlier one have ended."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def now_seconds() -> float:
    """A clock that all processes of this machine share, that no one sets, and that runs on while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_state(db: sqlite3.Connection) -> State:
    return State(*db.execute("SELECT revision, compacted FROM state").fetchone())


def read_entry(db: sqlite3.Connection, key: str) -> Entry:
    row = db.execute(
        "SELECT event.value, event.id FROM entry JOIN event ON event.id = entry.event WHERE entry.key = ?",
        (key,),
    ).fetchone()
    if row is None:
        raise NotFound(key)
    return Entry(key, row[0], row[1] >> ORDINAL_BITS)


def read_page(db: sqlite3.Connection, first: str, end: str, size: int) -> tuple[Entry, ...]:
    """At most ``size`` entries with ``first`` ≤ key < ``end``."""
    rows = db.execute(
        "SELECT entry.key, event.value, event.id FROM entry JOIN event ON event.id = entry.event"
        " WHERE entry.key >= ? AND entry.key < ? ORDER BY entry.key LIMIT ?",
        (first, end, size),
    )
    return tuple(Entry(key, value, event >> ORDINAL_BITS) for key, value, event in rows)


def read_events(db: sqlite3.Connection, prefix: str, after: int) -> Events:
    """History under ``prefix``, whole transactions, `EVENTS_AT_ONCE` or a little more. Raises `HistoryGone`."""
    db.execute("BEGIN")
    try:
        revision, compacted = read_state(db)
        if after < compacted:
            raise HistoryGone(f"revision {after} was compacted: history begins at {compacted}")
        if after > revision:
            raise HistoryGone(f"revision {after} lies in the future: the datastore is at {revision}")
        end = prefix_end(prefix)
        query = "SELECT key, value, id FROM event WHERE id >= ? AND key >= ? AND key < ? ORDER BY id LIMIT ?"
        rows = db.execute(query, ((after + 1) << ORDINAL_BITS, prefix, end, EVENTS_AT_ONCE)).fetchall()
        if len(rows) == EVENTS_AT_ONCE:
            # The last transaction may have been cut: take it whole, and tell only as far as it.
            revision = rows[-1][2] >> ORDINAL_BITS
            rest = db.execute(
                "SELECT key, value, id FROM event WHERE id > ? AND id < ? AND key >= ? AND key < ? ORDER BY id",
                (rows[-1][2], (revision + 1) << ORDINAL_BITS, prefix, end),
            )
            rows.extend(rest)
    finally:
        db.execute("COMMIT")
    return Events(tuple(Event(key, value, event >> ORDINAL_BITS) for key, value, event in rows), revision)


def written_since(db: sqlite3.Connection, after: int, limit: int) -> tuple[int, list[str] | None]:
    """The latest revision and the keys written after ``after``; None for the keys when there are more than ``limit``."""
    rows = db.execute(
        "SELECT key, id FROM event WHERE id >= ? ORDER BY id LIMIT ?",
        ((after + 1) << ORDINAL_BITS, limit + 1),
    ).fetchall()
    if len(rows) > limit:
        return read_state(db).revision, None
    # A revision always has an event, and the latest are never compacted.
    return (rows[-1][1] >> ORDINAL_BITS if rows else after), [key for key, _ in rows]


def lease_has_expired(db: sqlite3.Connection) -> bool:
    row = db.execute(
        "SELECT 1 FROM lease WHERE expires <= ? OR boot <> ? LIMIT 1", (now_seconds(), boot_id())
    )
    return row.fetchone() is not None


class Writing:
    """One transaction of the file, which may hold several commits: each has its own expectations and its own
    revision, and is checked whole before it writes anything."""

    def __init__(self, db: sqlite3.Connection, history: int) -> None:
        self._db = db
        self._history = history
        self._begun = read_state(db)
        self.state = self._begun

    def commit(
        self, expect: Mapping[str, int], put: Mapping[str, bytes], gone: frozenset[str], lease: int | None
    ) -> int:
        """See `KeyValue.commit`."""
        db = self._db
        before: dict[str, int] = {}
        for key, revision in expect.items():
            before[key] = self._event_of(key)
            if before[key] >> ORDINAL_BITS != revision:
                raise Conflict(key)
        if lease is not None:
            alive = "SELECT 1 FROM lease WHERE id = ? AND boot = ? AND expires > ?"
            if db.execute(alive, (lease, boot_id(), now_seconds())).fetchone() is None:
                raise NotFound(f"lease {lease}")
        return self._write(put, gone, lease, before)

    def _event_of(self, key: str) -> int:
        """The id of the key's present event, 0 when it is absent."""
        row = self._db.execute("SELECT event FROM entry WHERE key = ?", (key,)).fetchone()
        return 0 if row is None else row[0]

    def _write(
        self, put: Mapping[str, bytes], gone: frozenset[str], lease: int | None, before: Mapping[str, int]
    ) -> int:
        db = self._db
        revision = self.state.revision + 1
        event = revision << ORDINAL_BITS
        for key in sorted(gone - put.keys()):
            row = db.execute("DELETE FROM entry WHERE key = ? RETURNING event", (key,)).fetchone()
            if row is not None:
                db.execute("INSERT INTO event VALUES (?, ?, NULL)", (event, key))
                self._forget(row[0])
                event += 1
        for key, value in put.items():
            superseded = before[key] if key in before else self._event_of(key)
            db.execute("INSERT INTO event VALUES (?, ?, ?)", (event, key, value))
            db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (key, event, lease))
            if superseded:
                self._forget(superseded)
            event += 1
        if event == revision << ORDINAL_BITS:
            return self.state.revision  # nothing changed, as in etcd
        self.state = self.state._replace(revision=revision)
        return revision

    def _forget(self, event: int) -> None:
        """Superseded, and too old for any watch: `compact` passed it while it was current."""
        if event >> ORDINAL_BITS <= self.state.compacted:
            self._db.execute("DELETE FROM event WHERE id = ?", (event,))

    def compact(self) -> bool:
        """Forget a slice of what is older than the history kept; True when there is more."""
        upto = self.state.revision - self._history
        if upto - self.state.compacted < COMPACT_SLICE:
            return False
        upto = self.state.compacted + COMPACT_SLICE
        self._db.execute(
            "DELETE FROM event WHERE id >= ? AND id < ?"
            " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.key = event.key AND entry.event = event.id)",
            ((self.state.compacted + 1) << ORDINAL_BITS, (upto + 1) << ORDINAL_BITS),
        )
        self.state = self.state._replace(compacted=upto)
        return True

    def grant(self, ttl_seconds: float) -> int:
        row = self._db.execute(
            "INSERT INTO lease (boot, ttl, expires) VALUES (?, ?, ?)",
            (boot_id(), ttl_seconds, now_seconds() + ttl_seconds),
        )
        assert row.lastrowid is not None
        return row.lastrowid

    def keep_alive(self, lease: int) -> None:
        done = self._db.execute(
            "UPDATE lease SET expires = ? + ttl WHERE id = ? AND boot = ? AND expires > ?",
            (now_seconds(), lease, boot_id(), now_seconds()),
        )
        if done.rowcount == 0:
            raise NotFound(f"lease {lease}")

    def revoke(self, lease: int) -> None:
        keys = frozenset(
            key for (key,) in self._db.execute("SELECT key FROM entry WHERE lease = ?", (lease,))
        )
        self._db.execute("DELETE FROM lease WHERE id = ?", (lease,))
        self._write({}, keys, None, {})

    def expire(self) -> None:
        """End every lease whose time is over; each is a revision of its own."""
        ended = self._db.execute(
            "SELECT id FROM lease WHERE expires <= ? OR boot <> ?", (now_seconds(), boot_id())
        )
        for (lease,) in ended.fetchall():
            self.revoke(lease)

    def finish(self) -> None:
        """Write the revision down; the caller commits the transaction."""
        if self.state != self._begun:
            self._db.execute("UPDATE state SET revision = ?, compacted = ?", self.state)
