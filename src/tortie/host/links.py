"""Network interfaces and their addresses."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.net.addresses import Address, Interface


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
