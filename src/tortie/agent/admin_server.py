"""The agent's side of the admin socket: root's own questions, answered on a Unix socket (mode 0600)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tortie.admin import protocol
from tortie.errors import TortieError, UsageError
from tortie.observe import log

MOST_CONNECTIONS = 32

logger = log.get("admin")

Operation = Callable[..., Awaitable[Any]]
"""Takes the request's arguments by name; returns what JSON can hold (other values are written as text)."""


class AdminServer:
    """Answers requests by handing each to the operation of its name. Operations must be bounded in time themselves."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self._path = path
        self._operations = dict(operations)
        self._connections: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serve. Eternal. Raises `UsageError` when the socket cannot be made."""
        server = await asyncio.start_unix_server(
            self._serve, sock=listen_privately(self._path), limit=protocol.MOST_REQUEST_BYTES
        )
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            writer.write(protocol.encode(protocol.Answer(False, error="too many connections")) + b"\n")
            writer.close()
            return
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                writer.write(protocol.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:
            logger.debug("connection broke off", error=str(error))
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> protocol.Answer:
        try:
            request = protocol.decode_request(line)
            operation = self._operations.get(request.op)
            if operation is None:
                known = ", ".join(sorted(self._operations))
                raise UsageError(f"there is no operation {request.op!r}; there is {known}")
            try:
                return protocol.Answer(True, await operation(**request.args))
            except TypeError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                    raise UsageError(f"{request.op}: {error}") from None
                raise
        except (TortieError, msgspec.MsgspecError) as error:
            return protocol.Answer(False, error=str(error), kind=type(error).__name__)
        except Exception as error:
            logger.exception("an admin request failed")
            return protocol.Answer(False, error=f"{type(error).__name__}: {error}", kind=type(error).__name__)


def listen_privately(path: Path) -> socket.socket:
    """A listening Unix socket that root alone may connect to; one that a dead process left behind is replaced.

    Raises `UsageError` naming the path.
    """
    # The path of a Unix socket holds 107 bytes (unix(7)); a longer one is reached through its directory's descriptor.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        scratch = path.with_name(f".{path.name}.new")
        scratch.unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{directory}/{scratch.name}")
        listener.listen(128)
        scratch.replace(path)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
        os.close(directory)
    return listener
