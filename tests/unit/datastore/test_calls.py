"""Our gRPC against another's: a server of grpc's own C core, and one that sends what no decent server does."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tortie.datastore.etcd.calls import CallFailed, Channel, Status
from tortie.datastore.etcd.proto import rpc_pb2 as pb

SECONDS = 30.0
Handler = Callable[[Any, Any], Any]


def request(size: int = 3) -> pb.RangeRequest:
    return pb.RangeRequest(key=b"k" * size)


@contextlib.asynccontextmanager
async def served(
    *, unary: Handler | None = None, stream: Handler | None = None, options: tuple[tuple[str, int], ...] = ()
) -> AsyncIterator[tuple[Channel, grpc.aio.Server]]:
    handlers: dict[str, Any] = {}
    kinds: dict[str, Any] = {
        "request_deserializer": pb.RangeRequest.FromString,
        "response_serializer": pb.RangeRequest.SerializeToString,
    }
    if unary is not None:
        handlers["Unary"] = grpc.unary_unary_rpc_method_handler(unary, **kinds)
    if stream is not None:
        handlers["Stream"] = grpc.stream_stream_rpc_method_handler(stream, **kinds)
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1), *options))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = Channel(f"127.0.0.1:{port}", None)
    try:
        yield channel, server
    finally:
        channel.close()
        await server.stop(None)


async def ask(channel: Channel, size: int = 3, seconds: float = SECONDS) -> bytes:
    answer: pb.RangeRequest = await channel.unary(
        "/t/Unary", request(size), pb.RangeRequest, metadata=(("token", "x" * 700),), timeout_seconds=seconds
    )
    return answer.key


async def same(asked: Any, _: Any) -> Any:
    return asked


async def insist(channel: Channel, size: int) -> bytes:
    """This server may count a call that it has answered already: it is refused, and certainly had no effect."""
    while True:
        try:
            return await ask(channel, size)
        except CallFailed as failed:
            if not failed.refused:
                raise


@pytest.mark.parametrize("size", [0, 1, 16_000, 16_384, 65_536, 6_000_000])
async def test_an_answer(size: int) -> None:
    async with served(unary=same) as (channel, _):
        assert await ask(channel, size) == b"k" * size
        assert await ask(channel, 5) == b"kkkkk"


async def test_many_at_once_and_no_more_than_the_server_takes() -> None:
    async with served(unary=same, options=(("grpc.max_concurrent_streams", 3),)) as (channel, _):
        answers = await asyncio.gather(*(insist(channel, size) for size in range(200)))
        assert [len(each) for each in answers] == list(range(200))


async def test_a_refusal_with_its_words() -> None:
    async def refuse(_: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no: 100 % ä\n")

    async with served(unary=refuse) as (channel, _):
        with pytest.raises(CallFailed) as failed:
            await ask(channel)
        assert (failed.value.status, failed.value.details) == (Status.PERMISSION_DENIED, "no: 100 % ä\n")
        with pytest.raises(CallFailed) as failed:
            await channel.unary("/t/No", request(), pb.RangeRequest, metadata=(), timeout_seconds=SECONDS)
        assert failed.value.status is Status.UNIMPLEMENTED


async def test_too_late_and_called_off() -> None:
    stopped = asyncio.Queue[None]()
    begun = asyncio.Event()

    async def never(_: Any, __: Any) -> Any:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.put_nowait(None)
            raise

    async with served(unary=never) as (channel, _), asyncio.timeout(SECONDS):
        with pytest.raises(CallFailed) as failed:
            await ask(channel, seconds=0.5)
        assert failed.value.status is Status.DEADLINE_EXCEEDED
        await begun.wait()
        await stopped.get()  # the server was told
        begun.clear()
        task = asyncio.ensure_future(ask(channel))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stopped.get()


async def test_a_stream_either_way() -> None:
    async def echo(asked: AsyncIterator[Any], _: Any) -> AsyncIterator[Any]:
        async for each in asked:
            for __ in range(3):
                yield each

    async with served(stream=echo) as (channel, _), asyncio.timeout(SECONDS):
        call = await channel.stream("/t/Stream", request(1), pb.RangeRequest, metadata=())
        for size in (1, 100_000, 3_000_000):
            if size > 1:
                call.write(request(size))
            assert [len((await call.read()).key) for _ in range(3)] == [size] * 3
        call.cancel()


async def test_a_reader_that_waits_holds_the_server_up() -> None:
    sent = 0

    async def flood(_: AsyncIterator[Any], __: Any) -> AsyncIterator[Any]:
        nonlocal sent
        while sent < 100:
            yield request(200_000)
            sent += 1

    async with served(stream=flood) as (channel, _), asyncio.timeout(SECONDS):
        call = await channel.stream("/t/Stream", request(), pb.RangeRequest, metadata=())
        await call.read()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 100
        for _ in range(99):
            assert len((await call.read()).key) == 200_000
        assert await call.read() is None


async def test_a_server_that_goes_and_comes_back() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(asked: Any, _: Any) -> Any:
        begun.set()
        await go_on.wait()
        return asked

    async with served(unary=slow) as (channel, server), asyncio.timeout(SECONDS):
        under_way = asyncio.ensure_future(ask(channel, 7))
        await begun.wait()
        stopping = asyncio.ensure_future(server.stop(SECONDS))
        await asyncio.sleep(0)
        go_on.set()
        assert len(await under_way) == 7  # what the server took it ends
        await stopping
        with pytest.raises(CallFailed) as failed:
            await ask(channel)
        assert failed.value.status is Status.UNAVAILABLE


async def test_closed_in_the_midst() -> None:
    begun = asyncio.Event()

    async def never(_: Any, __: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    async with served(unary=never) as (channel, _), asyncio.timeout(SECONDS):
        task = asyncio.ensure_future(ask(channel))
        await begun.wait()
        channel.close()
        with pytest.raises(CallFailed):
            await task
        with pytest.raises(CallFailed):
            await ask(channel)


async def test_nobody_there(tmp_path: Path) -> None:
    for endpoint in (f"unix:{tmp_path}/none", "127.0.0.1:1", "[::1]:1"):
        with pytest.raises(CallFailed) as failed:
            await ask(Channel(endpoint, None))
        assert failed.value.status is Status.UNAVAILABLE


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, number) + payload


GREETING = frame(4, 0, 0, b"")


@contextlib.asynccontextmanager
async def saying(tmp_path: Path, *parts: bytes, first: bytes = GREETING) -> AsyncIterator[Channel]:
    """A server that greets, says these parts once a request has come, whatever it is, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await reader.readuntil(b"kkk")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "socket")
    channel = Channel(f"unix:{tmp_path}/socket", None)
    try:
        yield channel
    finally:
        channel.close()
        server.close()


