"""Network interfaces and their addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tortie.net.addresses import Address, Interface

COMMON_SEGMENTS = 65536
"""What nearly every interface has for both IP versions, and a tunnel no more than."""


class SegmentSizes(NamedTuple):
    """How large a packet an interface takes over, to be cut into segments for the line there or behind it
    (``gso_ipv4_max_size``, ``gso_max_size``). One that is larger is cut by the CPU before. 0: not known."""

    ipv4: int = 0
    ipv6: int = 0


UNKNOWN_SEGMENTS = SegmentSizes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One interface. ``kind`` as ``ip -d link`` names it (``veth``; empty for what has none), ``mac`` in hex with colons.

    ``up`` is what was asked for (IFF_UP), ``running`` what the line says. ``peer`` is the other end's index, in the
    namespace ``peer_namespace`` (-1: this one).
    """

    name: str
    index: int
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    segments: SegmentSizes = UNKNOWN_SEGMENTS
    up: bool = False
    running: bool = False
    loopback: bool = False
    master: int = 0
    peer: int = 0
    peer_namespace: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkAddress:
    """An address on an interface. ``scope`` as rtnetlink counts: 0 global, 253 link, 254 host."""

    index: int
    interface: Interface
    scope: int = 0
    permanent: bool = True
    tentative: bool = False
    peer: Address | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """An entry of the neighbour table: who has ``address`` on the interface."""

    index: int
    address: Address
    mac: str = ""
    permanent: bool = False
    proxy: bool = False
    learned: bool = False
    """Told by a program: it ages as any other, but neither counts against the kernel's limit nor is it thrown out for it."""
