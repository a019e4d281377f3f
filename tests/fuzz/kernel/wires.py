"""Sends frames from namespaces and hears which of them arrive where, below whatever the namespaces' own kernels do with them.

A node under test is the exception (`Wires.inside`): what it sends and hears has passed its rules.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

from tests.fuzz.kernel.frames import number_after, number_in
from tortie.kernel import netns

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
BUFFER = 8 << 20
IP_HEADER, ETHERNET_HEADER = 20, 14


class Wires:
    """One open end in every namespace. ``arrived`` says of each frame, by its number, where it came out."""

    def __init__(self, namespaces: Mapping[str, str]) -> None:
        self.arrived: dict[int, set[str]] = {}
        self._ends: dict[str, socket.socket] = {}
        self._senders: dict[str, Mapping[int, socket.socket]] = {}
        self._ears: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        for name, namespace in namespaces.items():
            self.add(name, namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        senders = [each for made in self._senders.values() for each in made.values()]
        for end in (*self._ends.values(), *senders, *self._ears):
            end.close()

    def add(self, name: str, namespace: str) -> None:
        """One more open end."""
        end = self._ends[name] = netns.run(namespace, _open)
        self._selector.register(end, selectors.EVENT_READ, partial(self._take_frame, name, end))

    def inside(self, name: str, namespace: str, protocols: Iterable[int]) -> None:
        """Packets of the namespace's own, as raw sockets send and hear them: within its hooks for output and input."""
        raw = socket.IPPROTO_RAW
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        self._senders[name] = {
            version: netns.run(namespace, partial(socket.socket, family, socket.SOCK_RAW, raw))
            for version, family in families.items()
        }
        for protocol in protocols:
            for version, family in families.items():
                ear = netns.run(namespace, partial(_ear, family, protocol))
                self._ears.append(ear)
                take = partial(self._take_packet, name, ear, version, protocol)
                self._selector.register(ear, selectors.EVENT_READ, take)

    def mac(self, name: str) -> str:
        end = self._ends.get(name)
        return str(end.getsockname()[4].hex(":")) if end else "00:00:00:00:00:00"

    def send(self, name: str, data: bytes) -> None:
        """A frame; of a namespace that is heard `inside`, the packet in it."""
        senders = self._senders.get(name)
        if senders is None:
            self._ends[name].send(data)
            return
        packet = data[ETHERNET_HEADER:]
        version = packet[0] >> 4
        address = packet[16:20] if version == 4 else packet[24:40]
        try:
            senders[version].sendto(packet, (socket.inet_ntop(senders[version].family, address), 0))
        except PermissionError:
            """The rules dropped it."""

    def listen(self, seconds: float) -> bool:
        """Take in what comes until nothing does for so long; whether anything did."""
        heard = False
        while ready := self._selector.select(seconds):
            for key, _ in ready:
                take: Callable[[], bool] = key.data
                heard |= take()
        return heard

    def until(self, numbers: set[int], *, seconds: float) -> None:
        """Until these have arrived somewhere, or the time is over."""
        deadline = time.monotonic() + seconds
        while not numbers <= self.arrived.keys() and time.monotonic() < deadline:
            self.listen(0.01)

    def _take_frame(self, name: str, end: socket.socket) -> bool:
        data, address = end.recvfrom(4096)
        return address[2] != PACKET_OUTGOING and self._note(name, number_in(data))

    def _take_packet(self, name: str, ear: socket.socket, version: int, protocol: int) -> bool:
        data = ear.recv(4096)  # of IPv4 with its header
        return self._note(name, number_after(protocol, data[IP_HEADER:] if version == 4 else data))

    def _note(self, name: str, number: int | None) -> bool:
        if number is None:
            return False
        self.arrived.setdefault(number, set()).add(name)
        return True


def _open() -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    end.bind(("eth0", 0))
    return end


def _ear(family: socket.AddressFamily, protocol: int) -> socket.socket:
    ear = socket.socket(family, socket.SOCK_RAW, protocol)
    ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    return ear
