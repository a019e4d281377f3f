"""Netlink: attributes and messages in bytes, and a socket that speaks them (kernel: ``Documentation/userspace-api/netlink``).

Every library measured was 3 to 1,000 times slower than this on the agent's hot paths (``docs/benchmarks.md``). A call is
well under a millisecond and blocks; a socket belongs to one thread at a time and keeps the network namespace it was made in.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from tortie.errors import KernelError

ROUTE = 0
NETFILTER = 12

REQUEST = 0x1
MULTI = 0x2
ACK = 0x4
DUMP_INTERRUPTED = 0x10
DUMP = 0x300
REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400
APPEND = 0x800

_ERROR = 2
_DONE = 3
_CAPPED = 0x100
_ACK_TLVS = 0x200
_EXT_ACK_MESSAGE = 1

NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT_CHECK = 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

MESSAGES_PER_SEND = 200
"""So many refusals fit any receive buffer."""
RECEIVE_BYTES = 1 << 16
"""The kernel fills at most half of it. Beyond 128 KiB each allocation is a mapping of its own, 20 µs for every datagram."""
TIMEOUT_SECONDS = 30
"""The kernel answers at once; a silence this long is a defect and is reported instead of a hang."""


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(payload) + 4
    return _ATTR.pack(length, kind) + payload + _PADDING[length & 3]


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NESTED, b"".join(children))


def text(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attr(kind, value.to_bytes(1, "little"))


def u16(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """In the machine's own byte order, as rtnetlink wants."""
    return attr(kind, struct.pack("=I", value))


def be16(kind: int, value: int) -> bytes:
    return attr(kind, value.to_bytes(2, "big"))


