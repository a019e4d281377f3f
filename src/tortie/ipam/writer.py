"""One block, written by this process: changes that arrive while a write is under way become the next write together.

So a hundred pods that start at once on a node cost a few writes of its block, not a hundred that fight each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from tortie.aio.checkpoints import checkpoint
from tortie.aio.tasks import Group
from tortie.datastore.store import Store
from tortie.errors import Conflict, NotFound
from tortie.ipam.blocks import Edit
from tortie.ipam.handles import ATTEMPTS, retry_delays
from tortie.ipam.records import Block, find_block
from tortie.net.addresses import Prefix
from tortie.observe.clock import Clock
from tortie.resources.allocation_block import AllocationBlockSpec

T = TypeVar("T")


class BlockGone(Exception):
    """The block does not exist (any more)."""


class Stale(Exception):
    """Raised by a change that would rather see the block as it is now than as it is remembered (not `BlockWriter.fresh`)."""


Change = Callable[[AllocationBlockSpec, Edit], T]
"""Makes its edits and returns its result. May run several times, over newer states of the block; must not wait."""


class _Waiting(Generic[T]):
    def __init__(self, change: Change[T], future: asyncio.Future[T]) -> None:
        self.change = change
        self.future = future


class BlockWriter:
    """Applies changes to one block, in the order in which they came."""

    def __init__(self, store: Store, cidr: Prefix, writes: Group, clock: Clock) -> None:
        self.cidr = cidr
        self.known: Block | None = None
        """The block as we last saw or wrote it; None when it has to be read."""
        self.fresh = False
        """For changes while they run: whether the block was read for this very write."""
        self.promised = 0
        """How many addresses are about to be asked for by those who have not come to `apply` yet."""
        self.cooldown_seconds = 0
        self.conflicts = 0
        self._store = store
        self._clock = clock
        self._writes = writes
        self._waiting: deque[_Waiting[Any]] = deque()
        self._writing = False

    @property
    def idle(self) -> bool:
        return not self._writing and not self._waiting and not self.promised

    def room(self, reserved: Collection[int]) -> int:
        """How many addresses it probably has for a newcomer; ``reserved`` ordinals are not to be given."""
        if self.known is None:
            return 0
        unallocated = self.known.spec.unallocated
        free = len(unallocated) if not reserved else sum(1 for each in unallocated if each not in reserved)
        return free - self.promised

    def warm_room(self, reserved: Collection[int]) -> int:
        """The same, also counting what has cooled down since the block was written."""
        if self.known is None:
            return 0
        edit = Edit(self.known.spec, now=self._now(), cooldown_seconds=self.cooldown_seconds)
        return edit.free(reserved) - self.promised

    async def read(self) -> Block | None:
        """As it stands now; remembered, unless a write is under way that knows better."""
        found = await find_block(self._store, self.cidr)
        if not self._writing:
            self.known = found
        return found

    async def apply(self, change: Change[T]) -> T:
        """Have the change written. Raises `BlockGone`, `Conflict` after 100 tries, whatever the change raises, and
        `StoreError`; after the last the change may have happened all the same."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(change, future))
        if not self._writing:
            self._writing = True
            self._writes.start(f"write {self.cidr}", self._write_all())
        return await future

    async def _write_all(self) -> None:
        batch: list[_Waiting[Any]] = []
        try:
            while self._waiting:
                batch = [each for each in self._waiting if not each.future.cancelled()]
                self._waiting.clear()
                if batch:
                    await self._write(batch)
        except BaseException as error:
            self.known = None
            for each in (*batch, *self._waiting):
                if each.future.done():
                    continue
                if isinstance(error, Exception):
                    each.future.set_exception(error)
                else:
                    each.future.cancel()
            self._waiting.clear()
            if not isinstance(error, Exception):
                raise
        finally:
            self._writing = False

    async def _write(self, batch: list[_Waiting[Any]]) -> None:
        delays = retry_delays()
        for _ in range(ATTEMPTS):
            self.fresh = self.known is None
            if self.fresh:
                self.known = await find_block(self._store, self.cidr)
            block = self.known
            if block is None:
                _fail(batch, BlockGone(str(self.cidr)))
                return
            edit = Edit(block.spec, now=self._now(), cooldown_seconds=self.cooldown_seconds)
            results: list[tuple[_Waiting[Any], Any]] = []
            try:
                for each in batch:
                    try:
                        results.append((each, each.change(block.spec, edit)))
                    except Stale:
                        raise
                    except Exception as error:
                        _fail([each], error)
            except Stale:
                self.known = None
                continue
            batch = [each for each, _ in results]
            spec = edit.finish()
            if spec is not None:
                try:
                    checkpoint("ipam.block")
                    self.known = await self._store.update(block.with_spec(spec))
                    checkpoint("ipam.block.written")
                except (Conflict, NotFound):
                    self.known = None
                    self.conflicts += 1
                    await asyncio.sleep(delays.next_seconds())
                    continue
            for each, result in results:
                if not each.future.done():
                    each.future.set_result(result)
            return
        _fail(batch, Conflict(f"block {self.cidr}"))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)


def _fail(batch: list[_Waiting[Any]], error: Exception) -> None:
    for each in batch:
        if not each.future.done():
            each.future.set_exception(error)
