"""Telling other processes that something was written: they watch a small file beside the datastore, and writers touch it.

The touch comes after the commit is visible, so whoever wakes finds it. A writer killed between the two delays watchers
until their next look of their own (`worker.LOOK_SECONDS`), no longer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_IN_MODIFY = 0x2
_libc = ctypes.CDLL(None, use_errno=True)


class Notice:
    """The file ``<datastore>-wake``: touched by `tell`, heard on `fileno`."""

    def __init__(self, datastore: Path) -> None:
        self._path = datastore.with_name(datastore.name + "-wake")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._inotify = -1

    def listen(self) -> bool:
        """Begin to hear. False when the kernel has no inotify instance left: the caller looks more often then."""
        if self._inotify >= 0:
            return True
        descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor < 0:
            return False
        if _libc.inotify_add_watch(descriptor, os.fsencode(self._path), _IN_MODIFY) < 0:
            os.close(descriptor)
            return False
        self._inotify = descriptor
        return True

    def fileno(self) -> int:
        """What to poll for input, or -1 while not listening."""
        return self._inotify

    def drain(self) -> None:
        """Take what was heard, if anything; one touch or a hundred mean the same."""
        if self._inotify >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self._inotify, 65536)

    def is_stale(self) -> bool:
        """Someone removed the file: others will touch a new one."""
        try:
            return self._path.stat().st_ino != os.fstat(self._file).st_ino
        except OSError:
            return True

    def tell(self) -> None:
        """Something was written."""
        os.pwrite(self._file, b"\n", 0)

    def close(self) -> None:
        for descriptor in (self._file, self._inotify):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._inotify = -1
