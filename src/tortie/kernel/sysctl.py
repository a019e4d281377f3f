"""Switches under /proc/sys. Those of ``net`` are the calling thread's network namespace's own."""

from __future__ import annotations

import errno
import os

from tortie.errors import KernelError

_ROOT = "/proc/sys/"


def path_of(name: str) -> str:
    """Where a switch stands: ``net/ipv4/conf/eth0/proxy_arp`` (slashes, since names of interfaces may hold dots)."""
    return _ROOT + name


def read(name: str) -> str:
    """Its value without white space around. Raises `KernelError` (ENOENT: no such switch, or its interface is gone)."""
    try:
        descriptor = os.open(_ROOT + name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 4096).decode().strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "read the switch", name) from error


def write(name: str, value: str) -> None:
    """Raises `KernelError`: EROFS and EACCES where /proc/sys is not ours to write."""
    try:
        descriptor = os.open(_ROOT + name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "set the switch", f"{name} to {value}") from error


def ensure(name: str, value: str) -> bool:
    """Set it unless it is so already. Returns whether it was written."""
    if read(name) == value:
        return False
    write(name, value)
    return True
