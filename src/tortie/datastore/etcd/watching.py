"""Following one prefix on one stream.

Two sorts of progress come from etcd, and only one is believed. What a watch hears of itself (``progress_notify``) is in
order with its events, and a watch may resume there. The answer to a progress request is not in order before etcd 3.4.25
and 3.5.8 (etcd issue 15220: it may overtake events): it proves that somebody is alive there, nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from tortie.datastore.etcd.connection import (
    RANGE,
    WATCH,
    Connection,
    Member,
    prefix_range,
    text_key,
    translate,
)
from tortie.datastore.etcd.proto import kv_pb2
from tortie.datastore.etcd.proto import rpc_pb2 as pb
from tortie.datastore.keyvalue import Event, Events
from tortie.errors import HistoryGone, StoreUnavailable

OWN_ASKING_FACTOR = 10
"""A watch that hears nothing itself, on a member that others hear, asks for itself so many times more seldom."""


class Stream:
    """One watch stream: `read` waits for a response, asks for a sign of life meanwhile, and gives up on silence.

    What one watch or request hears on a channel counts for all on it, so that many quiet watches cost one question.
    """

    def __init__(self, connection: Connection, member: Member) -> None:
        self._connection = connection
        self._member = member
        self.token = connection.token
        self._call = connection.stream(member, WATCH)
        self._life = member.life
        self._reading: asyncio.Future[Any] | None = None

    async def create(self, prefix: str, after: int) -> pb.WatchResponse:
        key, end = prefix_range(prefix)
        create = pb.WatchCreateRequest(
            key=key, range_end=end, start_revision=after + 1, progress_notify=True, fragment=True
        )
        await self._send(pb.WatchRequest(create_request=create))
        reading = self._begin_reading()
        await asyncio.wait((reading,), timeout=self._connection.options.request_seconds)
        if not reading.done():
            raise self._silent()
        return self._response(reading)

    async def read(self) -> pb.WatchResponse:
        """The next response, progress answers included. Raises `StoreUnavailable` when the stream ends or is silent."""
        silence = self._connection.options.silence_seconds
        interval = silence / 3
        life = self._life
        # Nobody listened until now: what was not heard meanwhile is no silence.
        began = time.monotonic()
        while True:
            reading = self._begin_reading()
            await asyncio.wait((reading,), timeout=interval)
            if reading.done():
                return self._response(reading)
            now = time.monotonic()
            own_quiet = now - began
            if (
                now - max(began, life.heard_at) >= silence
                or own_quiet >= OWN_ASKING_FACTOR * interval + silence
            ):
                raise self._silent()
            if (
                now - max(life.heard_at, life.asked_at) >= interval
                or own_quiet >= OWN_ASKING_FACTOR * interval
            ):
                life.asked_at = now
                await self._send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def _begin_reading(self) -> asyncio.Future[Any]:
        # Cancelling a read ends the whole call, so it outlives the waits for it.
        reading: asyncio.Future[Any] = self._reading or asyncio.ensure_future(self._call.read())
        self._reading = reading
        return reading

    def _silent(self) -> StoreUnavailable:
        self._connection.failed(self._member, silent=True)
        return StoreUnavailable(f"etcd at {self._member.endpoint} is silent")

    def _response(self, reading: asyncio.Future[Any]) -> pb.WatchResponse:
        self._reading = None
        if reading.cancelled():
            raise self._lost("the stream was closed")
        error = reading.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            self._connection.failed(self._member, silent=False)
            raise self._connection.translate(error, self._member) from None
        if error is not None:
            raise self._lost(str(error)) from error
        response = reading.result()
        if not isinstance(response, pb.WatchResponse):
            raise self._lost("the stream ended")
        self._life.heard_at = time.monotonic()
        return response

    def _lost(self, why: str) -> StoreUnavailable:
        if self._connection.closed:
            return StoreUnavailable("the connection to etcd is closed")
        self._connection.failed(self._member, silent=False)
        return StoreUnavailable(f"etcd at {self._member.endpoint}: {why}")

    async def _send(self, request: pb.WatchRequest) -> None:
        try:
            async with (
                self._connection.open_calls(),
                asyncio.timeout(self._connection.options.request_seconds),
            ):
                await self._call.write(request)
        except TimeoutError:
            self._connection.failed(self._member, silent=True)
            raise StoreUnavailable(f"etcd at {self._member.endpoint} takes nothing more") from None
        except grpc.aio.AioRpcError as error:
            self._connection.failed(self._member, silent=False)
            raise self._connection.translate(error, self._member) from None
        except asyncio.InvalidStateError:
            raise self._lost("the stream ended") from None

    async def close(self) -> None:
        self._call.cancel()
        if self._reading is not None:
            with contextlib.suppress(BaseException):
                await self._reading


@contextlib.asynccontextmanager
async def watch(connection: Connection, prefix: str, after: int) -> AsyncIterator[AsyncIterator[Events]]:
    """See `KeyValue.watch`."""
    stream, created = await _created(connection, prefix, after)
    try:
        if after > created.header.revision:
            await _check_not_future(connection, prefix, after)
        yield _events(stream, created.watch_id)
    finally:
        await stream.close()


async def _created(connection: Connection, prefix: str, after: int) -> tuple[Stream, pb.WatchResponse]:
    for attempt in range(2):
        member = await connection.member()
        stream = Stream(connection, member)
        try:
            response = await stream.create(prefix, after)
            if not response.canceled:
                return stream, response
            # A refused token comes as a watch that is made and cancelled in one.
            again = attempt == 0 and await connection.reauthenticate(
                member, response.cancel_reason, stream.token
            )
            if not again:
                raise _ended(response, member.endpoint, connection.options.user)
        except BaseException:
            await stream.close()
            raise
        await stream.close()
    raise StoreUnavailable("etcd refuses a fresh token")


async def _check_not_future(connection: Connection, prefix: str, after: int) -> None:
    """A member may lag behind the others; a revision beyond what the cluster as a whole has reached was never written."""
    key, end = prefix_range(prefix)
    latest = await connection.call(
        RANGE, pb.RangeRequest(key=key, range_end=end, count_only=True), pb.RangeResponse
    )
    if after > latest.header.revision:
        raise HistoryGone(f"revision {after} lies in the future: etcd is at {latest.header.revision}")


async def _events(stream: Stream, watch_id: int) -> AsyncIterator[Events]:
    changes: list[Event] = []
    while True:
        response = await stream.read()
        if response.watch_id != watch_id:
            continue
        if response.canceled:
            raise _ended(response, "", "")
        changes.extend(
            Event(
                text_key(event.kv.key),
                None if event.type == kv_pb2.Event.DELETE else event.kv.value,
                event.kv.mod_revision,
            )
            for event in response.events
        )
        if response.fragment:
            continue  # the rest of the transaction follows
        if changes:
            yield Events(tuple(changes), changes[-1].revision)
            changes = []
        elif not response.created:
            yield Events((), response.header.revision)


def _ended(response: pb.WatchResponse, endpoint: str, user: str) -> Exception:
    if response.compact_revision:
        return HistoryGone(f"etcd holds no history before revision {response.compact_revision}")
    reason = response.cancel_reason
    if not reason:
        return StoreUnavailable("etcd cancelled the watch")
    return translate(grpc.StatusCode.UNAVAILABLE, reason, endpoint, user)
