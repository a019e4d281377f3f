"""Asking a running agent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from tortie.admin import protocol
from tortie.errors import AgentUnavailable, DeadlineExceeded


class AdminClient:
    """One agent, by the path of its admin socket. Each call opens a connection of its own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def call(self, op: str, *, timeout_seconds: float = 10.0, **args: Any) -> Any:
        """Ask, and return the answer's result.

        Raises `AgentUnavailable` naming the socket when nobody answers there, `AgentRefused` with the agent's own words,
        `DeadlineExceeded`.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._call(op, args)
        except TimeoutError:
            raise DeadlineExceeded(f"the agent's answer to {op} at {self.socket}", timeout_seconds) from None

    def call_sync(self, op: str, *, timeout_seconds: float = 10.0, **args: Any) -> Any:
        """`call` for code that runs no event loop, as most commands."""
        return asyncio.run(self.call(op, timeout_seconds=timeout_seconds, **args))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A Unix socket's path holds 107 bytes (unix(7)): go through the directory, whatever its length.
        directory = os.open(self.socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{directory}/{self.socket.name}"
            return await asyncio.open_unix_connection(path, limit=protocol.MOST_ANSWER_BYTES)
        finally:
            os.close(directory)

    async def _call(self, op: str, args: dict[str, Any]) -> Any:
        try:
            reader, writer = await self._connect()
        except PermissionError:
            raise AgentUnavailable(f"the agent's socket {self.socket} is root's: use sudo") from None
        except OSError as error:
            raise AgentUnavailable(
                f"no agent answers at {self.socket} ({error.strerror or error}): is 'tortie agent run' running?"
            ) from None
        try:
            writer.write(protocol.encode(protocol.Request(op, args)) + b"\n")
            await writer.drain()
            line = await reader.readline()
        except (OSError, ValueError) as error:
            raise AgentUnavailable(f"the agent at {self.socket} broke off: {error}") from None
        finally:
            writer.close()
        if not line.endswith(b"\n"):
            raise AgentUnavailable(f"the agent at {self.socket} hung up before it answered {op}")
        try:
            answer = protocol.decode_answer(line)
        except msgspec.MsgspecError as error:
            raise AgentUnavailable(f"what answers at {self.socket} is no agent: {error}") from None
        if not answer.ok:
            raise protocol.AgentRefused(op, answer.error, answer.kind)
        return answer.result
