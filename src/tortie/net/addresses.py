"""IP addresses and prefixes as small values: a version and an integer.

`ipaddress` parses and prints; between those two everything works on integers, which are an order of magnitude faster
and smaller (see ``docs/benchmarks.md``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Version = Literal[4, 6]
BITS: dict[int, int] = {4: 32, 6: 128}


_IPV4 = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:/32)?", re.ASCII)


def _ipv4_value(match: re.Match[str]) -> int | None:
    """The value of an address in four parts; None for what needs a closer look."""
    value = 0
    for part in match.groups():
        number = int(part)
        if number > 255 or (part[0] == "0" and len(part) > 1):
            return None
        value = value << 8 | number
    return value


def _refuse_zone_and_mask(text: str) -> None:
    """What `ipaddress` takes besides a CIDR, and would read as more than was meant: ``10.0.0.0/0.0.0.255``, ``fe80::1%eth0``."""
    _, slash, length = text.partition("/")
    if "%" in text:
        raise ValueError(f"{text!r} has a zone; an address without one is needed")
    if slash and not (length.isascii() and length.isdigit()):
        raise ValueError(f"{text!r} has no length after its /")


class Address(NamedTuple):
    """One IPv4 or IPv6 address. Orders by version, then value."""

    version: Version
    value: int

    @staticmethod
    def parse(text: str) -> Address:
        """Raises `ValueError` for anything but one plain address."""
        parsed = ipaddress.ip_address(text)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id:
            raise ValueError(f"{text!r} has a zone; an address without one is needed")
        return Address(parsed.version, int(parsed))

    @staticmethod
    def from_packed(packed: bytes) -> Address:
        """From 4 or 16 bytes in network order."""
        return Address(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big"))

    @property
    def packed(self) -> bytes:
        return self.value.to_bytes(BITS[self.version] // 8, "big")

    @property
    def prefix(self) -> Prefix:
        """The /32 or /128 that holds just this address."""
        return Prefix(self.version, self.value, BITS[self.version])

    def __str__(self) -> str:
        if self.version == 4:
            value = self.value
            return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
        return str(ipaddress.IPv6Address(self.value))


class Prefix(NamedTuple):
    """A CIDR without host bits. ``value`` is its first address as an integer."""

    version: Version
    value: int
    length: int

    @staticmethod
    def parse(text: str, *, strict: bool = True) -> Prefix:
        """A bare address becomes a /32 or /128. ``strict`` refuses host bits, else they are cleared.

        Raises `ValueError`.
        """
        if (quick := _IPV4.fullmatch(text)) and (value := _ipv4_value(quick)) is not None:
            # The form in which nearly all are stored, an order of magnitude faster.
            return Prefix(4, value, 32)
        _refuse_zone_and_mask(text)
        parsed = ipaddress.ip_network(text, strict=strict)
        return Prefix(parsed.version, int(parsed.network_address), parsed.prefixlen)

    @property
    def address(self) -> Address:
        """The first address."""
        return Address(self.version, self.value)

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return 1 << (BITS[self.version] - self.length)

    @property
    def last(self) -> int:
        """The last address, as an integer."""
        return self.value + self.size - 1

    @property
    def is_single(self) -> bool:
        return self.length == BITS[self.version]

    def holds(self, address: Address) -> bool:
        return address.version == self.version and self.value <= address.value <= self.last

    def contains(self, other: Prefix) -> bool:
        """Whether every address of ``other`` is in here."""
        return (
            other.version == self.version
            and other.length >= self.length
            and self.value <= other.value <= self.last
        )

    def overlaps(self, other: Prefix) -> bool:
        return self.contains(other) or other.contains(self)

    def subnets(self, length: int) -> Iterator[Prefix]:
        """The prefixes of ``length`` bits in here, in order."""
        step = 1 << (BITS[self.version] - length)
        for value in range(self.value, self.last + 1, step):
            yield Prefix(self.version, value, length)

    def supernet(self, length: int) -> Prefix:
        """The prefix of ``length`` bits around it."""
        host_bits = BITS[self.version] - length
        return Prefix(self.version, self.value >> host_bits << host_bits, length)

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"


class Interface(NamedTuple):
    """An address as an interface carries it: ``172.30.0.11/24``."""

    address: Address
    length: int

    @staticmethod
    def parse(text: str) -> Interface:
        """A bare address gets /32 or /128. Raises `ValueError`."""
        _refuse_zone_and_mask(text)
        parsed = ipaddress.ip_interface(text)
        return Interface(Address(parsed.version, int(parsed.ip)), parsed.network.prefixlen)

    @property
    def network(self) -> Prefix:
        return self.address.prefix.supernet(self.length)

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"
