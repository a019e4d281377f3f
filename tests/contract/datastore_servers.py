"""The datastores that the contract suites run over: each a place that any number of clients can open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Self

from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.keyvalue import Event, Events, KeyValue
from tortie.errors import StoreUnavailable

Place = Callable[[], KeyValue]
"""Opens one more client of one datastore."""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on just now, below those that the kernel gives to outgoing connections."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(12000, 32000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports


class EtcdServer:
    """One etcd process on loopback, with a directory of its own. Ended by its pid."""

    def __init__(self, *, name: str = "one", arguments: Sequence[str] = (), scheme: str = "http") -> None:
        self.name = name
        self.scheme = scheme
        self.client_port, self.peer_port = free_ports(2)
        self.directory = Path(tempfile.mkdtemp(prefix="tortie-etcd-"))
        self.arguments = list(arguments)
        self.cluster = f"{name}=http://127.0.0.1:{self.peer_port}"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Started, and serving."""
        try:
            self.start()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    def start(self) -> None:
        """Start it and return at once; `wait` waits until it serves."""
        client, peer = f"{self.scheme}://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        command = [
            "etcd",
            *("--name", self.name, "--data-dir", str(self.directory / "data"), "--log-level", "error"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", self.cluster, "--initial-cluster-token", self.directory.name),
            *("--unsafe-no-fsync", "--heartbeat-interval", "50", "--election-timeout", "500"),
            *self.arguments,
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait(self, timeout_seconds: float = 20) -> None:
        """Until its client port answers."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            assert self.process is not None
            if self._healthy():
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError((self.directory / "log").read_text())
            time.sleep(0.05)

    def _healthy(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.client_port), timeout=2) as connection:
                if self.scheme != "http":
                    return True
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
                return b'"health":"true"' in answer
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a power switch would; what it wrote stays for the next `start`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)


def etcdctl(server: EtcdServer, *arguments: str, value: bytes | None = None) -> bytes:
    """etcd's own client, as a second opinion of what is stored."""
    return subprocess.run(
        ["etcdctl", "--endpoints", f"{server.scheme}://{server.endpoint}", *arguments],
        input=value or b"",
        check=True,
        capture_output=True,
        env={**os.environ, "ETCDCTL_API": "3"},
        timeout=30,
    ).stdout


@contextlib.asynccontextmanager
async def opened(place: Place, count: int = 1) -> AsyncIterator[list[KeyValue]]:
    """Clients of one datastore, closed at the end."""
    clients = [place() for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            await client.close()


QUICK: dict[str, Any] = {"request_seconds": 2.0, "probe_seconds": 0.7, "silence_seconds": 2.0}


def client(*servers: EtcdServer, **more: Any) -> EtcdKeyValue:
    return EtcdKeyValue(EtcdOptions(endpoints=tuple(s.endpoint for s in servers), **{**QUICK, **more}))


@contextlib.asynccontextmanager
async def closing(store: KeyValue) -> AsyncIterator[KeyValue]:
    try:
        yield store
    finally:
        await store.close()


async def put(store: KeyValue, key: str, value: bytes = b"x") -> int:
    return await store.commit(expect={}, put={key: value})


async def take(events: AsyncIterator[Events], count: int) -> list[Event]:
    changes: list[Event] = []
    async with asyncio.timeout(20):
        while len(changes) < count:
            changes.extend((await anext(events)).changes)
    return changes


async def to_the_end(events: AsyncIterator[Events]) -> None:
    async with asyncio.timeout(20):
        async for _ in events:
            pass


async def retried(store: KeyValue, key: str, value: bytes, within_seconds: float) -> int:
    """A put that is tried until the datastore takes it."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            return await put(store, key, value)
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
