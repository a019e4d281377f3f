"""Network namespaces: run a short function in one, open sockets there, make and remove named ones.

One thread does all visits, one at a time: it enters, runs the function, and comes home; if it cannot come home, the process
ends at once, since a stray thread would do its work in a stranger's namespace. Nothing here forks.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tortie.errors import KernelError, NamespaceGone
from tortie.kernel.netlink import NetlinkSocket

T = TypeVar("T")
Namespace = int | str | Path
"""An open descriptor, a name as ``ip netns`` knows it, or a path."""

DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"
_PROCESS = Path("/proc/self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)
_visitor = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns")


def path_of(namespace: str | Path) -> Path:
    """Where a namespace is found: a bare name stands in /run/netns."""
    path = Path(namespace)
    return path if path.is_absolute() else DIRECTORY / path


def open_namespace(namespace: str | Path) -> int:
    """A descriptor that keeps the namespace alive; the caller closes it. Raises `NamespaceGone`, `KernelError`."""
    path = path_of(namespace)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NamespaceGone(errno.ENOENT, "open the network namespace", str(path)) from error
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "open the network namespace", str(path)) from error


def is_own(descriptor: int) -> bool:
    """Whether the open namespace is the process's own. Raises `OSError` for what is no descriptor."""
    here, there = _PROCESS.stat(), os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def submit(namespace: Namespace, function: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Run ``function`` in the namespace, soon. From the event loop: ``await asyncio.wrap_future(submit(...))``."""
    return _visitor.submit(visit, namespace, function)


def run(namespace: Namespace, function: Callable[[], T]) -> T:
    """Run ``function`` in the namespace and wait for it. Raises what it raises, `NamespaceGone`, `KernelError`."""
    return submit(namespace, function).result()


def open_netlink(namespace: Namespace | None, protocol: int, *, groups: int = 0) -> NetlinkSocket:
    """A netlink socket in the namespace (None: the caller's own); it stays there whoever uses it."""
    if namespace is None:
        return NetlinkSocket(protocol, groups=groups)
    return run(namespace, lambda: NetlinkSocket(protocol, groups=groups))


def enter_for_good(namespace: Namespace) -> None:
    """Move the calling thread, and it alone, into the namespace until it ends. For a dedicated thread."""
    own = isinstance(namespace, int)
    descriptor = namespace if isinstance(namespace, int) else open_namespace(namespace)
    try:
        _setns(descriptor, str(namespace))
    finally:
        if not own:
            os.close(descriptor)


def create(name: str) -> None:
    """A new namespace under /run/netns, as ``ip netns add`` makes it. Raises `KernelError` (EEXIST)."""
    path = DIRECTORY / name
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "make the network namespace", name) from error
    try:
        _visitor.submit(_unshare_onto, path).result()
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def delete(name: str) -> None:
    """Remove the name; the namespace ends with its last user. Gone already is success."""
    path = DIRECTORY / name
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


def visit(namespace: Namespace, function: Callable[[], T]) -> T:
    """Run ``function`` in the namespace on the calling thread, which must be one that only works for its caller: never
    the main thread, nor one that stands somewhere for good. Raises as `run` does."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_for_good(namespace)
        try:
            return function()
        finally:
            _come_home(home)
    finally:
        os.close(home)


def _unshare_onto(path: Path) -> None:
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            raise KernelError(ctypes.get_errno(), "make a network namespace", path.name)
        try:
            if _libc.mount(_OWN.encode(), os.fsencode(path), b"none", ctypes.c_ulong(_MS_BIND), None):
                raise KernelError(ctypes.get_errno(), "mount the network namespace", str(path))
        finally:
            _come_home(home)
    finally:
        os.close(home)


def _setns(descriptor: int, subject: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        gone = number in (errno.EINVAL, errno.ENOENT, errno.EBADF)
        raise (NamespaceGone if gone else KernelError)(number, "enter the network namespace", subject)


def _come_home(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        with contextlib.suppress(Exception):
            sys.stderr.write(
                f"a thread cannot leave a foreign network namespace ({os.strerror(number)}): ending\n"
            )
            sys.stderr.flush()
        os._exit(70)
