"""Packets as frames: each the first of a connection that conntrack takes for a new one, with a number to know it by."""

from __future__ import annotations

import ipaddress
import struct

from tests.oracle.packets import Packet

MAGIC = b"tortie-fuzz:"
NUMBER = struct.Struct(">I")
BEFORE_MARK = {1: 8, 58: 8, 6: 20, 17: 8, 132: 36}
"""Bytes between the IP header and the mark."""


def frame(packet: Packet, number: int, *, to_mac: str, from_mac: str) -> bytes:
    """The packet in an Ethernet frame."""
    mark = MAGIC + NUMBER.pack(number)
    ethernet = bytes.fromhex(to_mac.replace(":", "")) + bytes.fromhex(from_mac.replace(":", ""))
    source, destination = (ipaddress.ip_address(each) for each in (packet.source, packet.destination))
    body = _body(packet, mark, source.packed + destination.packed)
    if packet.version == 6:
        header = struct.pack(">IHBB", 6 << 28, len(body), packet.protocol, 64)
        return ethernet + b"\x86\xdd" + header + source.packed + destination.packed + body
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, packet.protocol, 0)
    header += source.packed + destination.packed
    header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return ethernet + b"\x08\x00" + header + body


def number_in(data: bytes) -> int | None:
    """Of a frame that `frame` made; None for any other, also one that quotes such a frame, as an ICMP error does."""
    if data[12:14] == b"\x86\xdd":
        return number_after(data[20], data[54:])
    return number_after(data[23], data[34:])


def number_after(protocol: int, body: bytes) -> int | None:
    """The same of what follows the IP header."""
    at = BEFORE_MARK.get(protocol, 4)
    if body[at : at + len(MAGIC)] != MAGIC:
        return None
    return int(NUMBER.unpack_from(body, at + len(MAGIC))[0])


def _body(packet: Packet, mark: bytes, addresses: bytes) -> bytes:
    ports = struct.pack(">HH", packet.source_port, packet.destination_port)

    def summed(before: bytes, after: bytes) -> bytes:
        """With the checksum of the whole, pseudo header included, between the two."""
        body = before + b"\0\0" + after
        pseudo = addresses + struct.pack(">IHBB", len(body), 0, 0, packet.protocol)
        total = checksum(pseudo + body)
        return before + struct.pack(">H", total or 0xFFFF) + after

    match packet.protocol:
        case 1:
            head = bytes((packet.icmp_type, packet.icmp_code))
            rest = b"\0\1\0\1" + mark
            return head + struct.pack(">H", checksum(head + b"\0\0" + rest)) + rest
        case 58:
            return summed(bytes((packet.icmp_type, packet.icmp_code)), b"\0\1\0\1" + mark)
        case 6:  # a SYN
            return summed(ports + struct.pack(">IIBBH", 1, 0, 5 << 4, 2, 1024), b"\0\0" + mark)
        case 17:
            return summed(ports + struct.pack(">H", 8 + len(mark)), mark)
        case 132:
            return _init(ports, mark)
        case _:  # four zero bytes: no flags, where it is GRE
            return b"\0\0\0\0" + mark


def _init(ports: bytes, mark: bytes) -> bytes:
    """An SCTP INIT, the mark in a parameter that whoever does not know it skips."""
    parameter = struct.pack(">HH", 0xC0FE, 4 + len(mark)) + mark
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20 + len(parameter), 7, 65536, 1, 1, 1) + parameter
    total = crc32c(ports + b"\0\0\0\0" + b"\0\0\0\0" + chunk)
    return ports + b"\0\0\0\0" + struct.pack("<I", total) + chunk


def checksum(data: bytes) -> int:
    """The Internet's."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """SCTP's."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
