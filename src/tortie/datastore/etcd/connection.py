"""Finding a member of the cluster that answers, saying who we are, and turning etcd's complaints into ours.

One member is used until it fails; then the next of the list is tried. A read is repeated on another member; a write is
repeated only when it certainly was not carried out. A member that was never reached, or failed, is first asked for its
status: a dead one costs that question, not the write.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from tortie.datastore.etcd.calls import Call, CallFailed, Channel, Metadata, Status
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.etcd.proto import rpc_pb2 as pb
from tortie.errors import AccessDenied, HistoryGone, NotFound, StoreError, StoreUnavailable, UsageError

ResponseT = TypeVar("ResponseT", bound=Message)

RETIRED_SECONDS = 30.0
TOKEN_REFUSALS = ("invalid auth token", "revision in header is old", "user name is empty")


class Method(NamedTuple):
    """A call of etcd's interface, and what it answers with."""

    path: str
    response: Any


RANGE = Method("/etcdserverpb.KV/Range", pb.RangeResponse)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnResponse)
WATCH = Method("/etcdserverpb.Watch/Watch", pb.WatchResponse)
LEASE_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse)
LEASE_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse)
LEASE_KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse)
AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse)
STATUS = Method("/etcdserverpb.Maintenance/Status", pb.StatusResponse)


@dataclass
class Life:
    """When a channel last brought anything, and when a watch last asked for a sign of life on it."""

    heard_at: float = float("-inf")
    asked_at: float = float("-inf")


class Member:
    """One endpoint and its channel. ``trusted`` until something goes wrong with it."""

    def __init__(self, endpoint: str, options: EtcdOptions) -> None:
        self.endpoint = endpoint
        self._options = options
        self._channel: Channel | None = None
        self._retired: list[tuple[float, Channel]] = []
        self.trusted = False
        self.life = Life()

    @property
    def channel(self) -> Channel:
        if self._channel is None:
            self._channel = Channel(self.endpoint, _tls(self._options) if self._options.secure else None)
        return self._channel

    def distrust(self, *, reconnect: bool) -> None:
        """It failed: ask before the next use. ``reconnect``: it is silent, so try a connection of its own next time;
        calls still under way on the old one end by their own time-outs."""
        self.trusted = False
        if reconnect and self._channel is not None:
            self._retired.append((time.monotonic(), self._channel))
            self._channel = None
            self.life = Life()

    def close_retired(self, *, older_than_seconds: float = 0.0) -> None:
        now = time.monotonic()
        while self._retired and now - self._retired[0][0] >= older_than_seconds:
            self._retired.pop(0)[1].close()

    def close(self) -> None:
        self.distrust(reconnect=True)
        self.close_retired()


def _tls(options: EtcdOptions) -> ssl.SSLContext:
    if bool(options.cert_file) != bool(options.key_file):
        raise UsageError("etcd: a client certificate needs both cert_file and key_file")
    for path in (options.ca_file, options.cert_file, options.key_file):
        try:
            if path:
                Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {path}, named for etcd's TLS: {error.strerror}") from error
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file)
    except ssl.SSLError as error:
        raise UsageError(f"the files named for etcd's TLS cannot be used: {error}") from error
    context.set_alpn_protocols(["h2"])
    return context


