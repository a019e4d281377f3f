from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from tortie.agent.http import MOST_CONNECTIONS, HttpThread, Response
from tortie.errors import UsageError


@pytest.fixture
async def server() -> AsyncIterator[HttpThread]:
    http = HttpThread()
    http.start()
    routes = {
        "/liveness": lambda: Response(200, b"ok\n"),
        "/readiness": lambda: Response(503, b"dataplane: waiting\n"),
        "/broken": _broken,
    }
    await http.listen("health", "127.0.0.1", 0, routes)
    yield http
    await http.close()


def _broken() -> Response:
    raise RuntimeError("on purpose")


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /liveness HTTP/1.1", b"200 OK", b"ok\n"),
        ("GET /liveness?verbose=1 HTTP/1.0", b"200 OK", b"ok\n"),
        ("GET /readiness HTTP/1.1", b"503 Service Unavailable", b"dataplane: waiting\n"),
        ("HEAD /readiness HTTP/1.1", b"503 Service Unavailable", b""),
        ("POST /liveness HTTP/1.1", b"405 Method Not Allowed", b"only GET and HEAD\n"),
        ("GET /etc/passwd HTTP/1.1", b"404 Not Found", b"there is /broken, /liveness, /readiness\n"),
        ("GET /broken HTTP/1.1", b"500 Internal Server Error", b"RuntimeError: on purpose\n"),
        ("nonsense", b"400 Bad Request", b"not an HTTP request\n"),
    ],
)
async def test_answers(server: HttpThread, request_line: str, status: bytes, body: bytes) -> None:
    answer = await ask(server.port_of("health"), f"{request_line}\r\nHost: x\r\n\r\n".encode())
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert rest == body


async def test_a_head_that_is_too_large_is_refused(server: HttpThread) -> None:
    answer = await ask(server.port_of("health"), b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_it_answers_while_the_main_loop_hangs(server: HttpThread) -> None:
    port = server.port_of("health")
    answers: list[bytes] = []
    thread = threading.Thread(
        target=lambda: answers.append(asyncio.run(ask(port, b"GET /liveness HTTP/1.1\r\n\r\n")))
    )
    thread.start()
    thread.join(10)  # this very loop hangs meanwhile
    assert answers[0].endswith(b"ok\n")


async def test_whoever_holds_all_connections_of_one_listener_does_not_shut_another(
    server: HttpThread,
) -> None:
    await server.listen("metrics", "127.0.0.1", 0, {"/metrics": lambda: Response(200, b"1\n")})
    port = server.port_of("metrics")
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS)]
    with contextlib.suppress(ConnectionResetError):  # the refusal does not wait for the request
        assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    assert (await ask(server.port_of("health"), b"GET /liveness HTTP/1.1\r\n\r\n")).endswith(b"ok\n")
    for connection in held:
        connection.close()


async def test_a_listener_moves_to_another_port(server: HttpThread) -> None:
    old = server.port_of("health")
    await server.listen("health", "127.0.0.1", 0, {"/moved": lambda: Response(200, b"here\n")})
    # Asked for the same place: nothing happens.
    assert server.port_of("health") == old
    await server.unlisten("health")
    with pytest.raises(ConnectionRefusedError):
        await ask(old, b"GET / HTTP/1.1\r\n\r\n")


async def test_a_port_that_is_taken_is_named(server: HttpThread) -> None:
    port = server.port_of("health")
    with pytest.raises(UsageError, match=f"metrics: cannot listen on 127.0.0.1 port {port}"):
        await server.listen("metrics", "127.0.0.1", port, {})


async def test_localhost_is_both_of_its_addresses() -> None:
    http = HttpThread()
    http.start()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    await http.listen("health", "localhost", port, {"/": lambda: Response(200, b"here\n")})
    for address in {
        str(found[4][0]) for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    }:
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"here\n")
        writer.close()
    await http.close()
