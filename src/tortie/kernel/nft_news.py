"""What others change in nf_tables: whether it is any of ours.

The generation of nf_tables counts every change of any table by anybody. Where others change theirs all the time (kube-proxy), it
says nothing of ours; the kernel's notifications do.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import NamedTuple

from tortie.errors import KernelError
from tortie.kernel import netlink as nl
from tortie.kernel.netns import Namespace, open_netlink

_GROUP = 1 << (7 - 1)
"""NFNLGRP_NFTABLES."""
_NEW_GENERATION = 10 << 8 | 15
_BUFFER_BYTES = 16 << 20
_SO_ATTACH_FILTER = 26
_PORT_OFFSET = 12


class News(NamedTuple):
    """``changes``: how many batches of others took effect; ``ours``: whether one may have touched our table."""

    changes: int
    ours: bool


class NftNews:
    """Hears of all that is done through any other socket than ``own_port``, from the moment it is made."""

    def __init__(self, namespace: Namespace | None, *, table: str, own_port: int) -> None:
        self._name = table.encode() + b"\0"
        self._own_port = own_port
        self._netlink = open_netlink(namespace, nl.NETFILTER, groups=_GROUP)
        self._netlink.grow_buffers(receive=_BUFFER_BYTES)
        self._leave_out_own()

    def close(self) -> None:
        self._netlink.close()

    def take(self) -> News:
        """What there was since the last time. Raises `KernelError`."""
        changes, ours = 0, False
        while True:
            try:
                received = self._netlink.receive_waiting()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(error.errno or errno.EIO, "hear of changes in nf_tables") from error
                ours = True  # some were lost
                continue
            if not received:
                return News(changes, ours)
            for message in received:
                if message.port == self._own_port:
                    continue
                if message.kind == _NEW_GENERATION:
                    changes += 1
                else:
                    ours = ours or self._name in message.body

    def _leave_out_own(self) -> None:
        """A large batch of our own would fill the buffer. All messages of a datagram have one sender."""
        code = b"".join(
            struct.pack("=HBBI", *instruction)
            for instruction in (
                (0x20, 0, 0, _PORT_OFFSET),  # load the word
                (0x15, 0, 1, int.from_bytes(struct.pack("=I", self._own_port), "big")),  # is it our port?
                (0x06, 0, 0, 0),
                (0x06, 0, 0, 0xFFFFFFFF),
            )
        )
        program = ctypes.create_string_buffer(code)
        heard = socket.socket(fileno=self._netlink.fileno())
        try:
            heard.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(program))
            )
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, "filter what a netlink socket hears") from error
        finally:
            heard.detach()
