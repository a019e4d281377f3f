"""The packet that is asked about: the first of a connection, as policy sees it."""

from __future__ import annotations

from typing import NamedTuple

from tortie.net.addresses import Address

ICMP, TCP, UDP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 58, 132, 136

PROTOCOL_NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6", SCTP: "sctp", UDPLITE: "udplite"}
WITH_PORTS = frozenset({TCP, UDP, SCTP, UDPLITE})

SOURCE_PORT = 49152
"""The client's port where nobody names one: the first of those that are for such use."""


class Packet(NamedTuple):
    """Protocols are numbers. Ports are None where the protocol has none, ``icmp_type`` and ``icmp_code`` where it is not ICMP."""

    source: Address
    destination: Address
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


def protocol_name(number: int) -> str:
    """``tcp``; the number itself where it has no name here."""
    return PROTOCOL_NAMES.get(number, str(number))
