"""Flows that the kernel's connection tracking knows."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.net.addresses import Address


@dataclass(frozen=True, slots=True)
class FlowTuple:
    """One direction of a flow. Ports are 0 for protocols that have none."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow: ``original`` as its first packet came, ``reply`` as the answers come, which tells of NAT.

    ``handle`` is how the kernel knows it.
    """

    original: FlowTuple
    reply: FlowTuple
    mark: int = 0
    handle: bytes = b""

    @property
    def addresses(self) -> frozenset[Address]:
        """Every address that it bears, before and after translation."""
        original, reply = self.original, self.reply
        return frozenset((original.source, original.destination, reply.source, reply.destination))
