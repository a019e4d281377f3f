from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.kernel.packets import parse_echo
from tortie.net.addresses import Address

IP, IPV6 = 0x0800, 0x86DD
SOURCE, DESTINATION = Address.parse("10.65.0.2"), Address.parse("10.65.1.3")
SOURCE_V6, DESTINATION_V6 = Address.parse("fd00::2"), Address.parse("fd00::3")


def ipv4(kind: int, *, options: bytes = b"", fragment: int = 0, protocol: int = 1) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, 0, 0, fragment, 64, protocol, 0)
    return head + SOURCE.packed + DESTINATION.packed + options + struct.pack(">BBHHH", kind, 0, 0, 77, 5)


def ipv6(kind: int, following: int = 58) -> bytes:
    head = struct.pack(">IHBB", 6 << 28, 8, following, 64) + SOURCE_V6.packed + DESTINATION_V6.packed
    return head + struct.pack(">BBHHH", kind, 0, 0, 77, 5)


@pytest.mark.parametrize("options", [b"", b"\x01" * 8])
def test_an_echo_request(options: bytes) -> None:
    seen = parse_echo(IP, ipv4(8, options=options), "eth0")
    assert seen is not None
    assert (seen.source, seen.destination, seen.identifier, seen.sequence) == (SOURCE, DESTINATION, 77, 5)
    assert seen.interface == "eth0"


def test_an_echo_request_of_ipv6() -> None:
    seen = parse_echo(IPV6, ipv6(128))
    assert seen is not None
    assert (seen.source, seen.destination) == (SOURCE_V6, DESTINATION_V6)


@pytest.mark.parametrize(
    ("protocol", "packet"),
    [
        (IP, ipv4(0)),
        (IP, ipv4(8, fragment=1)),
        (IP, ipv4(8, protocol=17)),
        (IPV6, ipv6(129)),
        (IPV6, ipv6(128, following=44)),
        (0x0806, ipv4(8)),
    ],
)
def test_what_is_no_echo_request(protocol: int, packet: bytes) -> None:
    assert parse_echo(protocol, packet) is None


@given(st.sampled_from([IP, IPV6]), st.binary(max_size=80))
def test_any_bytes_are_taken(protocol: int, packet: bytes) -> None:
    parse_echo(protocol, packet)