class Connection:
    """The cluster as one thing to call."""

    def __init__(self, options: EtcdOptions) -> None:
        self.options = options
        self._members = [Member(endpoint, options) for endpoint in options.endpoints]
        self._current = 0
        self._token = ""
        self._authenticating = asyncio.Lock()
        self.closed = False

    async def call(
        self, method: Method, request: Message, response: type[ResponseT], *, write: bool = False
    ) -> ResponseT:
        """Ask a member that answers. Raises the errors of `KeyValue`."""
        failure: StoreError = StoreUnavailable("no etcd endpoint is named")
        deadline = time.monotonic() + self.options.request_seconds
        refreshed = False
        tries = 0
        while tries <= len(self._members):
            member = await self.member()
            token = self._token
            tries += 1
            left = max(0.1, deadline - time.monotonic())
            # Leave a read time to be asked of another member.
            share = left if write or len(self._members) == 1 else max(left / 2, 0.1)
            try:
                answer = await self._unary(member, method, request, timeout_seconds=share)
                assert isinstance(answer, response)
                return answer
            except CallFailed as error:
                text = error.details
                if self.options.user and not refreshed and any(part in text for part in TOKEN_REFUSALS):
                    refreshed = True
                    tries -= 1
                    await self._authenticate(member, refused=token)
                    continue
                failure = self.translate(error, member)
                if not isinstance(failure, StoreUnavailable):
                    raise failure from None
                self.failed(member, silent=error.status is Status.DEADLINE_EXCEEDED)
                undone = not write or error.refused or "no leader" in text
                if not undone or time.monotonic() >= deadline:
                    break
        raise failure

    async def member(self) -> Member:
        """The member to use now: the present one, or the first that answers when asked for its status."""
        failure: StoreError | None = None
        for _ in self._members:
            if self.closed:
                raise self._closed_error()
            member = self._members[self._current]
            if member.trusted:
                return member
            member.close_retired(older_than_seconds=RETIRED_SECONDS)
            try:
                await self._unary(
                    member, STATUS, pb.StatusRequest(), timeout_seconds=self.options.probe_seconds
                )
                if self.options.user and not self._token:
                    await self._authenticate(member, refused="")
            except CallFailed as error:
                translated = self.translate(error, member)
                if not isinstance(translated, StoreUnavailable):
                    raise translated from None
                failure = failure or translated
                self.failed(member, silent=error.status is Status.DEADLINE_EXCEEDED)
            else:
                member.trusted = True
                return member
        raise failure or StoreUnavailable("no etcd endpoint is named")

    def failed(self, member: Member, *, silent: bool) -> None:
        """Use the next one from now on, unless someone has moved on already."""
        member.distrust(reconnect=silent)
        if self._members[self._current] is member:
            self._current = (self._current + 1) % len(self._members)

    def metadata(self) -> Metadata:
        """``hasleader`` makes a member that lost the others refuse at once instead of being silent."""
        token = (("token", self._token),) if self._token else ()
        return (("hasleader", "true"), *token)

    async def _unary(
        self, member: Member, method: Method, request: Message, *, timeout_seconds: float
    ) -> Any:
        # A member's status is asked without a leader and without a token: it tells whether anyone is there.
        metadata = () if method is STATUS else self.metadata()
        life = member.life
        answer = await member.channel.unary(
            method.path, request, method.response, metadata=metadata, timeout_seconds=timeout_seconds
        )
        life.heard_at = time.monotonic()
        return answer

    async def stream(self, member: Member, method: Method, request: Message) -> Call:
        """A call with a stream either way, and its first message. Raises `CallFailed`."""
        return await member.channel.stream(method.path, request, method.response, metadata=self.metadata())

    async def reauthenticate(self, member: Member, reason: str, refused: str) -> bool:
        """After a stream was refused for its token: True when it is worth another try."""
        if not self.options.user or not any(part in reason for part in TOKEN_REFUSALS):
            return False
        try:
            await self._authenticate(member, refused=refused)
        except CallFailed as error:
            raise self.translate(error, member) from None
        return True

    @property
    def token(self) -> str:
        return self._token

    async def _authenticate(self, member: Member, *, refused: str) -> None:
        async with self._authenticating:
            if self._token != refused:
                return  # another call was quicker
            self._token = ""
            request = pb.AuthenticateRequest(name=self.options.user, password=self.options.password)
            try:
                answer = await self._unary(
                    member, AUTHENTICATE, request, timeout_seconds=self.options.request_seconds
                )
            except CallFailed as error:
                if "authentication is not enabled" in error.details:
                    return
                raise
            self._token = answer.token

    def translate(self, error: CallFailed, member: Member) -> StoreError:
        if self.closed:
            return self._closed_error()
        return translate(error.status, error.details, member.endpoint, self.options.user)

    def _closed_error(self) -> StoreUnavailable:
        return StoreUnavailable("the connection to etcd is closed")

    def close(self) -> None:
        self.closed = True
        for member in self._members:
            member.close()


def translate(code: Status, text: str, endpoint: str, user: str) -> StoreError:
    """etcd's status and words as one of our errors."""
    text = text.removeprefix("etcdserver: ")
    if "compacted" in text or "future revision" in text:
        return HistoryGone(f"etcd: {text}")
    if "lease not found" in text:
        return NotFound("the lease")
    if "authentication failed" in text:
        return AccessDenied(f"etcd at {endpoint} does not accept the user {user!r} with this password")
    if "user name is empty" in text or "user name not found" in text:
        return AccessDenied(f"etcd at {endpoint} asks for a user and a password")
    if code in (Status.PERMISSION_DENIED, Status.UNAUTHENTICATED) or "permission denied" in text:
        return AccessDenied(f"etcd at {endpoint} refuses the user {user!r}: {text}")
    if code is Status.DEADLINE_EXCEEDED:
        return StoreUnavailable(f"etcd at {endpoint} did not answer in time")
    if code in (Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION):
        return StoreError(f"etcd at {endpoint} refuses the request: {text}")
    return StoreUnavailable(f"etcd at {endpoint}: {text or code.name.lower()}")


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """The first key under a prefix and the first after it, as etcd's ranges want them."""
    key = bytes_key(prefix)
    head = bytearray(key)
    while head:
        if head[-1] < 0xFF:
            head[-1] += 1
            return key, bytes(head)
        head.pop()
    return key or b"\0", b"\0"


def bytes_key(key: str) -> bytes:
    """A key as etcd stores it."""
    return key.encode("utf-8", "surrogateescape")


def text_key(key: bytes) -> str:
    """A key as text; bytes that are none (another program's key) come through unharmed."""
    return key.decode("utf-8", "surrogateescape")
