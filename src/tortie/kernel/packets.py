"""Seeing packets as they arrive: a packet socket in a network namespace.

Sources: packet(7), RFC 792 (ICMP echo), RFC 4443 §4.1 (ICMPv6 echo).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from tortie.errors import KernelError
from tortie.kernel import netns
from tortie.kernel.netns import Namespace
from tortie.net.addresses import Address

_ETH_P_ALL = 3
_ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
_OUTGOING = 4
_ICMP = 1
_ICMPV6 = 58
_ECHO_REQUEST = 8
_ECHO_REQUEST_V6 = 128
_RECEIVE_BUFFER = 4 << 20
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _EQUAL = 0x20, 0x28, 0x30, 0x15
_ACCEPT, _REJECT = (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
_PROTOCOL, _PACKET_TYPE = 0xFFFFF000, 0xFFFFF004
"""Where the filter finds what is not in the packet itself (SKF_AD_PROTOCOL, SKF_AD_PKTTYPE)."""
MOST_DESTINATIONS = 16
_BATCH = 256


class EchoRequest(NamedTuple):
    """An ICMP or ICMPv6 echo request, as it came in on ``interface``."""

    source: Address
    destination: Address
    identifier: int
    sequence: int
    interface: str


class EchoCapture:
    """Notes the echo requests that arrive in a namespace, until it is closed; those that leave it are not noted.

    At most ``limit`` are kept; ``missed`` counts those beyond.
    """

    def __init__(self, listener: socket.socket, limit: int) -> None:
        self.seen: list[EchoRequest] = []
        self.missed = 0
        self._limit = limit
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.fileno(), self._receive)

    @classmethod
    async def open(
        cls, namespace: Namespace | None, *, destinations: Sequence[Address] = (), limit: int = 100_000
    ) -> EchoCapture:
        """Listening when it returns; ``namespace`` None is our own. With ``destinations`` the kernel hands over only what
        is for these: a node also sees what it forwards. Raises `KernelError`, `NamespaceGone`."""
        if namespace is None:
            return cls(_listen(destinations), limit)
        return cls(await asyncio.wrap_future(netns.submit(namespace, lambda: _listen(destinations))), limit)

    def close(self) -> None:
        """Take what has arrived, and listen no more. Idempotent."""
        if self._listener.fileno() < 0:
            return
        while self._receive():
            continue
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _receive(self) -> bool:
        """Take some of what has arrived; whether there may be more."""
        for _ in range(_BATCH):
            try:
                packet, where = self._listener.recvfrom(256)
            except BlockingIOError:
                return False
            except OSError:
                # The interface or the namespace went away; what was seen stays.
                return False
            interface, protocol, kind = where[0], where[1], where[2]
            if kind == _OUTGOING:
                continue
            seen = parse_echo(protocol, packet, interface)
            if seen is None:
                continue
            if len(self.seen) < self._limit:
                self.seen.append(seen)
            else:
                self.missed += 1
        return True


def _listen(destinations: Sequence[Address]) -> socket.socket:
    try:
        listener = socket.socket(
            socket.AF_PACKET,
            socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.htons(_ETH_P_ALL),
        )
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        if destinations:
            code = packet_filter(destinations)
            program = ctypes.create_string_buffer(code)
            listener.setsockopt(
                socket.SOL_SOCKET,
                _SO_ATTACH_FILTER,
                struct.pack("HP", len(code) // _INSTRUCTION.size, ctypes.addressof(program)),
            )
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "open a packet socket") from None
    return listener


def packet_filter(destinations: Sequence[Address]) -> bytes:
    """A classic BPF program that lets ICMP and ICMPv6 for these addresses pass, and nothing that leaves the machine.

    Kernel: ``Documentation/networking/filter.rst``. Each instruction says how many to skip when a comparison holds, and when not.
    """
    v4 = [(_LOAD_BYTE, 0, 0, 9), (_EQUAL, 1, 0, _ICMP), _REJECT]
    v6 = [(_EQUAL, 1, 0, _ETH_P_IPV6), _REJECT, (_LOAD_BYTE, 0, 0, 6), (_EQUAL, 1, 0, _ICMPV6), _REJECT]
    for address in destinations:
        words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
        start, section = (16, v4) if address.version == 4 else (24, v6)
        for place, word in enumerate(words):
            beyond = 2 * (len(words) - 1 - place) + 1
            section += [(_LOAD_WORD, 0, 0, start + 4 * place), (_EQUAL, 0, beyond, word)]
        section.append(_ACCEPT)
    v4.append(_REJECT)
    v6.append(_REJECT)
    head = [
        (_LOAD_WORD, 0, 0, _PACKET_TYPE),
        (_EQUAL, 0, 1, _OUTGOING),
        _REJECT,
        (_LOAD_HALF, 0, 0, _PROTOCOL),
        (_EQUAL, 0, len(v4), _ETH_P_IP),
    ]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in (*head, *v4, *v6))


def parse_echo(protocol: int, packet: bytes, interface: str = "") -> EchoRequest | None:
    """What an IP packet is, if it is an echo request; fragments and IPv6 extension headers are none."""
    if protocol == _ETH_P_IP:
        return _parse_v4(packet, interface)
    if protocol == _ETH_P_IPV6:
        return _parse_v6(packet, interface)
    return None


def _parse_v4(packet: bytes, interface: str) -> EchoRequest | None:
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _ICMP:
        return None
    if int.from_bytes(packet[6:8], "big") & 0x1FFF:
        return None
    start = (packet[0] & 0x0F) * 4
    if len(packet) < start + 8 or packet[start] != _ECHO_REQUEST:
        return None
    return _request(packet[12:16], packet[16:20], packet[start + 4 : start + 8], interface)


def _parse_v6(packet: bytes, interface: str) -> EchoRequest | None:
    if len(packet) < 48 or packet[0] >> 4 != 6 or packet[6] != _ICMPV6 or packet[40] != _ECHO_REQUEST_V6:
        return None
    return _request(packet[8:24], packet[24:40], packet[44:48], interface)


def _request(source: bytes, destination: bytes, numbers: bytes, interface: str) -> EchoRequest:
    return EchoRequest(
        Address.from_packed(source),
        Address.from_packed(destination),
        int.from_bytes(numbers[:2], "big"),
        int.from_bytes(numbers[2:], "big"),
        interface,
    )
