"""The one thread that touches the file: it runs the reads, gathers waiting writes into one transaction, and wakes watches.

Everything that blocks (the disk, another process's lock) blocks here and never the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tortie.datastore.keyvalue import Events
from tortie.datastore.sqlite import log, schema
from tortie.datastore.sqlite.notice import Notice
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.errors import StoreUnavailable, TortieError

LOOK_SECONDS = 1.0
"""How often the file is looked at without a notice, and leases are checked."""

LOOK_SECONDS_DEAF = 0.02
"""The same where the kernel grants no inotify instance."""

PROGRESS_SECONDS = 5.0
"""A watch under which nothing changes hears at least this often how far the datastore has come."""

GROUP_JOBS = 128
GATHER_SECONDS = 0.005
"""Watches are told of writes so long after the first of them, of all at once: not in the midst of an ADD that makes several."""
GROUP_SECONDS = 0.004
"""Bounds of one gathered transaction, so that other processes get their turn."""

FIRST_RETRY_SECONDS = 0.0001
MOST_RETRY_SECONDS = 0.002


@dataclass(eq=False)
class Job:
    """One call from the event loop and where its outcome goes."""

    future: asyncio.Future[Any]
    read: Callable[[sqlite3.Connection], Any] | None = None
    write: Callable[[log.Writing], Any] | None = None
    deadline: float = 0.0


@dataclass(eq=False)
class Wait:
    """A watch that has seen everything up to ``after`` and told its reader of ``told``."""

    future: asyncio.Future[Any]
    prefix: str
    after: int
    told: int
    since: float = field(default_factory=time.monotonic)


Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class Worker(threading.Thread):
    """Owns the connection. Made by the event loop that its answers go to."""

    def __init__(self, options: SqliteOptions, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name=f"sqlite {options.path.name}", daemon=True)
        self._options = options
        self._loop = loop
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._rung = False
        self._jobs: deque[Job | Wait | Callable[[], None]] = deque()
        self._writes: deque[Job] = deque()
        self._waits: set[Wait] = set()
        self._outcomes: list[Outcome] = []
        self._answers: deque[Outcome] = deque()
        self._answered = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.add_reader(self._answered, self._deliver)
        self._stopping = False
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._notice: Notice | None = None
        self._seen = 0
        self._next_look = 0.0
        self._tell_at: float | None = None
        """When the waiting watches are told of what was written."""
        self._spare: sqlite3.Connection | None = None
        self._ended = False
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._stopped: asyncio.Future[None] = loop.create_future()

    # Called by the event loop.

    def submit(self, job: Job | Wait | Callable[[], None]) -> None:
        """Hand over a job, a waiting watch, or a bare function whose outcome nobody awaits."""
        if self._ended:
            raise StoreUnavailable(f"the datastore {self._options.path} is closed")
        self._jobs.append(job)
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._bell, 1)

    async def stop(self) -> None:
        """Answer what is under way, then let go of the file and end."""
        self._stopping = True
        os.eventfd_write(self._bell, 1)
        await self._stopped
        self.join()
        self._loop.remove_reader(self._answered)
        os.close(self._answered)
        os.close(self._bell)

    def _deliver(self) -> None:
        os.eventfd_read(self._answered)
        while self._answers:
            future, result, error = self._answers.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    # Called by the thread.

    def database(self) -> sqlite3.Connection:
        """The connection, opened when it is first needed and after the file was replaced."""
        if self._db is None:
            db = schema.connect(self._options)
            try:
                self._notice = Notice(self._options.path)
                self._inode = self._options.path.stat().st_ino
                self._seen = log.read_state(db).revision
            except OSError as error:
                db.close()
                raise StoreUnavailable(f"the datastore {self._options.path}: {error.strerror}") from error
            self._db = db
            self._next_look = 0.0
        return self._db

    def snapshot(self) -> sqlite3.Connection:
        """A connection of its own, on which a reader keeps one state of the file until `release`."""
        self.database()
        db, self._spare = self._spare, None
        if db is None:
            db = schema.connect(self._options)
        db.execute("BEGIN")
        return db

    def release(self, db: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            db.rollback()
        if self._spare is None and self._db is not None:
            self._spare = db
        else:
            db.close()

    def run(self) -> None:
        try:
            while not (self._stopping and not self._jobs and not self._writes):
                if not self._jobs and not self._writes:
                    self._rest()
                self._take_jobs()
                if self._writes:
                    self._write_group()
                self._look()
                self._flush()
        finally:
            self._end()

    def _rest(self) -> None:
        """Until there is something to do. Who is to look at the file soon anyway does not wake for each notice till then."""
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        notice = self._notice
        if self._waits and notice is not None and self._tell_at is None and notice.listen():
            poller.register(notice.fileno(), select.POLLIN)
        milliseconds = None if self._db is None else max(0.0, (self._due() - time.monotonic()) * 1000)
        for ready, _ in poller.poll(milliseconds):
            if ready == self._bell:
                os.eventfd_read(self._bell)
                self._rung = False  # not before: whoever rings in between would find the bell silent for ever
            else:
                self._changed()

    def _changed(self) -> None:
        """Something was written, by us or by others."""
        if self._waits and self._tell_at is None:
            self._tell_at = time.monotonic() + GATHER_SECONDS

    def _due(self) -> float:
        """When the file is to be looked at."""
        return self._next_look if self._tell_at is None else min(self._next_look, self._tell_at)

    def _take_jobs(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            if isinstance(job, Wait):
                self._begin_wait(job)
            elif not isinstance(job, Job):
                job()
            elif job.future.cancelled():
                continue
            elif job.write is not None:
                job.deadline = time.monotonic() + self._options.busy_seconds
                self._writes.append(job)
            else:
                assert job.read is not None
                self._answer(job.future, job.read)

    def _answer(self, future: asyncio.Future[Any], read: Callable[[sqlite3.Connection], Any]) -> None:
        """Run a read; one that meets a lock (rare under WAL) waits here, with a bound."""
        deadline = time.monotonic() + self._options.busy_seconds
        while True:
            try:
                self._outcomes.append((future, read(self.database()), None))
            except sqlite3.Error as error:
                if schema.is_busy(error) and time.monotonic() < deadline:
                    time.sleep(MOST_RETRY_SECONDS)
                    continue
                self._outcomes.append((future, None, schema.translate(error, self._options.path)))
            except Exception as error:
                self._outcomes.append((future, None, error))
            return

    def _write_group(self) -> None:
        group: list[tuple[Job, Any, BaseException | None]] = []
        job: Job | None = None
        try:
            db = self.database()
            db.execute("BEGIN IMMEDIATE")
            self._retry_seconds = FIRST_RETRY_SECONDS
            writing = log.Writing(db, self._options.history)
            before = writing.state.revision
            enough = time.monotonic() + GROUP_SECONDS
            while self._writes and len(group) < GROUP_JOBS and time.monotonic() < enough:
                job = self._writes.popleft()
                if job.future.cancelled():
                    continue
                assert job.write is not None
                try:
                    group.append((job, job.write(writing), None))
                except TortieError as refused:  # before it wrote anything: the others go on
                    group.append((job, None, refused))
            job = None
            writing.compact()
            writing.finish()
            db.execute("COMMIT")
        except Exception as error:
            self._undo(error, group, job)
            return
        self._outcomes.extend((job.future, result, refused) for job, result, refused in group)
        self._flush()
        if writing.state.revision != before and self._notice is not None:
            self._notice.tell()
            self._changed()

    def _undo(
        self, error: Exception, group: list[tuple[Job, Any, BaseException | None]], culprit: Job | None
    ) -> None:
        """The transaction failed: nothing of it was written, and each of its jobs hears so or is tried again."""
        with contextlib.suppress(sqlite3.Error):
            if self._db is not None and self._db.in_transaction:
                self._db.rollback()
        if isinstance(error, sqlite3.Error) and schema.is_busy(error):
            self._writes.extendleft(job for job, _, _ in reversed(group))
            now = time.monotonic()
            while self._writes and self._writes[0].deadline < now:
                self._outcomes.append(
                    (self._writes.popleft().future, None, schema.translate(error, self._options.path))
                )
            time.sleep(self._retry_seconds * (0.5 + random.random()))
            self._retry_seconds = min(self._retry_seconds * 1.5, MOST_RETRY_SECONDS)
            return
        failure = schema.translate(error, self._options.path) if isinstance(error, sqlite3.Error) else error
        if culprit is not None and not isinstance(error, sqlite3.Error):
            # Its arguments cannot be written at all; its neighbours did nothing wrong.
            self._outcomes.append((culprit.future, None, failure))
            self._writes.extendleft(job for job, _, _ in reversed(group))
            return
        failed = [job for job, _, _ in group] + ([culprit] if culprit is not None else [])
        if not failed and self._writes:
            failed = [self._writes.popleft()]  # the file cannot even be opened
        self._outcomes.extend((job.future, None, failure) for job in failed)

    def _begin_wait(self, wait: Wait) -> None:
        if wait.future.cancelled():
            return
        try:
            self._advance(wait)
        except sqlite3.Error as error:
            self._outcomes.append((wait.future, None, schema.translate(error, self._options.path)))
        except Exception as error:
            self._outcomes.append((wait.future, None, error))

    def _advance(self, wait: Wait) -> None:
        """Answer the watch if there is something for it, else let it wait on."""
        events = log.read_events(self.database(), wait.prefix, wait.after)
        if events.changes:
            self._waits.discard(wait)
            self._outcomes.append((wait.future, events, None))
        else:
            wait.after = events.revision
            self._waits.add(wait)

    def _look(self) -> None:
        """What did other processes, or we, write; which leases have ended; who has waited long."""
        if self._db is None:
            return
        now = time.monotonic()
        try:
            if now >= self._due():
                self._tell_at = None
                if self._waits and self._notice is not None:
                    self._notice.drain()
                    self._tell_waits()
            if now >= self._next_look:
                deaf = bool(self._waits) and (self._notice is None or self._notice.fileno() < 0)
                self._next_look = now + (LOOK_SECONDS_DEAF if deaf else LOOK_SECONDS)
                self._check_file()
                if log.lease_has_expired(self._db):
                    self._expire()
                self._report_progress(now)
        except sqlite3.Error as error:
            self._next_look = now + LOOK_SECONDS
            if not schema.is_busy(error):
                self._drop(schema.translate(error, self._options.path))
        except TortieError as error:
            self._drop(error)

    def _tell_waits(self) -> None:
        revision, keys = log.written_since(self.database(), self._seen, 200)
        self._seen = revision
        for wait in list(self._waits):
            if wait.future.cancelled():
                self._waits.discard(wait)
            elif keys is None or any(key.startswith(wait.prefix) for key in keys):
                try:
                    self._advance(wait)
                except TortieError as error:
                    self._waits.discard(wait)
                    self._outcomes.append((wait.future, None, error))
            else:
                wait.after = max(wait.after, revision)

    def _report_progress(self, now: float) -> None:
        for wait in list(self._waits):
            if wait.after > wait.told and now - wait.since >= PROGRESS_SECONDS:
                self._waits.discard(wait)
                self._outcomes.append((wait.future, Events((), wait.after), None))

    def _expire(self) -> None:
        job = Job(self._loop.create_future(), write=log.Writing.expire)
        job.deadline = time.monotonic() + self._options.busy_seconds
        self._writes.append(job)

    def _check_file(self) -> None:
        """A file that was removed or replaced is no longer the datastore that others see."""
        try:
            inode = self._options.path.stat().st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            raise StoreUnavailable(f"the datastore {self._options.path} was removed or replaced")
        if self._notice is not None and self._notice.is_stale():
            self._notice.close()
            self._notice = Notice(self._options.path)

    def _drop(self, error: Exception) -> None:
        """Let go of the file; the next call opens it anew."""
        for wait in self._waits:
            self._outcomes.append((wait.future, None, error))
        self._waits.clear()
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        if self._notice is not None:
            self._notice.close()
            self._notice = None

    def _flush(self) -> None:
        """Hand over what there is. Half the price of the event loop's own way to be called from a thread."""
        if self._outcomes:
            self._answers.extend(self._outcomes)
            self._outcomes.clear()
            os.eventfd_write(self._answered, 1)

    def _end(self) -> None:
        self._ended = True
        closed = StoreUnavailable(f"the datastore {self._options.path} is closed")
        self._drop(closed)
        for job in [*self._writes, *self._jobs]:
            if isinstance(job, Job | Wait):
                self._outcomes.append((job.future, None, closed))
        self._outcomes.append((self._stopped, None, None))
        self._flush()
