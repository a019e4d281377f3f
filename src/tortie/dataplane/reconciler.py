"""A driver with its tracker: one sort of kernel object, kept in line."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tortie.dataplane.api import Driver, Manager
from tortie.dataplane.delta_tracker import DeltaTracker, Pending
from tortie.errors import TortieError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Reconciler(Generic[K, V]):
    """Managers say in ``tracker`` what they want; `remove` and `put`, or both at once by `apply`, make it so.

    ``failed`` holds every key that is not in line, until it is or nobody wants it.
    """

    def __init__(self, driver: Driver[K, V], tracker: DeltaTracker[K, V]) -> None:
        self.tracker = tracker
        self.failed: dict[K, TortieError] = {}
        self.puts = 0
        """How many keys were handed to the driver to put; `removals` likewise. Nothing is, for an unchanged state."""
        self.removals = 0
        self._driver = driver
        self._pending: Pending[K, V] = Pending()

    @property
    def name(self) -> str:
        return self._driver.name

    async def read(self) -> None:
        """See everything anew. Raises what the driver raises, and nothing is changed then."""
        self.tracker.saw(await self._driver.read())

    def saw(self, actual: Mapping[K, V], only: Collection[K]) -> None:
        """Someone looked at these keys."""
        self.tracker.saw(actual, only=only)

    def begin(self) -> Pending[K, V]:
        """Decide what this round does: `remove` and `put` do just that. What an earlier round left undone comes again."""
        left = self._pending
        self.tracker.failed([*left.put, *left.gone])
        pending = self._pending = self.tracker.take()
        if self.failed:
            # What failed comes again, unless it was seen to be right since.
            self.failed = {k: e for k, e in self.failed.items() if k in pending.put or k in pending.gone}
        return pending

    async def remove(self) -> None:
        """The round's removals."""
        gone, self._pending = self._pending.gone, Pending(self._pending.put)
        await self._do({}, gone)

    async def put(self) -> None:
        """The round's puts."""
        put, self._pending = self._pending.put, Pending({}, self._pending.gone)
        await self._do(put, frozenset())

    async def apply(self) -> None:
        """All of the round at once."""
        pending, self._pending = self._pending, Pending()
        await self._do(pending.put, pending.gone)

    async def _do(self, put: Mapping[K, V], gone: frozenset[K]) -> None:
        if not put and not gone:
            return
        self.puts += len(put)
        self.removals += len(gone)
        try:
            outcome = await self._driver.apply(put, gone)
        except BaseException as error:
            keys = [*put, *gone]
            self.tracker.failed(keys)
            if isinstance(error, TortieError):
                self.failed.update(dict.fromkeys(keys, error))
                return
            raise
        failed = outcome.failed
        self.tracker.did(
            {key: value for key, value in put.items() if key not in failed} if failed else put,
            gone.difference(failed),
        )
        self.tracker.failed(failed)
        for key in (*put, *gone):
            self.failed.pop(key, None)
        self.failed.update(failed)


@dataclass(frozen=True, eq=False)
class Stage:
    """Managers and the one driver that makes real what they want. A plane takes any number of these."""

    managers: tuple[Manager, ...]
    reconciler: Reconciler[Any, Any]

    @staticmethod
    def of(manager: Manager, driver: Driver[K, V], tracker: DeltaTracker[K, V]) -> Stage:
        """One manager, which tells ``tracker`` what it wants, and one driver."""
        return Stage((manager,), Reconciler(driver, tracker))