def be32(kind: int, value: int) -> bytes:
    """In network order, as nfnetlink wants; a negative value as two's complement."""
    return attr(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def be64(kind: int, value: int) -> bytes:
    return attr(kind, value.to_bytes(8, "big"))


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from ``offset`` on, by type without flags; of several of one type the last."""
    found: dict[int, bytes] = {}
    end = len(body)
    unpack = _ATTR.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(body, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute_list(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from ``offset`` on, in order, as (type without flags, payload)."""
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(body, offset)
        if length < 4:
            return
        yield kind & _TYPE_MASK, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def as_u32(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "little" if LITTLE_ENDIAN else "big")


def as_text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode(errors="replace")


LITTLE_ENDIAN = struct.pack("=H", 1) == b"\1\0"


class Request(NamedTuple):
    """One message for the kernel, and how to speak of it when it is refused."""

    kind: int
    flags: int
    body: bytes
    operation: str
    subject: str = ""


class Message(NamedTuple):
    """One message from the kernel; ``body`` is what follows its header, ``port`` the socket whose request caused it."""

    kind: int
    flags: int
    sequence: int
    body: bytes
    port: int = 0


def encode(request: Request, sequence: int, extra_flags: int = 0) -> bytes:
    """The message with its header."""
    body = request.body
    flags = request.flags | REQUEST | extra_flags
    return _HEADER.pack(16 + len(body), request.kind, flags, sequence, 0) + body + _PADDING[len(body) & 3]


def messages(buffer: bytes) -> Iterator[Message]:
    """Every message of one datagram."""
    offset, end = 0, len(buffer)
    while offset + 16 <= end:
        length, kind, flags, sequence, port = _HEADER.unpack_from(buffer, offset)
        if length < 16:
            return
        yield Message(kind, flags, sequence, buffer[offset + 16 : offset + length], port)
        offset += (length + 3) & ~3


class Refusal(NamedTuple):
    """An acknowledgement: ``errno`` 0 says done; else the kernel's own words where it has any."""

    errno: int
    detail: str


def refusal(message: Message) -> Refusal | None:
    """What an acknowledgement, or a dump's end, says; None for any other message."""
    if message.kind not in (_ERROR, _DONE):
        return None
    number = -struct.unpack_from("=i", message.body)[0] if len(message.body) >= 4 else 0
    detail = ""
    if message.flags & _ACK_TLVS:
        if message.kind == _DONE:
            offset = 4
        else:
            offset = 20
            if not message.flags & _CAPPED:
                offset += (
                    (int.from_bytes(message.body[4:8], "little" if LITTLE_ENDIAN else "big") - 16) + 3
                ) & ~3
        found = attributes(message.body, offset)
        if _EXT_ACK_MESSAGE in found:
            detail = as_text(found[_EXT_ACK_MESSAGE])
    return Refusal(number, detail)


class NetlinkSocket:
    """A netlink socket of the calling thread's network namespace. ``groups`` is a mask of multicast groups to hear.

    Counts what it sends: ``sent_messages`` without dumps is the number of writes to the kernel.
    Raises `KernelError`.
    """

    def __init__(self, protocol: int, *, groups: int = 0, receive_buffer: int = 8 << 20) -> None:
        self.sent_messages = 0
        self._sequence = 0
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC | (0 if not groups else socket.SOCK_NONBLOCK),
                protocol,
            )
            self._socket.bind((0, groups))
            for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            timeout = struct.pack("ll", TIMEOUT_SECONDS, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            self.grow_buffers(receive=receive_buffer)
        except OSError as error:
            raise KernelError(
                error.errno or errno.EIO, "open a netlink socket", f"of protocol {protocol}"
            ) from error

    def grow_buffers(self, *, send: int = 0, receive: int = 0) -> None:
        """Ask for larger buffers, beyond the system's limit where we may (CAP_NET_ADMIN)."""
        for forced, plain, size in (
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF, send),
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF, receive),
        ):
            if size:
                try:
                    self._socket.setsockopt(socket.SOL_SOCKET, forced, size)
                except PermissionError:
                    self._socket.setsockopt(socket.SOL_SOCKET, plain, size)

    @property
    def port(self) -> int:
        """This socket's address: the kernel tells listeners by it who caused a change."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def next_sequence(self, count: int = 1) -> int:
        """The first of ``count`` fresh sequence numbers."""
        first = self._sequence + 1
        self._sequence = (self._sequence + count) & 0x3FFFFFFF
        return first if first <= 0x3FFFFFFF else 1

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel. Raises `OSError`."""
        self._socket.send(data)

    def receive(self) -> list[Message]:
        """The messages of the next datagram. Raises `OSError`: ENOBUFS says that some were lost."""
        return list(messages(self._socket.recv(RECEIVE_BYTES)))

    def receive_waiting(self) -> list[Message]:
        """Every message that is there already; empty when there is none. Raises `OSError`, as `receive`."""
        found: list[Message] = []
        while True:
            try:
                found.extend(messages(self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)))
            except BlockingIOError:
                return found

    def request(self, request: Request) -> None:
        """Do one thing. Raises `KernelError`."""
        for error in self.batch((request,)).values():
            raise error

    def ask(self, request: Request) -> Message | None:
        """Ask for one object; None where there is none (ENODEV, ENOENT). Raises `KernelError`."""
        sequence = self.next_sequence()
        answer: Message | None = None
        try:
            self.send(encode(request, sequence, ACK))
            while True:
                for message in self.receive():
                    if message.sequence != sequence:
                        continue
                    end = refusal(message)
                    if end is None:
                        answer = message
                    elif end.errno in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
                        return None
                    elif end.errno:
                        raise KernelError(end.errno, request.operation, request.subject, end.detail)
                    else:
                        return answer
        except OSError as error:
            raise self._broken(error, request) from error

    def batch(self, requests: Sequence[Request]) -> Mapping[int, KernelError]:
        """Do many things in order, `MESSAGES_PER_SEND` at a time; one that fails does not stop the next. The kernel tells of
        what it refuses unasked, so only the last is to be acknowledged.

        Returns what failed, by position. Raises `KernelError` only when the socket itself fails.
        """
        failed: dict[int, KernelError] = {}
        todo = iter(enumerate(requests))
        while chunk := list(islice(todo, MESSAGES_PER_SEND)):
            first, last = self.next_sequence(len(chunk)), len(chunk) - 1
            data = [
                encode(request, first + place, ACK if place == last else 0)
                for place, (_, request) in enumerate(chunk)
            ]
            try:
                self.send(b"".join(data))
                self.sent_messages += len(chunk)
                ended = False
                while not ended:
                    for message in self.receive():
                        place = message.sequence - first
                        if not 0 <= place <= last or (end := refusal(message)) is None:
                            continue
                        ended = place == last
                        if end.errno:
                            index, request = chunk[place]
                            failed[index] = KernelError(
                                end.errno, request.operation, request.subject, end.detail
                            )
            except OSError as error:
                raise self._broken(error, chunk[0][1]) from error
        return failed

    def dump(self, request: Request) -> list[Message]:
        """Everything that the kernel has of a sort. A dump that was disturbed is begun anew. Raises `KernelError`."""
        found, disturbed = self._dump_once(request)
        for _ in range(10):
            if not disturbed:
                break
            found, disturbed = self._dump_once(request)
        return found

    def _dump_once(self, request: Request) -> tuple[list[Message], bool]:
        sequence = self.next_sequence()
        found: list[Message] = []
        disturbed = False
        try:
            self.send(encode(request, sequence, DUMP))
            while True:
                for message in self.receive():
                    if message.sequence != sequence:
                        continue
                    disturbed = disturbed or bool(message.flags & DUMP_INTERRUPTED)
                    end = refusal(message)
                    if end is None:
                        found.append(message)
                    elif end.errno:
                        raise KernelError(end.errno, request.operation, request.subject, end.detail)
                    else:
                        return found, disturbed
        except OSError as error:
            raise self._broken(error, request) from error

    @staticmethod
    def _broken(error: OSError, request: Request) -> KernelError:
        number = error.errno or errno.EIO
        if number in (errno.EAGAIN, errno.EWOULDBLOCK):
            number = errno.ETIMEDOUT
        return KernelError(number, request.operation, request.subject, "the netlink socket failed")
