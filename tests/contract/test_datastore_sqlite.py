"""What only the SQLite datastore must do: many processes on one file, killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tortie.datastore.keyvalue import Event, Events, KeyValue
from tortie.datastore.sqlite import log, worker
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.notice import Notice
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.errors import Conflict, HistoryGone, NotFound, StoreUnavailable, UsageError

WRITER = """
import asyncio, sys
from pathlib import Path
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions

async def main(path, name):
    store = SqliteKeyValue(SqliteOptions(Path(path), history=20_000))
    number = 0
    while True:
        # Both keys or neither; told only when it is written.
        value = str(number).encode()
        await store.commit(expect={}, put={f"/a/{name}": value, f"/b/{name}": value * 100})
        print(number, flush=True)
        number += 1

asyncio.run(main(*sys.argv[1:]))
"""


def start_writer(path: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE)


def run(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)


def damage(path: Path) -> None:
    """Overwrite all but the first page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def remove_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def kill(process: subprocess.Popen[bytes]) -> list[bytes]:
    """End it in the midst of its work; what it had told by then."""
    process.send_signal(signal.SIGKILL)
    told, _ = process.communicate()
    return told.split(b"\n")[:-1]


@contextlib.asynccontextmanager
async def opened(path: Path, **options: object) -> AsyncIterator[SqliteKeyValue]:
    store = SqliteKeyValue(SqliteOptions(path, **options))  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


def silent(notice: Notice) -> None:
    del notice


def deaf(notice: Notice) -> bool:
    del notice
    return False


async def put(store: KeyValue, key: str, value: bytes = b"x") -> int:
    return await store.commit(expect={}, put={key: value})


async def take(events: AsyncIterator[Events], count: int) -> list[Event]:
    changes: list[Event] = []
    async with asyncio.timeout(10):
        while len(changes) < count:
            changes.extend((await anext(events)).changes)
    return changes


async def test_killed_writers_lose_nothing_they_told_and_block_nobody(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        _, after = await put(store, "/x"), 2
        async with store.watch("/a/", after=after) as events:
            seen: dict[str, int] = {}
            for turn in range(8):
                names = [f"w{turn}-{n}" for n in range(3)]
                writers = {name: start_writer(path, name) for name in names}
                try:
                    async with asyncio.timeout(20):
                        while not all(f"/a/{name}" in seen for name in names):
                            for change in (await anext(events)).changes:
                                assert change.value is not None
                                number = int(change.value)
                                assert number == seen.get(change.key, -1) + 1, (
                                    "a watch skips or repeats nothing"
                                )
                                seen[change.key] = number
                    await asyncio.sleep(0.01 * turn)
                finally:
                    told = {name: kill(writer) for name, writer in writers.items()}
                began = time.monotonic()
                await put(store, "/x")
                assert time.monotonic() - began < 4, "a lock that a dead writer held would cost 5 s"
                for name in names:
                    entry = await store.get(f"/a/{name}")
                    other = await store.get(f"/b/{name}")
                    assert int(entry.value) >= int(told[name][-1])
                    assert other.value == entry.value * 100
                    assert other.revision == entry.revision
    damaged = sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone()
    assert damaged == ("ok",)


async def test_watchers_of_another_process_wake_within_50_ms(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    script = """
import asyncio, sys, time
from pathlib import Path
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions
async def main():
    store = SqliteKeyValue(SqliteOptions(Path(sys.argv[1])))
    for _ in range(100):
        await store.commit(expect={}, put={"/time": repr(time.monotonic()).encode()})
        await asyncio.sleep(0.01)
    await store.close()
asyncio.run(main())
"""
    async with opened(path) as store:
        revision = await put(store, "/x")
        delays: list[float] = []
        async with store.watch("/time", after=revision) as events:
            with run(script, path):
                async with asyncio.timeout(20):
                    while len(delays) < 100:
                        batch = await anext(events)
                        now = time.monotonic()
                        delays.extend(now - float(change.value or b"0") for change in batch.changes)
    # The middle one: on a busy machine some writers and readers wait for a processor. Polling would take half a second.
    assert statistics.median(delays) < 0.05, [round(delay * 1000, 1) for delay in delays]


async def test_a_writer_killed_before_its_notice_delays_watchers_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "store.db") as reader, opened(tmp_path / "store.db") as writer:
        revision = await put(reader, "/x")
        monkeypatch.setattr(Notice, "tell", silent)
        async with reader.watch("/", after=revision) as events:
            await asyncio.sleep(0.1)
            await put(writer, "/y")
            began = time.monotonic()
            await take(events, 1)
            assert time.monotonic() - began < 5


async def test_without_inotify_the_file_is_looked_at_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Notice, "listen", deaf)
    async with opened(tmp_path / "store.db") as reader, opened(tmp_path / "store.db") as writer:
        revision = await put(reader, "/x")
        async with reader.watch("/", after=revision) as events:
            await asyncio.sleep(0.1)
            delays: list[float] = []
            for _ in range(5):
                await put(writer, "/y")
                began = time.monotonic()
                await take(events, 1)
                delays.append(time.monotonic() - began)
            assert statistics.median(delays) < 0.2, delays


