"""The agent as a process of its machine: only one a node, a tamed garbage collector, an event loop that is watched."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import fcntl
import gc
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Self

from tortie.errors import UsageError
from tortie.observe.metrics import Metrics

ABSTRACT_NAME = "\0tortie/agent"
"""Abstract names belong to a network namespace, so this one is the node's, whatever run directory an agent was given."""
LAG_LOOK_SECONDS = 1.0
HANG_SECONDS = 20.0
RESTART_EXIT_CODE = 129
"""Felix's: the configuration changed in a way that needs a new start."""


class OnlyAgent:
    """Holds this node against a second agent: a lock on a file of the run directory, and a name in the network namespace.

    Both end with the process, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._name: socket.socket | None = None

    def __enter__(self) -> Self:
        """Raises `UsageError` naming the process that holds the node."""
        try:
            self._take_file()
            self._take_name()
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def _take_file(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UsageError(
                f"another agent, pid {holder}, runs on this node: it holds {self._path}; stop it first"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def _take_name(self) -> None:
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._name.bind(ABSTRACT_NAME)
            self._name.listen(1)
        except OSError:
            pid, uid = _holder_of_name()
            # Anyone may take an abstract name; only a process of root can be an agent.
            if uid == 0:
                raise UsageError(
                    f"another agent, pid {pid}, runs in this network namespace with another run directory; stop it first"
                ) from None

    def _let_go(self) -> None:
        if self._name is not None:
            self._name.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _holder_of_name() -> tuple[int, int]:
    """The pid and user of whoever listens there; (0, -1) when it is gone again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(ABSTRACT_NAME)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iii"))
        except OSError:
            return 0, -1
    pid, uid, _ = struct.unpack("=iii", raw)
    return pid, uid


def tame_interpreter() -> None:
    """Collect garbage seldom: decoding a snapshot makes millions of objects and hardly any garbage in circles.

    And hand over between threads quickly: the event loop waits for answers of the netlink thread within an ADD.
    """
    gc.set_threshold(50_000, 50, 1000)
    sys.setswitchinterval(0.0005)


def freeze_collector() -> None:
    """What is alive now stays: never look at it again. Called after the first in-sync."""
    gc.collect()
    gc.freeze()


async def watch_loop(metrics: Metrics) -> None:
    """Measure how late the event loop is; when it hangs for long, every thread's stack goes to stderr. Eternal."""
    with contextlib.ExitStack() as stack:
        stack.callback(faulthandler.cancel_dump_traceback_later)
        armed_at = float("-inf")
        while True:
            now = time.monotonic()
            if now - armed_at > HANG_SECONDS / 4:
                faulthandler.dump_traceback_later(HANG_SECONDS, repeat=False)
                armed_at = now
            await asyncio.sleep(LAG_LOOK_SECONDS)
            metrics.loop_lag.set(max(0.0, time.monotonic() - now - LAG_LOOK_SECONDS))
