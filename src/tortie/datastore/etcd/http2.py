"""HTTP/2 (RFC 9113) as a gRPC client needs it: one connection, streams that carry headers and bytes either way.

Everything runs in the event loop, without a thread: a request is one write to the socket, an answer one read.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

from tortie.datastore.etcd import header_blocks

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MOST_STREAMS, INITIAL_WINDOW, LARGEST_FRAME = range(1, 6)
NO_ERROR, CANCEL = 0x0, 0x8

WINDOW = 4 << 20
"""What a stream may send us before somebody reads it."""
CONNECTION_WINDOW = (1 << 31) - 1
"""The same of all streams together: as much as there can be, since each stream has bounds of its own."""
CREDIT = 1 << 20
ECHO_SECONDS = 0.02
"""etcd asks for an echo with nearly every request, to learn how much the way there takes, but not before it has the last one:
this spares both of us most of them."""
FIRST_WINDOW = 65535
LAST_STREAM = (1 << 31) - 1

_HEAD = struct.Struct(">IBI")  # the first four bytes: the length (24 bits) and the type
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")


class Lost(Exception):
    """The connection, or the stream, is no more. ``refused``: the other side says that it did nothing of it."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


class Stream:
    """One request and its answer. ``on_change`` is called whenever something came."""

    def __init__(self, connection: Http2, number: int, on_change: Callable[[], None]) -> None:
        self.number = number
        self.on_change = on_change
        self.headers: dict[str, str] = {}
        self.data = bytearray()
        self.ended = False
        self.lost: Lost | None = None
        self.window = connection.first_window
        self.unsent: deque[tuple[memoryview, bool]] = deque()
        self.received = 0
        """Bytes for which no room was given back yet."""
        self._connection = connection

    def send(self, data: bytes) -> None:
        """Send it, as far as the other side takes it; the rest follows."""
        self.unsent.append((memoryview(data), False))
        self._connection.pump(self)

    def more(self) -> None:
        """Somebody waits for more: let it come. While nobody does, the other side stops after `WINDOW` bytes."""
        if self.received >= WINDOW // 2:
            self._connection.credit(self.number, self.received)
            self.received = 0

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._connection.drop(self)