async def test_a_lock_that_is_never_let_go_is_an_error_after_a_bound_and_reads_go_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db", busy_seconds=2) as store:
        revision = await put(store, "/a", b"1")
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.ensure_future(put(store, "/a", b"2"))
        assert (await store.get("/a")).revision == revision
        assert not write.done(), "the read has not waited for the write"
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            await write
        other.execute("ROLLBACK")
        other.close()
        await put(store, "/a", b"3")


async def test_the_loop_is_not_held_while_the_thread_waits(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db", busy_seconds=0.5) as store:
        await put(store, "/a")
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.ensure_future(put(store, "/a"))
        ticks = 0
        while not write.done():
            await asyncio.sleep(0.01)
            ticks += 1
        other.close()
        assert isinstance(write.exception(), StoreUnavailable)
        assert ticks > 5, "50 on a quiet machine, and one where the loop is held"


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store.db"
    async with opened(path) as store:
        await put(store, "/a")
        found = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(found) == {"store.db", "store.db-wal", "store.db-shm", "store.db-wake"}
    assert set(found.values()) == {0o600}


async def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.commit()
    before = path.read_bytes()
    async with opened(path) as store:
        with pytest.raises(UsageError, match=r"other\.db is a database of another program"):
            await put(store, "/a")
        with pytest.raises(UsageError):
            await store.get("/a")
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    async with opened(path) as store:
        with pytest.raises(UsageError, match=r"notes\.txt is not a Tortie datastore"):
            await store.get("/a")
    assert path.read_text().startswith("not a database")


async def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await put(store, "/a")
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as raw:
        raw.execute("PRAGMA user_version = 99")
    async with opened(tmp_path / "store.db") as store:
        with pytest.raises(UsageError, match="format 99"):
            await store.get("/a")


async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        for n in range(200):
            await put(store, f"/{n}", b"x" * 500)
    damage(path)
    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match=r"store\.db is damaged"):
            await asyncio.gather(*(store.get(f"/{n}") for n in range(200)))


async def test_a_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "store.db", tmp_path):
        async with opened(path) as store:
            with pytest.raises(StoreUnavailable, match=str(path)):
                await store.get("/a")


@pytest.mark.needs("root")
async def test_a_file_of_another_user_is_denied(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await put(store, "/a")
    script = """
import asyncio, os, sys
from pathlib import Path
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.errors import AccessDenied
async def main():
    try:
        await SqliteKeyValue(SqliteOptions(Path(sys.argv[1]))).get("/a")
    except AccessDenied as error:
        print(error)
os.setegid(65534)
os.seteuid(65534)
asyncio.run(main())
"""
    with run(script, path) as process:
        told, _ = process.communicate()
    assert f"cannot open the datastore {path}" in told


async def test_a_file_that_was_replaced_is_noticed_and_the_new_one_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.1)
    path = tmp_path / "store.db"
    async with opened(path) as store:
        revision = await put(store, "/a")
        async with store.watch("/", after=revision) as events:
            remove_all(tmp_path)
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                await take(events, 1)
        with pytest.raises(NotFound):
            await store.get("/a")
        await put(store, "/b")
        async with opened(path) as other:
            assert (await other.get("/b")).value == b"x"


async def test_a_wake_file_that_was_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.1)
    async with opened(tmp_path / "store.db") as reader, opened(tmp_path / "store.db") as writer:
        revision = await put(reader, "/x")
        await put(writer, "/x")
        async with reader.watch("/y", after=revision) as events:
            (tmp_path / "store.db-wake").unlink()
            waiting = asyncio.ensure_future(take(events, 1))
            async with asyncio.timeout(10):
                while not (tmp_path / "store.db-wake").exists():  # noqa: ASYNC110 a file tells nobody
                    await asyncio.sleep(0.02)
            monkeypatch.setattr(worker, "LOOK_SECONDS", 60)
            await asyncio.sleep(0.2)
            await put(writer, "/y")
            await asyncio.wait_for(waiting, 10)


