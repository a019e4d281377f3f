"""One block, written by this process: changes that arrive while a write is under way become the next write together.

So a hundred pods that start at once on a node cost a few writes of its block, not a hundred that fight each other. A change
may bring a handle that is written along: before the block when it comes or grows, after it when it goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from tortie.aio.checkpoints import checkpoint
from tortie.aio.tasks import Group
from tortie.datastore.store import MOST_AT_ONCE, NOTHING, Store, Unchanged
from tortie.errors import AlreadyExists, Conflict, NotFound
from tortie.ipam.blocks import Edit
from tortie.ipam.handles import ATTEMPTS, retry_delays
from tortie.ipam.records import Block, Handle, find_block
from tortie.ipam.requests import Leaving, LeavingMoved, Outdated
from tortie.net.addresses import Prefix
from tortie.observe.clock import Clock
from tortie.resources.allocation_block import AllocationBlockSpec
from tortie.resources.resource import Resource, ResourceKey, Revision

T = TypeVar("T")

CHANGES_AT_ONCE = (MOST_AT_ONCE - 1) // 3
"""Each writes a handle at most, and what rides along, and relies on one resource; all write the block."""


class BlockGone(Exception):
    """The block does not exist (any more)."""


class Stale(Exception):
    """Raised by a change that would rather see the block as it is now than as it is remembered (not `BlockWriter.fresh`)."""


class HandleMoved(Exception):
    """Someone else wrote the handle that a change brought: nothing of the change was written."""


@dataclass
class Made(Generic[T]):
    """What a change comes to, and the handle to be stored (``put``) or deleted (``gone``) with it, if any.

    ``stored`` is the handle as it then stands. ``along`` is a new resource that rides along, after the block: when there
    is one at its key already it is left out, which is no failure; ``along_stored`` is how it then stands. ``leaving`` is
    deleted along. Nothing of it is written unless what is ``unchanged`` is so.
    """

    result: T
    put: Handle | None = None
    gone: Handle | None = None
    stored: Handle | None = None
    along: Resource[Any] | None = None
    along_stored: Resource[Any] | None = None
    leaving: Leaving | None = None
    unchanged: Unchanged = field(default_factory=lambda: NOTHING)

    @property
    def handle(self) -> str:
        brought = self.put or self.gone
        return str(brought.key) if brought is not None else ""


Change = Callable[[AllocationBlockSpec, Edit], Made[T]]
"""Makes its edits and returns its result. May run several times, over newer states of the block; must not wait."""


class _Waiting(Generic[T]):
    def __init__(self, change: Change[T], future: asyncio.Future[Made[T]]) -> None:
        self.change = change
        self.future = future
        self.alone = False
        """Its ``along`` is not to be written: there is one already."""


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
        self._quiet = asyncio.Event()
        self._quiet.set()

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

    async def apply(self, change: Change[T]) -> Made[T]:
        """Have the change written. Raises `BlockGone`, `HandleMoved`, `Outdated`, `Conflict` after 100 tries, whatever the change
        raises, and `StoreError`; after the last the change may have happened all the same."""
        future: asyncio.Future[Made[T]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(change, future))
        if not self._writing:
            self._writing = True
            self._writes.start(f"write {self.cidr}", self._write_all())
        return await future

    async def _write_all(self) -> None:
        batch: list[_Waiting[Any]] = []
        try:
            while self._waiting:
                batch = []
                while self._waiting and len(batch) < CHANGES_AT_ONCE:
                    each = self._waiting.popleft()
                    if not each.future.cancelled():
                        batch.append(each)
                if batch:
                    self._quiet.clear()
                    await self._write(batch)
                    self._quiet.set()
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
            self._quiet.set()

    async def settled(self) -> None:
        """Until the write under way, if any, has ended: a change whose caller was cancelled stands by then or never will."""
        await self._quiet.wait()

    async def _write(self, batch: list[_Waiting[Any]]) -> None:
        delays = retry_delays()
        for _ in range(ATTEMPTS):
            batch = [
                each for each in batch if not each.future.done()
            ]  # whoever was cancelled wants nothing any more
            self.fresh = self.known is None
            if self.fresh:
                self.known = await find_block(self._store, self.cidr)
            if self.known is None:
                _fail(batch, BlockGone(str(self.cidr)))
                return
            try:
                edit, results = self._run(batch, self.known)
            except Stale:
                self.known = None
                continue
            batch = [each for each, _ in results]
            moved = await self._store_all(self.known, edit, [made for _, made in results])
            if moved is None:
                for each, made in results:
                    if not each.future.done():
                        each.future.set_result(made)
                return
            if moved:
                _fail([each for each, made in results if made.handle == moved], HandleMoved(moved))
                left = [
                    each for each, made in results if made.leaving and str(made.leaving.resource.key) == moved
                ]
                _fail(left, LeavingMoved(moved))
                outdated = [
                    each for each, made in results if any(str(key) == moved for key in made.unchanged)
                ]
                _fail(outdated, Outdated(moved))
                for each, made in results:
                    each.alone = each.alone or (made.along is not None and str(made.along.key) == moved)
            else:
                self.known = None
                self.conflicts += 1
                await asyncio.sleep(delays.next_seconds())
        _fail(batch, Conflict(f"block {self.cidr}"))

    def _run(
        self, batch: list[_Waiting[Any]], block: Block
    ) -> tuple[Edit, list[tuple[_Waiting[Any], Made[Any]]]]:
        """Let each make its edits. A handle can be written once at a time: who brings it again waits for the next round, and
        so does who relies on the contrary of another."""
        while True:
            edit = Edit(block.spec, now=self._now(), cooldown_seconds=self.cooldown_seconds)
            results: list[tuple[_Waiting[Any], Made[Any]]] = []
            brought: set[str] = set()
            relied_on: dict[ResourceKey, Revision | None] = {}
            for each in batch:
                try:
                    made = each.change(block.spec, edit)
                    if each.alone:
                        made.along = None
                except Stale:
                    raise
                except Exception as error:
                    _fail([each], error)
                    continue
                if made.handle and made.handle in brought:
                    break
                if any(relied_on.get(key, stood) != stood for key, stood in made.unchanged.items()):
                    break
                brought.add(made.handle)
                relied_on.update(made.unchanged)
                results.append((each, made))
            else:
                return edit, results
            batch = [other for other in batch if other is not each and not other.future.done()]
            self._waiting.append(each)

    async def _store_all(self, block: Block, edit: Edit, made: list[Made[Any]]) -> str | None:
        """Write it. None when it stands; else what someone else wrote first, or "" when it was the block."""
        spec = edit.finish()
        bringing = [each for each in made if each.put is not None]
        puts: list[Resource[Any]] = [each.put for each in bringing if each.put is not None]
        leaving = [each.leaving for each in made if each.leaving is not None]
        gone: list[Resource[Any]] = [each.gone for each in made if each.gone is not None]
        gone += [each.resource for each in leaving]
        if spec is None and not puts and not gone:
            return None
        if spec is not None:
            puts.append(block.with_spec(spec))
        riding = [each for each in made if each.along is not None]
        puts += [each.along for each in riding if each.along is not None]
        unchanged = {key: revision for each in made for key, revision in each.unchanged.items()}
        checkpoint("ipam.block")
        try:
            stored = await self._store.write(puts, gone=gone, unchanged=unchanged)
        except (AlreadyExists, Conflict, NotFound) as error:
            return "" if error.key == str(block.key) else error.key
        checkpoint("ipam.block.written")
        for each, handle in zip(bringing, stored, strict=False):
            each.stored = handle
        for one in leaving:
            one.gone = True
        if spec is not None:
            self.known = stored[len(bringing)]
        for each, resource in zip(riding, stored[len(stored) - len(riding) :], strict=True):
            each.along_stored = resource
        return None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)


def _fail(batch: list[_Waiting[Any]], error: Exception) -> None:
    for each in batch:
        if not each.future.done():
            each.future.set_exception(error)
