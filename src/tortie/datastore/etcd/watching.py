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

from tortie.datastore.etcd.calls import Call, CallFailed, Status
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
from tortie.errors import HistoryGone, StoreError, StoreUnavailable

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
        self._call: Call | None = None
        self._life = member.life

    async def create(self, prefix: str, after: int) -> pb.WatchResponse:
        key, end = prefix_range(prefix)
        create = pb.WatchCreateRequest(
            key=key, range_end=end, start_revision=after + 1, progress_notify=True, fragment=True
        )
        request = pb.WatchRequest(create_request=create)
        try:
            async with asyncio.timeout(self._connection.options.request_seconds):
                self._call = await self._connection.stream(self._member, WATCH, request)
                return await self._next(self._call)
        except TimeoutError:
            raise self._silent() from None
        except CallFailed as error:
            raise self._failed(error) from None

    async def read(self) -> pb.WatchResponse:
        """The next response, progress answers included. Raises `StoreUnavailable` when the stream ends or is silent."""
        assert self._call is not None
        silence = self._connection.options.silence_seconds
        interval = silence / 3
        life = self._life
        # Nobody listened until now: what was not heard meanwhile is no silence.
        began = time.monotonic()
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(interval):
                        return await self._next(self._call)
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
                    self._call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
        except CallFailed as error:
            raise self._failed(error) from None

    async def _next(self, call: Call) -> pb.WatchResponse:
        response = await call.read()
        if not isinstance(response, pb.WatchResponse):
            raise CallFailed(Status.UNAVAILABLE, "the stream ended")
        self._life.heard_at = time.monotonic()
        return response

    def _silent(self) -> StoreUnavailable:
        self._connection.failed(self._member, silent=True)
        return StoreUnavailable(f"etcd at {self._member.endpoint} is silent")

    def _failed(self, error: CallFailed) -> StoreError:
        self._connection.failed(self._member, silent=False)
        return self._connection.translate(error, self._member)

    def close(self) -> None:
        if self._call is not None:
            self._call.cancel()


@contextlib.asynccontextmanager
async def watch(connection: Connection, prefix: str, after: int) -> AsyncIterator[AsyncIterator[Events]]:
    """See `KeyValue.watch`."""
    stream, created = await _created(connection, prefix, after)
    try:
        if after > created.header.revision:
            await _check_not_future(connection, prefix, after)
        yield _events(stream, created.watch_id)
    finally:
        stream.close()


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
            stream.close()
            raise
        stream.close()
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
    return translate(Status.UNAVAILABLE, reason, endpoint, user)
