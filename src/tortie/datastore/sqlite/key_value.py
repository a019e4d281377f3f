"""`KeyValue` over one SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from tortie.datastore.keyvalue import Entry, Events, Page
from tortie.datastore.sqlite import log
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.datastore.sqlite.worker import Job, Wait, Worker
from tortie.errors import StoreUnavailable

T = TypeVar("T")


class SqliteKeyValue:
    """Many processes may open the same file. Nothing is opened before the first call; one thread a store."""

    def __init__(self, options: SqliteOptions) -> None:
        self._options = options
        self._worker: Worker | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"SqliteKeyValue({str(self._options.path)!r})"

    def _running(self) -> Worker:
        if self._closed:
            raise StoreUnavailable(f"the datastore {self._options.path} is closed")
        if self._worker is None:
            self._worker = Worker(self._options, asyncio.get_running_loop())
            self._worker.start()
        return self._worker

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._running().submit(Job(future, read=read))
        return await future

    async def _write(self, write: Callable[[log.Writing], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._running().submit(Job(future, write=write))
        return await future

    async def get(self, key: str) -> Entry:
        return await self._read(lambda db: log.read_entry(db, key))

    async def scan(self, prefix: str, *, page_size: int = 500) -> AsyncIterator[Page]:
        """A scan of several pages holds a snapshot of its own until it ends, so that all show one revision."""
        worker = self._running()
        end = log.prefix_end(prefix)
        snapshot: list[sqlite3.Connection] = []

        def following(first: str, _: sqlite3.Connection) -> Page:
            if not snapshot:
                snapshot.append(worker.snapshot())
            page = Page(
                log.read_page(snapshot[0], first, end, page_size), log.read_state(snapshot[0]).revision
            )
            if len(page.entries) < page_size:
                release()
            return page

        def release() -> None:
            while snapshot:
                worker.release(snapshot.pop())

        first = prefix
        try:
            while True:
                page = await self._read(partial(following, first))
                yield page
                if len(page.entries) < page_size:
                    return
                first = page.entries[-1].key + "\0"
        finally:
            if not self._closed:
                worker.submit(release)

    async def commit(
        self,
        *,
        expect: Mapping[str, int],
        put: Mapping[str, bytes],
        gone: frozenset[str] = frozenset(),
        lease: int | None = None,
    ) -> int:
        return await self._write(lambda writing: writing.commit(expect, put, gone, lease))

    @contextlib.asynccontextmanager
    async def watch(self, prefix: str, *, after: int) -> AsyncIterator[AsyncIterator[Events]]:
        first = await self._read(lambda db: log.read_events(db, prefix, after))
        yield self._events(prefix, after, first)

    async def _events(self, prefix: str, after: int, first: Events) -> AsyncIterator[Events]:
        if first.changes:
            yield first
            after = first.revision
        while True:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._running().submit(Wait(future, prefix, after, told=after))
            events: Events = await future
            yield events
            after = events.revision

    async def grant(self, ttl_seconds: float) -> int:
        return await self._write(lambda writing: writing.grant(ttl_seconds))

    async def keep_alive(self, lease: int) -> None:
        await self._write(lambda writing: writing.keep_alive(lease))

    async def revoke(self, lease: int) -> None:
        await self._write(lambda writing: writing.revoke(lease))

    async def close(self) -> None:
        self._closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()
