"""Sends frames from namespaces and hears which of them arrive where, below whatever the namespaces' own kernels do with them."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.fuzz.kernel.frames import number_in
from tortie.kernel import netns

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
BUFFER = 8 << 20


class Wires:
    """One open end in every namespace. ``arrived`` says of each frame, by its number, where it came out."""

    def __init__(self, namespaces: Mapping[str, str]) -> None:
        self.arrived: dict[int, set[str]] = {}
        self._ends: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        for name, namespace in namespaces.items():
            end = netns.run(namespace, _open)
            self._ends[name] = end
            self._selector.register(end, selectors.EVENT_READ, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for end in self._ends.values():
            end.close()

    def mac(self, name: str) -> str:
        return str(self._ends[name].getsockname()[4].hex(":"))

    def send(self, name: str, data: bytes) -> None:
        self._ends[name].send(data)

    def listen(self, seconds: float) -> bool:
        """Take in what comes until nothing does for so long; whether anything did."""
        heard = False
        while ready := self._selector.select(seconds):
            for key, _ in ready:
                end = self._ends[key.data]
                heard |= self._take(key.data, end)
        return heard

    def until(self, numbers: set[int], *, seconds: float) -> None:
        """Until these have arrived somewhere, or the time is over."""
        deadline = time.monotonic() + seconds
        while not numbers <= self.arrived.keys() and time.monotonic() < deadline:
            self.listen(0.01)

    def _take(self, name: str, end: socket.socket) -> bool:
        data, address = end.recvfrom(4096)
        number = number_in(data)
        if number is None or address[2] == PACKET_OUTGOING:
            return False
        self.arrived.setdefault(number, set()).add(name)
        return True


def _open() -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    end.bind(("eth0", 0))
    return end
