"""etcd's promises over bytes: what every datastore keeps, and nothing more.

Implementations: ``datastore.sqlite``, ``datastore.etcd``. One suite holds them to this page: ``tests/contract/test_keyvalue.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One key as it stands: ``revision`` is that of its last write, above 0."""

    key: str
    value: bytes
    revision: int


class Page(NamedTuple):
    """A part of a scan. All pages of one scan show the same ``revision`` of the whole store."""

    entries: tuple[Entry, ...]
    revision: int


class Event(NamedTuple):
    """One key's change; ``value`` is None when it was deleted."""

    key: str
    value: bytes | None
    revision: int


class Events(NamedTuple):
    """Changes in the order of their revisions, whole transactions only. Empty ``changes`` say progress: nothing
    under the prefix changed up to ``revision``. A watch resumes with ``after=revision``."""

    changes: tuple[Event, ...]
    revision: int


class KeyValue(Protocol):
    """A store of bytes with revisions, transactions, leases and watches.

    Every method raises `StoreUnavailable` when the store cannot be reached and `AccessDenied` when it refuses us.
    """

    async def get(self, key: str) -> Entry:
        """The entry at ``key``. Raises `NotFound`."""
        ...

    def scan(self, prefix: str, *, page_size: int = 500) -> AsyncIterator[Page]:
        """All entries under ``prefix`` in key order, at one revision. Yields at least one page, so that an empty
        prefix still tells its revision. Raises `HistoryGone` when that revision is compacted between two pages."""
        ...

    async def commit(
        self,
        *,
        expect: Mapping[str, int],
        put: Mapping[str, bytes],
        gone: frozenset[str] = frozenset(),
        lease: int | None = None,
    ) -> int:
        """Write all or nothing and return the new revision.

        ``expect`` holds the revision each named key must have, 0 meaning absent; a mismatch raises `Conflict` naming
        the first key that differs and changes nothing. Deleting an absent key is no error. A write that was cancelled
        or timed out may have happened: read before retrying.
        """
        ...

    def watch(self, prefix: str, *, after: int) -> AbstractAsyncContextManager[AsyncIterator[Events]]:
        """Changes under ``prefix`` after the revision ``after``, none lost, none twice.

        Raises `HistoryGone` (from entering or from the iterator) when that history is compacted or lies in the future,
        `StoreUnavailable` when the connection is lost: the caller resumes after the last revision it saw.
        """
        ...

    async def grant(self, ttl_seconds: float) -> int:
        """A lease: keys put with it vanish ``ttl_seconds`` after the last `keep_alive`."""
        ...

    async def keep_alive(self, lease: int) -> None:
        """Renew the lease. Raises `NotFound` when it has expired."""
        ...

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys at once. An expired lease is no error."""
        ...

    async def close(self) -> None:
        """Let go of connections, threads and files. Idempotent."""
        ...
