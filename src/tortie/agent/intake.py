"""What waits for the calculation: batches of the syncer, and what this agent writes itself.

A WorkloadEndpoint that an ADD publishes enters at once, without the way through the datastore and back. From the moment that we
begin to write a key, whatever the datastore says of it stands aside: it may be older. When it has sent what we wrote, which we
know already, or after a second, it counts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tortie.aio.inbox import Inbox
from tortie.resources.resource import Delete, Put, ResourceKey, Update

LIMIT = 5000
ECHO_SECONDS = 1.0


class _Awaited:
    """A write of our own whose echo has not come back yet. ``expected`` is None while it is under way."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.expected: Update | None = None
        self.at_hand = False
        """Whether what we write is in already."""
        self.aside: Update | None = None
        """The last that the datastore said meanwhile. Kept until the echo comes after it: it may be news."""


class Intake:
    """An inbox of updates by key, in which our own writes come first."""

    def __init__(self) -> None:
        self._inbox: Inbox[ResourceKey, Update] = Inbox(LIMIT)
        self._awaited: dict[ResourceKey, _Awaited] = {}
        self.in_sync = False
        """The syncer has handed over a whole snapshot; it counts once the inbox is empty."""

    def __len__(self) -> int:
        return len(self._inbox)

    @property
    def writing(self) -> bool:
        """Whether a write of our own is under way that will be handed in when it is done."""
        return any(each.expected is None and not each.at_hand for each in self._awaited.values())

    async def receive(self, updates: Sequence[Update], *, in_sync: bool) -> None:
        """Take a batch of the syncer. Waits while there is no room."""
        for update in updates:
            if not self._stands_aside(update):
                await self._inbox.put(update.key, update)
        self.in_sync = self.in_sync or in_sync

    def hold(self, key: ResourceKey) -> None:
        """We are about to write this key."""
        self._await(key)

    def announce(self, update: Update) -> None:
        """We are about to write this: let it in already. `write_through` or `give_up` follows. Take it, or `ring`."""
        self._await(update.key).at_hand = True
        self._inbox.put_now(update.key, update)

    def write_through(self, update: Update) -> None:
        """The datastore holds this now: we wrote it ourselves. Take it, or `ring`."""
        self._await(update.key).expected = update
        self._inbox.put_now(update.key, update)

    def give_up(self, update: Update) -> None:
        """What we were about to write is not written; this is what was there before, as far as we know."""
        awaited = self._awaited.pop(update.key, None)
        if awaited is not None:
            awaited.timer.cancel()
        newer = awaited.aside if awaited is not None else None
        self._inbox.put_now(update.key, newer or update)
        self._inbox.ring()

    def ring(self) -> None:
        """Wake who waits."""
        self._inbox.ring()

    def _await(self, key: ResourceKey) -> _Awaited:
        timer = asyncio.get_running_loop().call_later(ECHO_SECONDS, self._expire, key)
        awaited = self._awaited.get(key)
        if awaited is None:
            awaited = self._awaited[key] = _Awaited(timer)
        else:
            awaited.timer.cancel()
            awaited.timer = timer
        return awaited

    def take(self, most: int) -> list[Update]:
        return self._inbox.take(most)

    async def wait(self) -> None:
        await self._inbox.wait()

    def _stands_aside(self, update: Update) -> bool:
        awaited = self._awaited.get(update.key)
        if awaited is None:
            return False
        if awaited.expected is None or not _is_echo(update, awaited.expected):
            awaited.aside = update
            return True
        awaited.timer.cancel()
        del self._awaited[update.key]
        return True

    def _expire(self, key: ResourceKey) -> None:
        awaited = self._awaited.pop(key)
        if awaited.aside is not None:
            self._inbox.put_now(key, awaited.aside)
            self._inbox.ring()


def _is_echo(update: Update, written: Update) -> bool:
    if isinstance(written, Put):
        return isinstance(update, Put) and update.resource.revision == written.resource.revision
    return isinstance(update, Delete)
