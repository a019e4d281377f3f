"""The ports through which the dataplane and the workloads reach the kernel: what a driver may ask for, and no more.

Implementations: `rtnetlink.RouteSocket`, `nft.NftSocket`, `conntrack.ConntrackSocket`, `monitor.RouteMonitor`. Everything
blocks, far below a millisecond but for reading much at once; one thread at a time. All raise `KernelError`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tortie.errors import KernelError
from tortie.host.conntrack import Flow
from tortie.host.links import Link, LinkAddress
from tortie.host.nft import NftKey, NftValue
from tortie.host.routes import Route
from tortie.kernel.monitor import Event
from tortie.kernel.netlink import Request
from tortie.kernel.nft import Batch, Refused
from tortie.kernel.nft_news import News
from tortie.net.addresses import Address, Interface


class Routing(Protocol):
    """Links, addresses and routes of a namespace. What is asked for by name or index is None where there is none."""

    @property
    def port(self) -> int:
        """Events name it as the cause of what was changed through this port."""
        ...

    def names(self) -> dict[int, str]:
        """Every interface's name by its index."""
        ...

    def link(self, name: str) -> Link | None: ...

    def index(self, name: str) -> int | None: ...

    def link_with_switches(self, name: str) -> tuple[Link, dict[str, int]] | None: ...

    def links_with_switches(self) -> list[tuple[Link, dict[str, int]]]: ...

    def set_link(
        self,
        index: int,
        *,
        subject: str = "",
        up: bool | None = None,
        switches: Mapping[str, int] | None = None,
    ) -> None: ...

    def addresses(self, index: int = 0, *, version: int = 0) -> list[LinkAddress]: ...

    def add_address(
        self, index: int, address: Interface, *, scope: int = 0, no_dad: bool = False
    ) -> None: ...

    def delete_address(self, index: int, address: Interface) -> bool: ...

    def routes(
        self,
        version: int,
        *,
        table: int = 0,
        protocol: int = 0,
        ifindex: int = 0,
        names: Mapping[int, str] | None = None,
    ) -> list[Route]: ...

    def neighbour_limit(self, version: int) -> int | None: ...

    def batch(self, requests: Sequence[Request]) -> Mapping[int, KernelError]:
        """Do many things in order; one that fails does not stop the next. Returns what failed, by position."""
        ...


class Rules(Protocol):
    """nf_tables of a namespace."""

    def generation(self) -> int:
        """Counts every change by anybody."""
        ...

    def news(self) -> News:
        """What others did since the last time; the first time it begins to listen."""
        ...

    def read(self) -> dict[NftKey, NftValue]: ...

    def commit(self, batch: Batch) -> Refused | None:
        """All of it or nothing; None says all."""
        ...


class Flows(Protocol):
    """Connection tracking of a namespace."""

    def count(self) -> int: ...

    def flows(self, version: int, address: Address | None = None) -> list[Flow]: ...

    def flush(self, addresses: Collection[Address]) -> int:
        """Forget every flow that bears one of these; returns how many there were."""
        ...


class Monitor(Protocol):
    """What changes in a namespace, as it happens."""

    def fileno(self) -> int: ...

    def read(self, most: int = 64) -> list[Event]: ...
