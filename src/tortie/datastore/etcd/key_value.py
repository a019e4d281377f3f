"""`KeyValue` over an etcd cluster."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

from tortie.datastore.etcd import watching
from tortie.datastore.etcd.calls import CallFailed
from tortie.datastore.etcd.connection import (
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_REVOKE,
    RANGE,
    TXN,
    Connection,
    bytes_key,
    prefix_range,
    text_key,
)
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.etcd.proto import rpc_pb2 as pb
from tortie.datastore.keyvalue import Entry, Events, Page
from tortie.errors import Conflict, NotFound, StoreUnavailable


class EtcdKeyValue:
    """Connects at the first call. Belongs to the event loop that makes that call."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._made: Connection | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"EtcdKeyValue({','.join(self._options.endpoints)!r})"

    @property
    def _connection(self) -> Connection:
        if self._closed:
            raise StoreUnavailable("the connection to etcd is closed")
        if self._made is None:
            self._made = Connection(self._options)
        return self._made

    async def get(self, key: str) -> Entry:
        answer = await self._connection.call(RANGE, pb.RangeRequest(key=bytes_key(key)), pb.RangeResponse)
        if not answer.kvs:
            raise NotFound(key)
        return Entry(key, answer.kvs[0].value, answer.kvs[0].mod_revision)

    async def scan(self, prefix: str, *, page_size: int = 500) -> AsyncIterator[Page]:
        """Pages after the first are read at its revision. Raises `HistoryGone` when that was compacted meanwhile."""
        key, end = prefix_range(prefix)
        revision = 0
        while True:
            request = pb.RangeRequest(key=key, range_end=end, limit=page_size, revision=revision)
            answer = await self._connection.call(RANGE, request, pb.RangeResponse)
            revision = revision or answer.header.revision
            yield Page(
                tuple(Entry(text_key(kv.key), kv.value, kv.mod_revision) for kv in answer.kvs), revision
            )
            if not answer.more:
                return
            key = answer.kvs[-1].key + b"\0"

    async def commit(
        self,
        *,
        expect: Mapping[str, int],
        put: Mapping[str, bytes],
        gone: frozenset[str] = frozenset(),
        lease: int | None = None,
    ) -> int:
        request = pb.TxnRequest(
            compare=[
                pb.Compare(
                    key=bytes_key(key),
                    target=pb.Compare.MOD,
                    result=pb.Compare.EQUAL,
                    mod_revision=revision,
                )
                for key, revision in expect.items()
            ],
            success=[
                *(
                    pb.RequestOp(request_put=pb.PutRequest(key=bytes_key(key), value=value, lease=lease or 0))
                    for key, value in put.items()
                ),
                *(
                    pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=bytes_key(key)))
                    for key in sorted(gone - put.keys())
                ),
            ],
            # Read in the same instant, so that the conflict can be named.
            failure=[
                pb.RequestOp(request_range=pb.RangeRequest(key=bytes_key(key), keys_only=True))
                for key in expect
            ],
        )
        try:
            answer = await self._connection.call(TXN, request, pb.TxnResponse, write=True)
        except NotFound as error:
            raise NotFound(f"lease {lease}") from error
        if answer.succeeded:
            return answer.header.revision
        for (key, revision), found in zip(expect.items(), answer.responses, strict=True):
            kvs = found.response_range.kvs
            if (kvs[0].mod_revision if kvs else 0) != revision:
                raise Conflict(key)
        raise Conflict(next(iter(expect)))

    def watch(self, prefix: str, *, after: int) -> AbstractAsyncContextManager[AsyncIterator[Events]]:
        return watching.watch(self._connection, prefix, after)

    async def grant(self, ttl_seconds: float) -> int:
        """etcd counts whole seconds, upwards, and has a least one of its own."""
        request = pb.LeaseGrantRequest(TTL=math.ceil(ttl_seconds))
        return (await self._connection.call(LEASE_GRANT, request, pb.LeaseGrantResponse, write=True)).ID

    async def keep_alive(self, lease: int) -> None:
        connection = self._connection
        member = await connection.member()
        request = pb.LeaseKeepAliveRequest(ID=lease)
        try:
            async with asyncio.timeout(self._options.request_seconds):
                call = await connection.stream(member, LEASE_KEEP_ALIVE, request)
                try:
                    answer = await call.read()
                finally:
                    call.cancel()
        except TimeoutError:
            connection.failed(member, silent=True)
            raise StoreUnavailable(f"etcd at {member.endpoint} did not answer in time") from None
        except CallFailed as error:
            connection.failed(member, silent=False)
            raise connection.translate(error, member) from None
        if not isinstance(answer, pb.LeaseKeepAliveResponse):
            raise StoreUnavailable(f"etcd at {member.endpoint}: the stream ended")
        if answer.TTL <= 0:
            raise NotFound(f"lease {lease}")

    async def revoke(self, lease: int) -> None:
        try:
            await self._connection.call(
                LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease), pb.LeaseRevokeResponse, write=True
            )
        except NotFound:
            return

    async def close(self) -> None:
        self._closed = True
        made, self._made = self._made, None
        if made is not None:
            made.close()
