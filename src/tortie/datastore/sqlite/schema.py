"""Opening the file: its form, its mode bits, and what is said when it is not ours."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Literal, NamedTuple

from tortie.errors import AccessDenied, StoreError, StoreUnavailable, UsageError

APPLICATION_ID = 0x546F7274
"""``Tort``: SQLite keeps it in the file's header, so that no other program's database is taken for ours."""

FORMAT = 1
FILE_MODE = 0o600

# An event's id is its revision and, in the lowest 16 bits, its place within the transaction: order by id is history.
SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL);
CREATE TABLE event (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB);
CREATE TABLE entry (key TEXT PRIMARY KEY, event INTEGER NOT NULL, lease INTEGER) WITHOUT ROWID;
CREATE INDEX entry_lease ON entry (lease) WHERE lease IS NOT NULL;
CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, ttl REAL NOT NULL, expires REAL NOT NULL);
INSERT INTO state VALUES (1, 1, 0);
"""


class SqliteOptions(NamedTuple):
    """How a file is used. ``history`` is the number of past revisions from which a watch may resume."""

    path: Path
    synchronous: Literal["normal", "full"] = "normal"
    history: int = 5000
    busy_seconds: float = 5.0


def connect(options: SqliteOptions) -> sqlite3.Connection:
    """Open the file, made on first use. The connection begins and ends its transactions itself.

    Raises `AccessDenied` (mode bits), `UsageError` (not a Tortie datastore), `StoreUnavailable` (anything else).
    """
    path = options.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_file(path)
    except OSError as error:
        raise _unopened(path, error) from error
    deadline = time.monotonic() + options.busy_seconds
    while True:
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=64)
            _prepare(connection, options)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if not is_busy(error) or time.monotonic() > deadline:
                raise translate(error, path) from error
            time.sleep(0.005)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        else:
            return connection


def _make_file(path: Path) -> None:
    """The file with our mode bits, where there is none.

    One that exists must not be opened here, not even to be closed again: closing any descriptor of a file drops every lock
    that this process holds on it, those of its other connections included. Then another process takes itself for the last
    user, deletes the write-ahead log, and what this one writes is lost (https://www.sqlite.org/howtocorrupt.html §2.2).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None


def _unopened(path: Path, error: OSError) -> StoreError:
    text = f"cannot open the datastore {path}: {error.strerror}"
    if isinstance(error, PermissionError):
        return AccessDenied(f"{text}; run as root, or choose another one with --datastore")
    return StoreUnavailable(text)


def _prepare(connection: sqlite3.Connection, options: SqliteOptions) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        _create(connection, options.path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise UsageError(
            f"{options.path} has the datastore format {version}, and this Tortie knows {FORMAT} only"
        )
    connection.execute(
        "PRAGMA synchronous = FULL" if options.synchronous == "full" else "PRAGMA synchronous = NORMAL"
    )
    connection.execute("PRAGMA cache_size = -2048")
    # Writing the log back into the file waits for the disk: seldom, then. 16 MB of log cost nothing.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    # A log left larger by a long reader is cut back when it is next reset.
    connection.execute("PRAGMA journal_size_limit = 67108864")


def _create(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        _still_foreign(connection, path)
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been quicker.
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    _still_foreign(connection, path)


def _still_foreign(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise UsageError(
            f"{path} is a database of another program, not a Tortie datastore; name another file"
        )


def is_busy(error: sqlite3.Error) -> bool:
    """Another process holds the lock: worth another try."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate(error: sqlite3.Error, path: Path) -> Exception:
    """SQLite's error as one of ours."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_busy(error):
        return StoreUnavailable(f"the datastore {path} is locked by another process")
    if code == sqlite3.SQLITE_NOTADB:
        return UsageError(f"{path} is not a Tortie datastore ({error}); name another file")
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreUnavailable(
            f"the datastore {path} is damaged ({error}); restore it from a copy or remove it"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return AccessDenied(f"the datastore {path} cannot be written: {error}")
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(f"the disk that holds the datastore {path} is full")
    return StoreUnavailable(f"the datastore {path}: {error}")
