"""The contracts of the dataplane: what takes a flush, what converts it, what makes it real."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from tortie.desired.table import Delta, DesiredKey, Flush
from tortie.errors import TortieError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, eq=False)
class Applied:
    """What became of everything up to ``generation``: all of it is real but what ``failed`` names.

    ``failed`` holds every row that is not real now, also those of earlier flushes.
    """

    generation: int
    failed: Mapping[DesiredKey, TortieError] = field(default_factory=dict[DesiredKey, TortieError])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a driver could not do, by key; everything else it was given is done."""

    failed: Mapping[Any, TortieError] = field(default_factory=dict[Any, TortieError])


class Manager(Protocol):
    """Turns rows into values of ``host``. No I/O."""

    def on_delta(self, delta: Delta[Any, Any]) -> None:
        """Take note of a change; do the work in `settle`."""
        ...

    def settle(self) -> None:
        """Convert what is dirty, once, before the drivers run; the manager's tracker hears of it."""
        ...

    def blame(self, failed: Mapping[Any, TortieError]) -> Mapping[DesiredKey, TortieError]:
        """The rows that are not real: what the driver failed at, by its own keys, and what cannot be converted."""
        ...


class Driver(Protocol[K, V]):
    """Brings one sort of kernel object in line. Idempotent: deleting what is gone is success."""

    name: ClassVar[str]

    async def read(self) -> Mapping[K, V]:
        """What the kernel has now, of what we own."""
        ...

    async def apply(self, put: Mapping[K, V], gone: frozenset[K]) -> Outcome:
        """Bring these keys in line. One call may be one kernel transaction."""
        ...


class Dataplane(Protocol):
    """Implementations: ``dataplane.linux.plane`` and ``testing.recording``; one contract suite holds both."""

    async def start(self) -> None:
        """Open the kernel; read what is there. Raises `DataplaneUnsupported`, `KernelError`."""
        ...

    async def apply(self, flush: Flush) -> Applied:
        """Make the flush real. Until ``flush.in_sync`` only remember it. A row that fails is named in the result and
        retried by `apply` or `resync`; it raises only when nothing can be done at all."""
        ...

    async def resync(self) -> Applied:
        """Read the kernel anew and repair what drifted; also retries what failed."""
        ...

    async def close(self) -> None:
        """Let go of sockets and threads. What is in the kernel stays."""
        ...
