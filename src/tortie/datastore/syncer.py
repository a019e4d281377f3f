"""From a datastore to batches of updates: a snapshot first, then what changes, over every outage.

Each kind is listed, then watched from where the list ended, in a loop of its own. What is kept is key and revision only:
after a fresh list, what is missing from it is told as deleted and what is unchanged is not told again. An update waits in
an inbox with a bound; a newer one of the same key replaces it there, so a slow sink costs no memory and gets fewer updates.
What others wrote and is not valid arrives as `Invalid` (`taking`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

from tortie.aio.backoff import Backoff
from tortie.aio.inbox import Inbox
from tortie.aio.tasks import supervise
from tortie.datastore.store import Cursor, Store
from tortie.errors import AccessDenied, HistoryGone, StoreError
from tortie.resources.resource import Delete, Kind, Put, ResourceKey, Revision, Update
from tortie.resources.taking import taken

BATCH_LIMIT = 500
INBOX_LIMIT = 5000
CHECKED_AT_ONCE = 50
"""Resources that are validated in one go: some 5 ms, before others have their turn."""
FIRST_BACKOFF_SECONDS = 0.1
MOST_BACKOFF_SECONDS = 5.0
DENIED_BACKOFF_SECONDS = 5.0
WAKE_SECONDS = 0.5
"""The least wait after a failure once failures repeat."""

LIST_INTERVAL_SECONDS = 1.0
"""A kind is never listed more often."""

STEADY_SECONDS = 5.0
"""A watch that lived so long was a success: the next failure begins with a short delay again."""


class Batch(NamedTuple):
    """What a sink is given. ``in_sync``: this batch and those before it hold at least one whole snapshot of every kind.
    Once true it stays true, also while the datastore is away."""

    updates: tuple[Update, ...]
    in_sync: bool


class Phase(Enum):
    """Where a kind's loop stands."""

    LISTING = "listing"
    WATCHING = "watching"
    WAITING = "waiting"


@dataclass(frozen=True)
class FeedState:
    """``reason`` says why a loop is `Phase.WAITING`; ``since`` is `time.monotonic`; ``resources`` are those known."""

    phase: Phase
    reason: str = ""
    since: float = 0.0
    resources: int = 0


def _ignore(kind: Kind, state: FeedState) -> None:
    del kind, state


class Syncer:
    """Watches ``kinds``, each whole or the part that ``within`` names. ``on_state`` hears each change of `states`."""

    def __init__(
        self,
        store: Store,
        kinds: Iterable[Kind],
        *,
        within: Mapping[Kind, str] | None = None,
        on_state: Callable[[Kind, FeedState], None] = _ignore,
    ) -> None:
        self._store = store
        self._within = within or {}
        self._on_state = on_state
        self._known: dict[Kind, dict[ResourceKey, Revision | None]] = {kind: {} for kind in kinds}
        self._unlisted = set(self._known)
        self._inbox: Inbox[ResourceKey, Update] = Inbox(INBOX_LIMIT)
        self._checked = 0
        self._something = asyncio.Event()
        self._recovered = asyncio.Event()
        self.states: dict[Kind, FeedState] = {kind: FeedState(Phase.LISTING) for kind in self._known}
        self.in_sync = False

    @property
    def problem(self) -> str:
        """Why the datastore cannot be followed just now; empty when all is well."""
        return next((state.reason for state in self.states.values() if state.phase is Phase.WAITING), "")

    def count(self, kind: Kind) -> int:
        """How many resources of this kind there are, as far as is known."""
        return len(self._known[kind])

    async def run(self, sink: Callable[[Batch], Awaitable[None]]) -> None:
        """Feed the sink, one batch at a time. Eternal: store errors are waited out, anything else ends it."""
        await supervise(
            {
                **{f"sync {kind.name}.{kind.group}": partial(self._follow, kind) for kind in self._known},
                "sync delivery": partial(self._deliver, sink),
            }
        )

    async def _deliver(self, sink: Callable[[Batch], Awaitable[None]]) -> None:
        self._something.set()
        while True:
            await self._something.wait()
            self._something.clear()
            while True:
                updates = self._inbox.take(BATCH_LIMIT)
                became_in_sync = not (self.in_sync or self._unlisted or len(self._inbox))
                if not updates and not became_in_sync:
                    break
                self.in_sync = self.in_sync or became_in_sync
                await sink(Batch(tuple(updates), self.in_sync))

    async def _put(self, update: Update) -> None:
        await self._inbox.put(update.key, update)
        self._something.set()

    async def _follow(self, kind: Kind) -> None:
        backoff = Backoff(first_seconds=FIRST_BACKOFF_SECONDS, most_seconds=MOST_BACKOFF_SECONDS)
        cursor: Cursor | None = None
        listed_at = float("-inf")
        while True:
            began = time.monotonic()
            try:
                if cursor is None:
                    await asyncio.sleep(max(0.0, listed_at + LIST_INTERVAL_SECONDS - began))
                    listed_at = time.monotonic()
                    self._set_state(kind, Phase.LISTING)
                    cursor = await self._list(kind)
                async with self._store.watch(
                    kind, after=cursor, within=self._within.get(kind, "")
                ) as changes:
                    self._set_state(kind, Phase.WATCHING)
                    self._recovered.set()
                    self._recovered = asyncio.Event()
                    async for change in changes:
                        for update in change.updates:
                            await self._take(kind, update)
                        cursor = change.cursor
            except HistoryGone:
                cursor = None
            except StoreError as error:
                if time.monotonic() - began > STEADY_SECONDS:
                    backoff.reset()
                delay = backoff.next_seconds()
                if isinstance(error, AccessDenied):
                    delay = max(delay, DENIED_BACKOFF_SECONDS)
                self._set_state(kind, Phase.WAITING, str(error))
                # When another kind gets through, this one need not wait on; but they must not wake each other round and round.
                recovered = self._recovered
                await asyncio.sleep(min(delay, WAKE_SECONDS))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, delay - WAKE_SECONDS)):
                        await recovered.wait()

    async def _list(self, kind: Kind) -> Cursor:
        """Tell what is new, changed or gone since what is known; the cursor to watch from."""
        known = self._known[kind]
        seen: set[ResourceKey] = set()
        cursor: Cursor | None = None
        async for page in self._store.list(kind, within=self._within.get(kind, "")):
            cursor = page.cursor
            for update in page.updates:
                seen.add(update.key)
                if not (isinstance(update, Put) and known.get(update.key) == update.resource.revision):
                    await self._take(kind, update)
        for key in known.keys() - seen:
            await self._take(kind, Delete(key))
        self._unlisted.discard(kind)
        self._something.set()
        assert cursor is not None, "a list has at least one page"
        return cursor

    async def _take(self, kind: Kind, update: Update) -> None:
        fresh = taken(update)
        if fresh is not update:
            self._checked += 1
            if self._checked % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._put(fresh)
        known = self._known[kind]
        if isinstance(update, Delete):
            known.pop(update.key, None)
        else:
            known[update.key] = update.resource.revision if isinstance(update, Put) else None

    def _set_state(self, kind: Kind, phase: Phase, reason: str = "") -> None:
        state = FeedState(phase, reason, time.monotonic(), len(self._known[kind]))
        self.states[kind] = state
        self._on_state(kind, state)
