"""The agent's end of the CNI shim: a root-only Unix socket, and one conversation a request.

A request that has been read whole runs to its end, whether or not the shim still listens: a runtime that gives up kills
the shim, and what it calls next, DEL as a rule, finds either all of an ADD or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, Protocol

from tortie.aio.tasks import Group
from tortie.cni import frames
from tortie.cni.config import NetConf
from tortie.cni.errors import CNIError, Code, code_of, render
from tortie.cni.frames import DelegateEnd
from tortie.cni.request import Request, parse_request
from tortie.cni.result import Result
from tortie.cni.result import render as render_result
from tortie.cni.versions import INSTALLED
from tortie.errors import TortieError, UsageError
from tortie.observe import log

_log = log.get("cni")

MAX_CONVERSATIONS = 512
MAX_REQUESTS_AT_ONCE = 64
READ_SECONDS = 10.0
"""A shim has everything ready when it connects; what comes slower is no shim."""
DELEGATE_SECONDS = 60.0
WRITE_SECONDS = 10.0
_CREDENTIALS = struct.Struct("=iII")

Delegate = Callable[[str, str], Awaitable[DelegateEnd]]
"""Run the delegated plugin of that name with that CNI_COMMAND, with the shim's environment and configuration."""


class Handler(Protocol):
    """What the requests are for: `workloads.Workloads`. ``netns`` is a descriptor that stays the caller's."""

    async def attach(self, request: Request, netns: int, delegate: Delegate) -> Result: ...

    async def detach(self, request: Request, netns: int | None, delegate: Delegate) -> None: ...

    async def check(self, request: Request, netns: int, delegate: Delegate) -> None: ...

    async def collect(self, config: NetConf, delegate: Delegate) -> None: ...

    async def status(self, config: NetConf, delegate: Delegate) -> None: ...


class CNIServer:
    """Listens at ``path``. ``on_served`` hears of each request that ended: command, seconds, CNI code (0: well)."""

    def __init__(
        self,
        path: Path,
        handler: Handler,
        *,
        on_served: Callable[[str, float, int], None] = lambda command, seconds, code: None,
    ) -> None:
        self._path = path
        self._handler = handler
        self._on_served = on_served
        self._conversations = Group(MAX_REQUESTS_AT_ONCE, self._on_defect)

    async def run(self) -> NoReturn:
        """Serve for ever. Cancelled, it stops listening at once and lets what it accepted come to its end.

        Raises `UsageError` when the socket cannot be made there.
        """
        listener = _listen(self._path)
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[OSError] = loop.create_future()
        loop.add_reader(listener, self._accept, listener, broken)
        try:
            raise await broken
        finally:
            loop.remove_reader(listener)
            listener.close()
            await self._conversations.close(grace_seconds=5.0)

    def _accept(self, listener: socket.socket, broken: asyncio.Future[OSError]) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if not broken.done():
                broken.set_result(error)
            return
        connection.setblocking(False)
        if len(self._conversations) >= MAX_CONVERSATIONS:
            connection.close()
            return
        _ = self._conversations.start("cni request", self._converse(connection))

    async def _converse(self, connection: socket.socket) -> None:
        talk = _Conversation(connection)
        started = time.monotonic()
        command, version, code = "", INSTALLED, 0
        try:
            _check_peer(connection)
            forwarded = frames.decode_request(await talk.expect(frames.REQUEST, READ_SECONDS))
            document = await talk.expect(frames.CONFIG, READ_SECONDS)
            command = forwarded.env.get("CNI_COMMAND", "")
            request = parse_request(forwarded, document)
            version = str(request.config.version)
            answer = await self._serve(request, talk)
            await talk.send(frames.encode_result(0, answer))
        except TimeoutError:
            code = Code.IO_FAILURE
            _log.warning("a CNI shim sent no whole request", seconds=READ_SECONDS)
        except Exception as error:
            code = code_of(error)
            if not isinstance(error, TortieError):
                _log.exception("a CNI request failed by a defect", command=command)
            else:
                _log.info("a CNI request failed", command=command, code=code, reason=str(error))
            with contextlib.suppress(CNIError):
                await talk.send(frames.encode_result(1, render(error, version=version, command=command)))
        finally:
            talk.close()
            if command:
                self._on_served(command, time.monotonic() - started, code)

    async def _serve(self, request: Request, talk: _Conversation) -> bytes:
        match request.command:
            case "ADD":
                result = await self._handler.attach(request, talk.netns, talk.delegate)
                return render_result(result, request.config.version)
            case "DEL":
                netns = talk.netns if request.netns_passed else None
                await self._handler.detach(request, netns, talk.delegate)
            case "CHECK":
                await self._handler.check(request, talk.netns, talk.delegate)
            case "GC":
                await self._handler.collect(request.config, talk.delegate)
            case "STATUS":
                await self._handler.status(request.config, talk.delegate)
        return b""

    @staticmethod
    def _on_defect(name: str, error: BaseException) -> None:
        _log.error("a CNI conversation broke", task=name, error=repr(error))