class Http2(asyncio.Protocol):
    """The client's side of one connection."""

    def __init__(self) -> None:
        self.first_window = FIRST_WINDOW
        self.usable = True
        """Whether a new stream may be begun."""
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the other side has said how much it takes. Raises `Lost`."""
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._most_streams = LAST_STREAM
        self._largest = 16384
        self._window: int = FIRST_WINDOW
        self._received = 0
        self._buffer = bytearray()
        self._block = bytearray()
        self._block_flags = 0
        self._free: deque[asyncio.Future[None]] = deque()

    @property
    def over(self) -> bool:
        """Whether it is closed."""
        return not self.usable and self._transport is None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        ours = b"".join(
            _SETTING.pack(name, value)
            for name, value in ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW, WINDOW))
        )
        more = _NUMBER.pack(CONNECTION_WINDOW - FIRST_WINDOW)
        self._transport.write(PREFACE + _frame(SETTINGS, 0, 0, ours) + _frame(WINDOW_UPDATE, 0, 0, more))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._transport = None
        self._end(Lost(str(exc) if exc is not None else "the connection was closed"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 9:
                first, flags, number = _HEAD.unpack_from(buffer, at)
                end = at + 9 + (first >> 8)
                if len(buffer) < end:
                    break
                self._take(first & 0xFF, flags, number & LAST_STREAM, bytes(buffer[at + 9 : end]))
                at = end
        except (header_blocks.Unreadable, struct.error, IndexError) as error:
            self.close(f"what the other side sends is no HTTP/2: {error}")
        del buffer[:at]

    # The caller's side.

    async def begin(
        self, headers: bytes, data: bytes, on_change: Callable[[], None], *, last: bool = False
    ) -> Stream:
        """A new stream: its headers and first data are one write. Waits while there are too many. Raises `Lost`."""
        while len(self._streams) >= self._most_streams and self.usable:
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._free.append(free)
            await free
        if not self.usable or self._transport is None:
            raise Lost("the connection was closed", refused=True)
        number = self._next
        self._next += 2
        if self._next > LAST_STREAM:
            self.usable = False
        stream = self._streams[number] = Stream(self, number, on_change)
        stream.unsent.append((memoryview(data), last))
        self.pump(stream, _frame(HEADERS, END_HEADERS, number, headers))
        return stream

    def pump(self, stream: Stream, *before: bytes) -> None:
        """Send of a stream's data what fits into its window and the connection's, after the frames ``before``."""
        if self._transport is None or stream.lost is not None:
            return
        frames: list[bytes | memoryview] = list(before)
        while stream.unsent:
            data, last = stream.unsent[0]
            size = max(0, min(len(data), self._largest, stream.window, self._window))
            if size == 0 and data:
                break
            if size < len(data):
                stream.unsent[0] = (data[size:], last)
                last = False
            else:
                stream.unsent.popleft()
            stream.window -= size
            self._window -= size
            frames.append(_HEAD.pack(size << 8 | DATA, END_STREAM if last else 0, stream.number))
            frames.append(data[:size])
        if frames:
            self._send(b"".join(frames))

    def _send(self, frames: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frames)

    def credit(self, number: int, size: int) -> None:
        self._send(_frame(WINDOW_UPDATE, 0, number, _NUMBER.pack(size)))

    def drop(self, stream: Stream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            self._send(_frame(RST_STREAM, 0, stream.number, _NUMBER.pack(CANCEL)))
            self._freed()

    def close(self, why: str) -> None:
        self.usable = False
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._end(Lost(why))

    # What comes.

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == DATA:
            self._take_data(flags, number, payload)
        elif kind == HEADERS:
            body = _unpadded(flags, payload)
            self._block = bytearray(body[5:] if flags & HAS_PRIORITY else body)
            self._block_flags = flags & END_STREAM
            if flags & END_HEADERS:
                self._take_headers(number)
        elif kind == CONTINUATION:
            self._block += payload
            if flags & END_HEADERS:
                self._take_headers(number)
        elif kind == WINDOW_UPDATE:
            self._widen(number, _number(payload) & LAST_STREAM)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._take_settings(payload)
        elif kind == PING:
            if not flags & ACK:
                echo = _frame(PING, ACK, 0, payload)
                asyncio.get_running_loop().call_later(ECHO_SECONDS, self._send, echo)
        elif kind == RST_STREAM:
            self._reset(number, _number(payload))
        elif kind == GOAWAY:
            self.usable = False
            last = _number(payload) & LAST_STREAM
            for stream in [each for each in self._streams.values() if each.number > last]:
                self._lose(stream, Lost("the other side goes away", refused=True))

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= CREDIT:
            self.credit(0, self._received)
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.data += _unpadded(flags, payload)
        stream.received += len(payload)
        self._changed(stream, flags)

    def _take_headers(self, number: int) -> None:
        headers = header_blocks.read(bytes(self._block))
        stream = self._streams.get(number)
        if stream is not None:
            stream.headers.update(headers)
            self._changed(stream, self._block_flags)

    def _changed(self, stream: Stream, flags: int) -> None:
        if flags & END_STREAM:
            stream.ended = True
            del self._streams[stream.number]
            self._freed()
        stream.on_change()

    def _take_settings(self, payload: bytes) -> None:
        for name, value in _SETTING.iter_unpack(payload):
            if name == INITIAL_WINDOW:
                for stream in self._streams.values():
                    stream.window += value - self.first_window
                self.first_window = value
            elif name == LARGEST_FRAME:
                self._largest = value
            elif name == MOST_STREAMS:
                self._most_streams = value
        self._send(_frame(SETTINGS, ACK, 0, b""))
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._freed()
        self._widen(0, 0)

    def _widen(self, number: int, size: int) -> None:
        if number == 0:
            self._window += size
            waiting = [each for each in self._streams.values() if each.unsent]
        else:
            waiting = [each for each in (self._streams.get(number),) if each is not None]
            for stream in waiting:
                stream.window += size
        for stream in waiting:
            self.pump(stream)

    def _reset(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            # 7: REFUSED_STREAM
            self._lose(stream, Lost(f"the stream was reset (HTTP/2 error {code})", refused=code == 7))

    def _lose(self, stream: Stream, lost: Lost) -> None:
        self._streams.pop(stream.number, None)
        self._freed()
        stream.lost = lost
        stream.on_change()

    def _freed(self) -> None:
        """There may be room for another stream; a connection that takes no more ends with its last."""
        while self._free:
            free = self._free.popleft()
            if not free.done():
                free.set_result(None)
        if not self.usable and not self._streams and self._transport is not None:
            self._transport.close()

    def _end(self, lost: Lost) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(lost)
            self.greeted.exception()  # whoever made the connection may have gone
        for stream in list(self._streams.values()):
            self._lose(stream, lost)
        self._freed()


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, number) + payload


def _number(payload: bytes) -> int:
    (number,) = _NUMBER.unpack_from(payload)
    return int(number)


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
