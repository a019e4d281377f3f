"""Packets and addresses, as plain numbers."""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import NamedTuple

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
WITH_PORTS = (6, 17, 132)


class Packet(NamedTuple):
    """The first packet of a connection. Ports where the protocol has some, type and code where it is an ICMP."""

    source: str
    destination: str
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    icmp_type: int = -1
    icmp_code: int = -1

    @property
    def version(self) -> int:
        return 6 if ":" in self.source else 4


class Net(NamedTuple):
    """All addresses from the first to the last."""

    version: int
    first: int
    last: int

    def holds(self, address: str) -> bool:
        version, value = number(address)
        return version == self.version and self.first <= value <= self.last


@cache
def number(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)


@cache
def net(text: str) -> Net:
    """``10.0.0.0/8`` or a single address; bits beyond the length do not count."""
    parsed = ipaddress.ip_network(text, strict=False)
    return Net(parsed.version, int(parsed.network_address), int(parsed.broadcast_address))


@cache
def protocol(value: int | str) -> int:
    """A protocol by its number, or by its name in any case."""
    if isinstance(value, int):
        return value
    return int(value) if value.isdigit() else PROTOCOLS[value.lower()]