async def test_who_rings_while_the_bell_is_being_read_leaves_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 600)
    read = os.eventfd_read

    def rung_meanwhile(bell: int) -> int:
        thread = threading.current_thread()
        if isinstance(thread, worker.Worker):
            thread.submit(lambda: None)
        return read(bell)

    async with opened(tmp_path / "store.db") as store:
        await put(store, "/a")
        monkeypatch.setattr(os, "eventfd_read", rung_meanwhile)
        for _ in range(3):
            assert (await asyncio.wait_for(store.get("/a"), 20)).value == b"x"
        monkeypatch.undo()


async def test_history_is_bounded_and_revisions_outlive_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path, history=100) as store:
        first = await put(store, "/kept", b"old and never changed")
        await store.commit(expect={}, put={"/gone": b""})
        await store.commit(expect={}, put={}, gone=frozenset({"/gone"}))
        last = [await put(store, "/busy", str(n).encode()) for n in range(2000)][-1]
        with pytest.raises(HistoryGone):
            async with store.watch("/", after=first) as events:
                await take(events, 1)
        async with store.watch("/busy", after=last - 100) as events:
            assert len(await take(events, 100)) == 100
        assert (await store.get("/kept")).revision == first
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM event").fetchone()[0] < 700
        raw.execute("DELETE FROM event WHERE key = '/busy'")
        raw.execute("DELETE FROM entry WHERE key = '/busy'")
        raw.commit()
    async with opened(path) as store:
        assert await put(store, "/next") == last + 1


async def test_a_superseded_value_older_than_history_leaves_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db", history=10) as store:
        await put(store, "/rare", b"first")
        for _ in range(600):
            await put(store, "/busy")
        await put(store, "/rare", b"second")
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as raw:
        assert raw.execute("SELECT value FROM event WHERE key = '/rare'").fetchall() == [(b"second",)]


def _count_transactions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One more element for each transaction of the file from now on."""
    counted: list[None] = []
    finish = log.Writing.finish

    def counting(writing: log.Writing) -> None:
        counted.append(None)
        finish(writing)

    monkeypatch.setattr(log.Writing, "finish", counting)
    return counted


async def test_commits_that_arrive_together_share_a_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "store.db") as store:
        await put(store, "/a")
        monkeypatch.setattr(worker, "GROUP_SECONDS", 60)
        shared = _count_transactions(monkeypatch)
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute(
                "BEGIN IMMEDIATE"
            )  # so that they all wait, however the machine's time is shared out
            commits = [
                asyncio.ensure_future(store.commit(expect={"/n": 0}, put={"/n": str(n).encode()}))
                for n in range(50)
            ]
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert sum(isinstance(result, Conflict) for result in results) == 49
        assert len(shared) < 25, (
            "one each would be 50; where the thread is quicker than we ask, there are some"
        )


async def test_a_value_that_cannot_be_written_harms_no_neighbour(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await put(store, "/a")
        good = [asyncio.ensure_future(put(store, f"/{n}")) for n in range(5)]
        bad = asyncio.ensure_future(put(store, "/\ud800"))
        more = [asyncio.ensure_future(put(store, f"/{n}")) for n in range(5, 10)]
        await asyncio.gather(*good, *more)
        with pytest.raises(UnicodeEncodeError):
            await bad


async def test_keys_of_a_lease_of_an_earlier_boot_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "store.db") as store:
        lease = await store.grant(1000)
        await store.commit(expect={}, put={"/a": b""}, lease=lease)
    monkeypatch.setattr(log, "boot_id", lambda: "another")
    async with opened(tmp_path / "store.db") as store:
        with pytest.raises(NotFound):
            await store.keep_alive(lease)
        async with asyncio.timeout(5):
            while True:
                try:
                    await store.get("/a")
                except NotFound:
                    return
                await asyncio.sleep(0.01)


async def test_synchronous_full_is_passed_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db", synchronous="full") as store:
        assert await store._read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)
    async with opened(tmp_path / "store.db") as store:
        assert await store._read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (1,)
