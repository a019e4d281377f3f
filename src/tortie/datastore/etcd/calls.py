"""gRPC over `http2`: a channel to one endpoint, calls with one answer, and calls with a stream either way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from google.protobuf.message import DecodeError, Message

from tortie.datastore.etcd import header_blocks
from tortie.datastore.etcd.http2 import Http2, Lost, Stream

CONNECT_SECONDS = 5.0

Metadata = tuple[tuple[str, str], ...]


class Status(IntEnum):
    """What a call can come to."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallFailed(Exception):
    """A call that brought no answer. ``refused``: it certainly had no effect."""

    def __init__(self, status: Status, details: str, *, refused: bool = False) -> None:
        super().__init__(status, details)
        self.status = status
        self.details = details
        self.refused = refused


class Channel:
    """Connects when a call is made and there is no connection; whoever comes meanwhile waits for the same one."""

    def __init__(self, endpoint: str, tls: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._http2: Http2 | None = None
        self._before: list[Http2] = []
        """Earlier connections, which take no new calls."""
        self._connecting = asyncio.Lock()
        self._closed = False

    async def unary(
        self, path: str, request: Message, response: Any, *, metadata: Metadata, timeout_seconds: float
    ) -> Any:
        """One request, one answer. Raises `CallFailed`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                call = await self.stream(path, request, response, metadata=metadata, last=True)
                try:
                    answer = await call.read()
                    if answer is not None and await call.read() is None:
                        return answer
                finally:
                    call.cancel()
        except TimeoutError:
            raise CallFailed(Status.DEADLINE_EXCEEDED, "no answer in time") from None
        raise CallFailed(Status.INTERNAL, "the answer is not one message")

    async def stream(
        self, path: str, request: Message, response: Any, *, metadata: Metadata, last: bool = False
    ) -> Call:
        """A call with a stream either way, and its first message. Raises `CallFailed`."""
        http2 = await self._connected()
        headers = _headers(path, self._endpoint, self._tls is not None, metadata)
        call = Call(response)
        try:
            call.stream = await http2.begin(headers, _message(request), call.changed, last=last)
        except Lost as lost:
            raise CallFailed(Status.UNAVAILABLE, str(lost), refused=True) from None
        return call

    async def _connected(self) -> Http2:
        if self._http2 is not None and self._http2.usable:
            return self._http2
        async with self._connecting:
            if self._closed:
                raise CallFailed(Status.CANCELLED, "the channel is closed")
            if self._http2 is None or not self._http2.usable:
                self._before = [each for each in self._before if not each.over]
                if self._http2 is not None:
                    self._before.append(self._http2)
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        self._http2 = await self._connect()
                        await self._http2.greeted
                except (OSError, TimeoutError, Lost) as error:
                    raise CallFailed(Status.UNAVAILABLE, _why(error), refused=True) from None
            return self._http2

    async def _connect(self) -> Http2:
        loop = asyncio.get_running_loop()
        if self._endpoint.startswith("unix:"):
            path = self._endpoint.removeprefix("unix:")
            name = None if self._tls is None else "localhost"
            return (await loop.create_unix_connection(Http2, path, ssl=self._tls, server_hostname=name))[1]
        host, _, port = self._endpoint.rpartition(":")
        made = await loop.create_connection(
            Http2, host.strip("[]"), int(port), ssl=self._tls, happy_eyeballs_delay=0.25
        )
        return made[1]

    def close(self) -> None:
        """Calls under way fail."""
        self._closed = True
        for each in (self._http2, *self._before):
            if each is not None:
                each.close("the channel is closed")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "cannot be reached"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


class Call:
    """Messages either way. Belongs to one reader."""

    stream: Stream

    def __init__(self, response: Any) -> None:
        self._parse: Callable[[bytes], Any] = response.FromString
        self._waiting: asyncio.Future[None] | None = None

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def write(self, request: Message) -> None:
        """Send another message. Raises `CallFailed`."""
        if self.stream.lost is not None or self.stream.ended:
            raise self._failure()
        self.stream.send(_message(request))

    async def read(self) -> Any:
        """The next message, or None after the last. Raises `CallFailed`."""
        stream = self.stream
        data = stream.data
        while True:
            if len(data) >= 5 and len(data) >= (size := 5 + int.from_bytes(data[1:5], "big")):
                if data[0]:
                    raise CallFailed(Status.INTERNAL, "a message is compressed, which was not asked for")
                body = bytes(data[5:size])
                del data[:size]
                try:
                    return self._parse(body)
                except DecodeError as error:
                    raise CallFailed(Status.INTERNAL, f"a message cannot be read: {error}") from None
            if stream.ended and stream.headers.get("grpc-status") == "0" and not data:
                return None
            if stream.ended or stream.lost is not None:
                raise self._failure()
            stream.more()
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            await waiting

    def _failure(self) -> CallFailed:
        stream = self.stream
        if stream.lost is not None:
            return CallFailed(Status.UNAVAILABLE, str(stream.lost), refused=stream.lost.refused)
        status = stream.headers.get("grpc-status")
        if status is None or not status.isdecimal():
            return CallFailed(Status.UNAVAILABLE, f"HTTP status {stream.headers.get(':status')}, no gRPC")
        number = int(status)
        known = number in Status.__members__.values()
        text = unquote(stream.headers.get("grpc-message", ""))
        return CallFailed(Status(number) if known else Status.UNKNOWN, text or "the stream ended")

    def cancel(self) -> None:
        """Nothing more is wanted of it. No harm after its end."""
        self.stream.cancel()


def _message(request: Message) -> bytes:
    body = request.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


@lru_cache(maxsize=64)
def _headers(path: str, authority: str, secure: bool, metadata: Metadata) -> bytes:
    return header_blocks.written(
        (
            (":method", "POST"),
            (":scheme", "https" if secure else "http"),
            (":path", path),
            (":authority", "localhost" if authority.startswith("unix:") else authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "tortie"),
            *metadata,
        )
    )