class _Conversation:
    """One shim: frames in and out, and the descriptor that it passed."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder = frames.Decoder()
        self._waiting: list[frames.Frame] = []
        self._descriptors: list[int] = []

    @property
    def netns(self) -> int:
        """The pod's network namespace. Raises `CNIError` when the shim passed none."""
        if not self._descriptors:
            raise CNIError(
                Code.IO_FAILURE,
                "the CNI shim passed no network namespace though it said so; run: tortie cni install",
            )
        return self._descriptors[0]

    async def expect(self, kind: bytes, seconds: float) -> bytes:
        """The next frame's payload. Raises `CNIError` for any other kind, and when the shim is gone; `TimeoutError` when it is
        silent for so long."""
        while not self._waiting:
            data = await self._receive(seconds)
            if not data:
                raise CNIError(Code.IO_FAILURE, "the CNI shim is gone")
            self._waiting += self._decoder.feed(data)
        frame = self._waiting.pop(0)
        if frame.kind != kind:
            raise CNIError(
                Code.IO_FAILURE,
                f"the CNI shim sent a frame {frame.kind!r} instead of {kind!r}; run: tortie cni install",
            )
        return frame.payload

    async def delegate(self, command: str, plugin: str) -> DelegateEnd:
        """Have the shim run a plugin. Raises `CNIError` when the shim is gone or the plugin takes too long."""
        await self.send(frames.encode_delegate(command, plugin))
        try:
            return frames.decode_delegate_end(await self.expect(frames.DELEGATE_END, DELEGATE_SECONDS))
        except TimeoutError:
            raise CNIError(
                Code.TRY_LATER, f"the IPAM plugin {plugin} did not end within {DELEGATE_SECONDS:g} s"
            ) from None

    async def send(self, data: bytes) -> None:
        """Raises `CNIError` when the shim is gone."""
        try:
            with contextlib.suppress(BlockingIOError):
                data = data[self._socket.send(data) :]
            if data:
                async with asyncio.timeout(WRITE_SECONDS):
                    await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except (OSError, TimeoutError) as error:
            raise CNIError(Code.IO_FAILURE, f"the CNI shim is gone: {error}") from None

    async def _receive(self, seconds: float) -> bytes:
        while True:
            try:
                data, descriptors, flags, _ = socket.recv_fds(
                    self._socket, 1 << 16, 4, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                async with asyncio.timeout(seconds):
                    await _readable(self._socket)
                continue
            except OSError as error:
                raise CNIError(Code.IO_FAILURE, f"the CNI shim is gone: {error}") from None
            self._descriptors += descriptors
            if flags & socket.MSG_CTRUNC or len(self._descriptors) > 1:
                raise CNIError(Code.IO_FAILURE, "the CNI shim passed more than one descriptor")
            return data

    def close(self) -> None:
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), wake)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


def _listen(path: Path) -> socket.socket:
    """The socket, 0600 in a directory that is root's alone. Whoever listened there before must be gone: the agent's
    lock says so."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(
                f"{path} exists and is no socket; remove it, or choose another place for the CNI socket"
            )
        scratch = path.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(str(scratch))
        scratch.chmod(0o600)
        listener.listen(MAX_CONVERSATIONS)
        scratch.replace(path)  # atomic: a shim that comes now finds the old one or this one, never none
    except OSError as error:
        raise UsageError(f"cannot listen for CNI requests at {path}: {error}") from error
    return listener


def _check_peer(connection: socket.socket) -> None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    if uid not in (0, os.geteuid()):
        raise CNIError(Code.ACCESS_DENIED, f"the CNI socket is root's alone; user {uid} called")
