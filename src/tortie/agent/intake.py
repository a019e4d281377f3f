"""What waits for the calculation: batches of the syncer, and what this agent has just written itself.

A WorkloadEndpoint that an ADD publishes enters at once, without the way through the datastore and back. Until the datastore
has sent that very state, whatever it says of the key is older, and waits aside; after a second it counts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tortie.aio.inbox import Inbox
from tortie.resources.resource import Put, ResourceKey, Revision, Update

LIMIT = 5000
ECHO_SECONDS = 1.0


class _Awaited:
    """A write of our own whose echo has not come back yet. ``revision`` None: it was a deletion."""

    def __init__(self, revision: Revision | None, timer: asyncio.TimerHandle) -> None:
        self.revision = revision
        self.timer = timer
        self.aside: Update | None = None


class Intake:
    """An inbox of updates by key, in which our own writes come first."""

    def __init__(self) -> None:
        self._inbox: Inbox[ResourceKey, Update] = Inbox(LIMIT)
        self._awaited: dict[ResourceKey, _Awaited] = {}
        self.in_sync = False
        """The syncer has handed over a whole snapshot; it counts once the inbox is empty."""

    def __len__(self) -> int:
        return len(self._inbox)

    async def receive(self, updates: Sequence[Update], *, in_sync: bool) -> None:
        """Take a batch of the syncer. Waits while there is no room."""
        for update in updates:
            if not self._stands_aside(update):
                await self._inbox.put(update.key, update)
        self.in_sync = self.in_sync or in_sync

    def write_through(self, update: Update) -> None:
        """The datastore holds this now: we wrote it ourselves."""
        key = update.key
        revision = update.resource.revision if isinstance(update, Put) else None
        if (previous := self._awaited.pop(key, None)) is not None:
            previous.timer.cancel()
        timer = asyncio.get_running_loop().call_later(ECHO_SECONDS, self._expire, key)
        self._awaited[key] = _Awaited(revision, timer)
        self._inbox.put_now(key, update)

    def take(self, most: int) -> list[Update]:
        return self._inbox.take(most)

    async def wait(self) -> None:
        await self._inbox.wait()

    def _stands_aside(self, update: Update) -> bool:
        awaited = self._awaited.get(update.key)
        if awaited is None:
            return False
        revision = update.resource.revision if isinstance(update, Put) else None
        if revision != awaited.revision:
            awaited.aside = update
            return True
        awaited.timer.cancel()
        del self._awaited[update.key]
        return False

    def _expire(self, key: ResourceKey) -> None:
        awaited = self._awaited.pop(key)
        if awaited.aside is not None:
            self._inbox.put_now(key, awaited.aside)
