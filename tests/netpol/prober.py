"""Who reaches whom, by real sockets in the pods' own network namespaces: a whole table in a fraction of a second.

A socket belongs to the namespace that it was made in, whoever reads it: one process holds those of all pods, and one loop waits
for all answers at once. TCP is judged by the handshake, UDP by an echo, SCTP (no sockets in every kernel) by the arrival of a
crafted INIT. Each probe is a flow of its own: no port is used twice, so nothing passes as established.
"""

from __future__ import annotations

import itertools
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from tests.kernel.policy_world import SCTP, Packet
from tests.netpol.model import PORTS, Pair
from tortie.kernel import netns
from tortie.net.addresses import Address

QUIET_SECONDS = 0.25
"""How long nothing may come from those that should not, after the slowest of the others; more when that one was slow."""
PATIENCE_SECONDS = 2.0
"""How long one round waits for those that should come."""
FIRST_PORT, LAST_PORT = 20000, 60999
_RESET = struct.pack("ii", 1, 0)
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Question(NamedTuple):
    """A pair in one IP version."""

    pair: Pair
    version: int

    def __str__(self) -> str:
        return f"{self.pair} over IPv{self.version}"


@dataclass(frozen=True)
class Stand:
    """A pod: its network namespace and its addresses by IP version."""

    namespace: str
    addresses: Mapping[int, str]
    source_ports: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(FIRST_PORT, LAST_PORT)))


class Prober:
    """Listens on every pod from the start; close it at the end."""

    def __init__(self, stands: Mapping[str, Stand]) -> None:
        self._stands: dict[str, Stand] = {}
        self._selector = selectors.DefaultSelector()
        self._servers: dict[str, list[socket.socket]] = {}
        for name, stand in stands.items():
            self.add(name, stand)

    def add(self, name: str, stand: Stand) -> None:
        self._stands[name] = stand
        self._servers[name] = netns.run(stand.namespace, partial(_listeners, stand))
        for server in self._servers[name]:
            self._selector.register(server, selectors.EVENT_READ, None)

    def forget(self, name: str) -> None:
        """Before the pod goes: a socket would keep its namespace alive."""
        for server in self._servers.pop(name, ()):
            self._selector.unregister(server)
            server.close()
        self._stands.pop(name, None)

    def close(self) -> None:
        for name in list(self._servers):
            self.forget(name)
        self._selector.close()

    def ask(self, expected: Mapping[Question, bool]) -> dict[Question, bool]:
        """One round: each question's answer as it is now. What is expected only says how long to wait for what."""
        waiting = {question for question, allowed in expected.items() if allowed}
        seen: set[Question] = set()
        tokens: dict[bytes, Question] = {}
        clients: list[socket.socket] = []
        started = time.monotonic()
        try:
            for source, questions in itertools.groupby(sorted(expected), key=lambda each: each.pair.source):
                stand, batch = self._stands[source], list(questions)
                made = netns.run(stand.namespace, partial(self._send, stand, batch, tokens))
                for question, client in made:
                    self._selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, question)
                    clients.append(client)
            until = started + PATIENCE_SECONDS
            quiet = False
            while (left := until - time.monotonic()) > 0:
                for key, _ in self._selector.select(left):
                    server = key.fileobj
                    assert isinstance(server, socket.socket)
                    if key.data is None:
                        self._serve(server, tokens, seen)
                    elif self._answered(server, seen, key.data):
                        self._selector.unregister(server)
                if not quiet and waiting <= seen:
                    quiet = True
                    now = time.monotonic()
                    until = now + max(QUIET_SECONDS, 2 * (now - started))
        finally:
            for client in clients:
                with suppress(KeyError):
                    self._selector.unregister(client)
                client.close()
        return {question: question in seen for question in expected}

    def _send(
        self, stand: Stand, questions: list[Question], tokens: dict[bytes, Question]
    ) -> list[tuple[Question, socket.socket]]:
        """In the pod's namespace: the first packet of each flow is on its way, and these sockets wait for an answer."""
        made: list[tuple[Question, socket.socket]] = []
        for question in questions:
            pair, version = question
            own, port = stand.addresses[version], next(stand.source_ports)
            target = self._stands[pair.destination].addresses[version]
            if pair.protocol == "SCTP":
                token = os.urandom(16)
                tokens[token] = question
                _send_init(version, own, target, (port, pair.port), token)
                continue
            kind = socket.SOCK_STREAM if pair.protocol == "TCP" else socket.SOCK_DGRAM
            client = socket.socket(_FAMILIES[version], kind | socket.SOCK_NONBLOCK)
            client.bind((own, port))
            client.connect_ex((target, pair.port))
            if pair.protocol == "UDP":
                client.send(b"?")
            else:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            made.append((question, client))
        return made

    @staticmethod
    def _serve(server: socket.socket, tokens: Mapping[bytes, Question], seen: set[Question]) -> None:
        with suppress(OSError):  # nothing there any more, or an error of the answer before
            if server.type == socket.SOCK_STREAM:
                server.accept()[0].close()
            elif server.type == socket.SOCK_DGRAM:
                data, peer = server.recvfrom(100)
                server.sendto(data, peer)
            else:
                data = server.recv(500)
                seen.update(question for token, question in tokens.items() if token in data)

    @staticmethod
    def _answered(client: socket.socket, seen: set[Question], question: Question) -> bool:
        """Whether there is nothing more to wait for."""
        if client.type == socket.SOCK_STREAM:
            if not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                with suppress(OSError):
                    client.getpeername()
                    seen.add(question)
            return True
        try:
            client.recv(100)
        except BlockingIOError:
            return False
        except OSError:
            return True  # refused
        seen.add(question)
        return True


def _listeners(stand: Stand) -> list[socket.socket]:
    made: list[socket.socket] = []
    for version, address in stand.addresses.items():
        for port in PORTS:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                listener = socket.socket(_FAMILIES[version], kind | socket.SOCK_NONBLOCK)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    listener.listen(128)
                made.append(listener)
        made.append(socket.socket(_FAMILIES[version], socket.SOCK_RAW | socket.SOCK_NONBLOCK, SCTP))
    return made


def _send_init(version: int, source: str, target: str, ports: tuple[int, int], token: bytes) -> None:
    packet = Packet(SCTP, ports, version).payload(Address.parse(source), Address.parse(target), token)
    with socket.socket(_FAMILIES[version], socket.SOCK_RAW, SCTP) as sender:
        sender.bind((source, 0))
        sender.sendto(packet, (target, 0))
