"""`/liveness`, `/readiness` and `/metrics`: a small HTTP/1.1 server in a thread of its own.

It answers even while the agent's event loop hangs: that is when the answer matters. Requests are bounded in size and time, and
connections in number, each listener's by itself: who may reach the metrics must not be able to make the agent look dead. Only GET
and HEAD are known.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from tortie.errors import UsageError

MOST_HEAD_BYTES = 8192
REQUEST_SECONDS = 5.0
MOST_CONNECTIONS = 64


class Response(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Response]
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class HttpThread:
    """Any number of listeners, each with its own routes, on one thread. Routes run on that thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._listeners: dict[str, tuple[str, int, list[asyncio.Server]]] = {}

    def start(self) -> None:
        self._thread.start()

    async def listen(self, name: str, host: str, port: int, routes: Mapping[str, Route]) -> None:
        """Serve these routes there; where the listener of this name was before, it is closed.

        ``host`` ``localhost`` is both of its addresses. Raises `UsageError` when the port cannot be had; the listener
        before is closed then too.
        """
        before = self._listeners.get(name)
        if before is not None and before[:2] == (host, port):
            return
        await self._on_thread(self._listen(name, host, port, dict(routes)))

    async def unlisten(self, name: str) -> None:
        """Stop the listener of this name, if there is one."""
        await self._on_thread(self._close(name))

    def port_of(self, name: str) -> int:
        """The port that a listener really has: for those that asked for port 0."""
        port: int = self._listeners[name][2][0].sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop all listeners, whatever conversations there are, and the thread."""
        for name in list(self._listeners):
            await self.unlisten(name)
        await self._on_thread(_end_conversations())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 2.0)

    async def _on_thread(self, work: Coroutine[Any, Any, None]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        await asyncio.wrap_future(future)

    async def _listen(self, name: str, host: str, port: int, routes: Mapping[str, Route]) -> None:
        await self._close(name)
        connections: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _serve(routes, connections, reader, writer)

        try:
            sockets = await _bound(host, port)
        except OSError as error:
            raise UsageError(
                f"{name}: cannot listen on {host or 'all addresses'} port {port}: {error.strerror or error}"
            ) from None
        servers = [await asyncio.start_server(serve, sock=sock, limit=MOST_HEAD_BYTES) for sock in sockets]
        self._listeners[name] = (host, port, servers)

    async def _close(self, name: str) -> None:
        listener = self._listeners.pop(name, None)
        if listener is not None:
            for server in listener[2]:
                server.close()


async def _end_conversations() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=1.0)


async def _serve(
    routes: Mapping[str, Route],
    connections: set[asyncio.StreamWriter],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    connections.add(writer)
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            if len(connections) > MOST_CONNECTIONS:
                await _send(writer, "GET", Response(503, b"too many connections\n"))
                return
            method, response = await _answer(routes, reader)
            await _send(writer, method, response)
    except (TimeoutError, OSError):
        return
    finally:
        connections.discard(writer)
        writer.close()


async def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host; those of a family that this machine does not have are left out."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    refusal = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                refusal = error
                if error.errno == errno.EADDRNOTAVAIL:
                    sockets.pop().close()
        if not sockets:
            raise refusal
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def _answer(routes: Mapping[str, Route], reader: asyncio.StreamReader) -> tuple[str, Response]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return "GET", Response(431, b"the request's head is too large\n")
    except asyncio.IncompleteReadError:
        return "GET", Response(400, b"not an HTTP request\n")
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "GET", Response(400, b"not an HTTP request\n")
    method, target, _ = words
    if method not in ("GET", "HEAD"):
        return "GET", Response(405, b"only GET and HEAD\n")
    route = routes.get(target.partition("?")[0])
    if route is None:
        return method, Response(404, f"there is {', '.join(sorted(routes))}\n".encode())
    try:
        return method, route()
    except Exception as error:
        return method, Response(500, f"{type(error).__name__}: {error}\n".encode())


async def _send(writer: asyncio.StreamWriter, method: str, response: Response) -> None:
    head = (
        f"HTTP/1.1 {response.status} {_PHRASES[response.status]}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    writer.write(head.encode() + (b"" if method == "HEAD" else response.body))
    await writer.drain()