ANSWER = frame(0, 0, 1, b"\0\0\0\0\x05\x0a\x03abc")
TRAILERS = frame(1, 0x5, 1, b"\0\x0bgrpc-status\x010")
PING = frame(6, 0, 0, b"12345678")


@pytest.mark.parametrize(
    "parts",
    [
        (frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88") + ANSWER + TRAILERS,),
        tuple(bytes((byte,)) for byte in frame(1, 4, 1, b"\x88") + PING + ANSWER + TRAILERS),
        (frame(0, 0, 1, b"\0\0\0\0\x05"), frame(0, 0x8, 1, b"\x02\x0a\x03abc.."), TRAILERS),
        (ANSWER, frame(1, 0x1, 1, b"\0\x0bgrpc-st"), frame(9, 0x4, 1, b"atus\x010")),
        (ANSWER, frame(1, 0x5 | 0x8 | 0x20, 1, b"\x01\0\0\0\0\0\0\x0bgrpc-status\x010-")),
        (frame(77, 0xFF, 1, b"unknown kinds are for others"), frame(2, 0, 1, b"12345"), ANSWER, TRAILERS),
    ],
    ids=["plain", "byte by byte", "padded", "continued", "padded headers", "unknown frames"],
)
async def test_how_an_answer_may_come(parts: tuple[bytes, ...], tmp_path: Path) -> None:
    async with saying(tmp_path, *parts) as channel:
        assert await ask(channel) == b"abc"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((), Status.UNAVAILABLE),
        ((frame(1, 5, 1, b"\x8e"),), Status.UNAVAILABLE),
        ((frame(3, 0, 1, b"\0\0\0\x07"),), Status.UNAVAILABLE),
        ((frame(7, 0, 0, b"\0\0\0\0\0\0\0\0"),), Status.UNAVAILABLE),
        ((frame(7, 0, 0, b"\0"),), Status.UNAVAILABLE),
        ((frame(1, 5, 1, b"\xbe"),), Status.UNAVAILABLE),
        ((ANSWER,), Status.UNAVAILABLE),
        ((TRAILERS,), Status.INTERNAL),
        ((ANSWER + ANSWER + TRAILERS,), Status.INTERNAL),
        ((frame(0, 0, 1, b"\x01\0\0\0\x01x") + TRAILERS,), Status.INTERNAL),
        ((frame(0, 0, 1, b"\0\0\0\0\x01x") + TRAILERS,), Status.INTERNAL),
        ((frame(1, 5, 1, b"\0\x0bgrpc-status\x0299"),), Status.UNKNOWN),
    ],
)
async def test_what_is_no_answer(parts: tuple[bytes, ...], status: Status, tmp_path: Path) -> None:
    async with saying(tmp_path, *parts) as channel:
        with pytest.raises(CallFailed) as failed:
            await ask(channel)
        assert failed.value.status is status


async def test_who_is_no_etcd(tmp_path: Path) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(refuse, tmp_path / "socket"):
        with pytest.raises(CallFailed) as failed:
            await ask(Channel(f"unix:{tmp_path}/socket", None))
    assert (failed.value.status, failed.value.refused) == (Status.UNAVAILABLE, True)


@pytest.mark.parametrize(
    ("part", "refused"),
    [
        (frame(3, 0, 1, b"\0\0\0\x07"), True),  # REFUSED_STREAM
        (frame(3, 0, 1, b"\0\0\0\x02"), False),
        (frame(7, 0, 0, b"\0\0\0\0\0\0\0\0"), True),  # it goes, and has not looked at ours
        (frame(7, 0, 0, b"\0\0\0\x01\0\0\0\0"), False),
        (b"", False),
    ],
)
async def test_what_certainly_had_no_effect(part: bytes, refused: bool, tmp_path: Path) -> None:
    async with saying(tmp_path, part) as channel:
        with pytest.raises(CallFailed) as failed:
            await ask(channel)
    assert failed.value.refused is refused
