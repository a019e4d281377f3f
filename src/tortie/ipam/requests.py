"""What is asked of IPAM, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tortie.datastore.store import NOTHING, Unchanged
from tortie.errors import Conflict
from tortie.ipam.terms import Use
from tortie.net.addresses import Address, Interface, Prefix
from tortie.resources.resource import Resource


@dataclass(frozen=True, kw_only=True)
class AssignRequest:
    """``ipv4`` and ``ipv6`` are numbers of addresses; None is one if there is a pool for it. ``ipv4_pools`` and
    ``ipv6_pools`` are names or CIDRs, and empty for every pool that selects the node and the namespace. ``max_blocks``
    lowers the node's limit of blocks a family; 0 leaves it.

    ``along`` makes a new resource of all the addresses, which is stored by the same write as the last of them: no second
    write, and never the one without the other on a datastore with transactions. It may be called several times. That write
    is made only while what is ``unchanged`` is so."""

    handle: str
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    ipv4: int | None = 1
    ipv6: int | None = 0
    ipv4_pools: tuple[str, ...] = ()
    ipv6_pools: tuple[str, ...] = ()
    max_blocks: int = 0
    use: Use = "Workload"
    namespace_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    along: Callable[[tuple[Address, ...]], Resource[Any]] | None = None
    unchanged: Unchanged = field(default_factory=lambda: NOTHING)


class Outdated(Conflict):
    """What a request relied on (`AssignRequest.unchanged`) is not so any more: nothing was assigned."""


class Assigned(NamedTuple):
    """An address, the block it lies in, and the name of its pool (empty for one whose pool is gone)."""

    address: Address
    block: Prefix
    pool: str

    @property
    def interface(self) -> Interface:
        """As Calico's library returns it, with the block's length; a pod's interface gets /32 or /128."""
        return Interface(self.address, self.block.length)


@dataclass(frozen=True)
class Assignment:
    """What a request got: everything it asked for. Iterates over the bare addresses, IPv4 first.

    ``along`` is what was stored with them; None when nothing was: there is such a resource already, or the addresses had
    been assigned before.
    """

    addresses: tuple[Assigned, ...]
    along: Resource[Any] | None = None

    def __iter__(self) -> Iterator[Address]:
        return iter(each.address for each in self.addresses)

    def __len__(self) -> int:
        return len(self.addresses)


class Release(NamedTuple):
    """An address to be given back, if ``handle`` has it (None: whoever has) under ``sequence`` (None: whichever)."""

    address: Address
    handle: str | None = None
    sequence: int | None = None


class LeavingMoved(Exception):
    """Someone else wrote the resource that was to leave with the addresses: nothing was written."""


@dataclass
class Leaving:
    """A resource that is to be deleted, at its revision, by the first write that gives an address back; ``gone`` says
    whether it was."""

    resource: Resource[Any]
    gone: bool = False
