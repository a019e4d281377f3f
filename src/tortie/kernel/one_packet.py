"""Sends one packet from a network namespace, and notes what came back."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from typing import Literal, NamedTuple

from tortie.kernel import netns
from tortie.kernel.netns import Namespace
from tortie.net.addresses import Address

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
_IDENTIFIER = 0x7470
_SCTP_SOURCE_PORT = 49152
_UNREACHABLE = {
    errno.ENETUNREACH: "no-route",
    errno.EHOSTUNREACH: "no-route",
    errno.EMSGSIZE: "too-big",
    errno.EPERM: "not-permitted",
    errno.ECONNREFUSED: "refused",
}

Came = Literal["answered", "refused", "no-answer", "no-route", "too-big", "not-permitted", "failed"]


MOST_SIZE = 65_000
_DO_NOT_FRAGMENT = 2
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
"""IP_MTU_DISCOVER and IP_MTU (ip(7)), and the same of IPv6."""


class Sent(NamedTuple):
    """``came``: what came back. ``detail`` is the system's own word for it; ``mtu``: the path's, of a packet that was too big."""

    came: str
    detail: str = ""
    mtu: int = 0


async def send(
    namespace: Namespace | None,
    source: Address,
    destination: Address,
    protocol: int,
    port: int | None,
    *,
    icmp_type: int = 0,
    size: int | None = None,
    timeout_seconds: float = 1.0,
) -> Sent:
    """One connection attempt, datagram, echo request, or empty packet of another protocol. Raises `NamespaceGone`.

    ``size``: of those that can carry some (`carries`), bytes of payload, which nobody may fragment.
    """
    try:
        opened = await _open(namespace, source, protocol)
    except OSError as error:
        return _failed(error)
    with opened:
        opened.setblocking(False)
        try:
            if size is not None:
                _whole(opened, source.version)
            async with asyncio.timeout(timeout_seconds):
                return await _exchange(opened, destination, protocol, port or 0, icmp_type, size)
        except TimeoutError:
            return Sent("no-answer")
        except OSError as error:
            sent = _failed(error)
            if sent.came == "too-big":
                return sent._replace(mtu=_path_mtu(opened, destination, port or 0))
            return sent


def carries(protocol: int) -> bool:
    """Whether the first packet of this protocol has a payload that can be of any size."""
    return protocol not in (TCP, SCTP)


def _whole(opened: socket.socket, version: int) -> None:
    opened.setsockopt(*_MTU_DISCOVER[version], _DO_NOT_FRAGMENT)
    if version == 6:
        opened.setsockopt(socket.IPPROTO_IPV6, 62, 1)  # IPV6_DONTFRAG


def _path_mtu(opened: socket.socket, destination: Address, port: int) -> int:
    """As far as the kernel knows it by now: a socket remembers the way as it was when it was connected."""
    try:
        opened.connect((str(destination), port))
        return opened.getsockopt(*_MTU[destination.version])
    except OSError:
        return 0


async def _exchange(
    opened: socket.socket, destination: Address, protocol: int, port: int, icmp_type: int, size: int | None
) -> Sent:
    loop = asyncio.get_running_loop()
    if protocol in (TCP, UDP):
        await loop.sock_connect(opened, (str(destination), port))
        if protocol == UDP:
            await loop.sock_sendall(opened, b"tortie" if size is None else bytes(size))
            await loop.sock_recv(opened, 2048)
        return Sent("answered")
    opened.connect((str(destination), 0))
    if protocol in (ICMP, ICMPV6):
        await loop.sock_sendall(opened, echo(icmp_type, protocol, bytes(size or 0)))
        return await _reply(opened, protocol)
    await loop.sock_sendall(opened, _of_protocol(protocol, port, 8 if size is None else size))
    await asyncio.sleep(0.3)
    return Sent("no-answer", "none is waited for with this protocol")


async def _open(namespace: Namespace | None, source: Address, protocol: int) -> socket.socket:
    def make() -> socket.socket:
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        kind = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}.get(protocol, socket.SOCK_RAW)
        made = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        made.bind((str(source), 0))
        return made

    if namespace is None:
        return make()
    return await asyncio.wrap_future(netns.submit(namespace, make))


async def _reply(opened: socket.socket, protocol: int) -> Sent:
    """Wait for the echo's answer among what comes."""
    loop = asyncio.get_running_loop()
    while True:
        data = await loop.sock_recv(opened, 2048)
        start = (data[0] & 0x0F) * 4 if protocol == ICMP and data else 0
        is_reply = len(data) >= start + 8 and data[start] in (0, 129)
        if is_reply and int.from_bytes(data[start + 4 : start + 6], "big") == _IDENTIFIER:
            return Sent("answered")


def echo(icmp_type: int, protocol: int, zeros: bytes = b"") -> bytes:
    """An ICMP message of that type; of ICMPv6 the kernel makes the checksum, to which zeros add nothing."""
    head = struct.pack(">BBHHH", icmp_type, 0, 0, _IDENTIFIER, 1)
    if protocol == ICMPV6:
        return head + zeros
    total = sum(struct.unpack(">4H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:2] + struct.pack(">H", ~total & 0xFFFF) + head[4:] + zeros


def _of_protocol(protocol: int, port: int, size: int) -> bytes:
    """Of SCTP an INIT, of others so many empty bytes."""
    return init(port) if protocol == SCTP else bytes(size)


def init(port: int) -> bytes:
    """An SCTP association's first packet (RFC 9260), with the checksum that conntrack looks at."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)
    ports = struct.pack(">HHI", _SCTP_SOURCE_PORT, port, 0)
    checksum = crc32c(ports + bytes(4) + chunk)
    return ports + struct.pack("<I", checksum) + chunk


def crc32c(data: bytes) -> int:
    """Castagnoli's polynomial, reflected, bit by bit: it is asked for once a packet."""
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0x82F63B78 if found & 1 else 0)
    return found ^ 0xFFFFFFFF


def _failed(error: OSError) -> Sent:
    number = error.errno or 0
    return Sent(_UNREACHABLE.get(number, "failed"), os.strerror(number) if number else str(error))
