"""Which block belongs to which node: claiming one, giving one back, taking over one that lies idle.

Claiming: the node's affinity as ``pending``; the block with the node's name; the affinity as ``confirmed``. Giving back:
the affinity as ``pendingDeletion``; the block away, or its owner; the affinity away. A pending affinity means nothing to
routing, and the block itself, which only one can create, decides. Each step may be the last one of a process that dies;
whoever comes next sees from affinity and block how far it went. An address of a block whose affinity is pending reaches no
other node, so the node confirms it before it takes one: `NodeBlocks` gives out what was claimed through here and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

import msgspec

from tortie.aio.checkpoints import checkpoint
from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, Conflict, NotFound
from tortie.ipam.blocks import HOST, LONGEST_COOLDOWN_SECONDS, Edit, is_empty, new_block, owner, parse_stamp
from tortie.ipam.handles import ATTEMPTS, retry_delays
from tortie.ipam.records import Affinity, Block, find_affinity, find_block
from tortie.net.addresses import Prefix
from tortie.observe.clock import SYSTEM, Clock
from tortie.resources.allocation_block import block_key
from tortie.resources.block_affinity import (
    CONFIRMED,
    PENDING,
    PENDING_DELETION,
    BlockAffinitySpec,
    affinity_key,
)
from tortie.resources.resource import Resource

IDLE_SECONDS = 60
"""A block that another node claimed at least this long ago and that is empty may be taken over, as in Calico."""


class Given(Enum):
    """What became of an affinity that was to be given back."""

    RELEASED = auto()
    IN_USE = auto()
    CHANGED = auto()


@dataclass(frozen=True)
class Claims:
    """Claims of one node."""

    store: Store
    node: str
    clock: Clock = SYSTEM

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    async def claim(
        self, cidr: Prefix, still_wanted: Callable[[], Awaitable[bool]] | None = None
    ) -> Block | None:
        """Make the block ours, or see that it is. None when it is another's, or not wanted any more; then we have no
        affinity to it left.

        ``still_wanted`` is asked once the affinity can be seen by others: whoever deletes a pool marks it first
        and looks for affinities then, so that one of the two sees the other.
        """
        delays = retry_delays()
        for _ in range(ATTEMPTS):
            try:
                return await self._claim_once(cidr, still_wanted)
            except (AlreadyExists, Conflict, NotFound):
                await asyncio.sleep(delays.next_seconds())
        raise Conflict(str(affinity_key(self.node, str(cidr))))

    async def _claim_once(
        self, cidr: Prefix, still_wanted: Callable[[], Awaitable[bool]] | None
    ) -> Block | None:
        affinity = await self._visible(cidr)
        checkpoint("ipam.claim.pending")
        if still_wanted is not None and not await still_wanted():
            await release_affinity(self.store, self.node, cidr, only_empty=True, clock=self.clock)
            return None
        block = await find_block(self.store, cidr)
        ours = block is not None and owner(block.spec) == self.node
        if ours and affinity.spec.state == CONFIRMED:
            return block  # never back to pending: pods may live in it
        if not ours and affinity.spec.state != PENDING:
            affinity = await self._set_state(affinity, PENDING)
        if block is None:
            spec = new_block(
                cidr,
                affinity=HOST + self.node,
                now=self._now(),
                sequence=int(self.clock.wall() * 1_000_000_000),
            )
            try:
                block = await self.store.create(Resource(key=block_key(str(cidr)), spec=spec))
            except AlreadyExists:
                block = await find_block(self.store, cidr)
                if block is None:
                    raise
        checkpoint("ipam.claim.block")
        if owner(block.spec) != self.node:
            await self.store.delete(affinity.key, revision=affinity.revision)
            return None
        await self._set_state(affinity, CONFIRMED)
        checkpoint("ipam.claim.confirmed")
        return block

    async def _visible(self, cidr: Prefix) -> Affinity:
        """Our affinity to the block, for others to see; a new one is pending."""
        found = await find_affinity(self.store, self.node, cidr)
        if found is not None:
            return found
        key = affinity_key(self.node, str(cidr))
        return await self.store.create(Resource(key=key, spec=BlockAffinitySpec(state=PENDING)))

    async def _set_state(self, affinity: Affinity, state: str) -> Affinity:
        return await self.store.update(
            affinity.with_spec(msgspec.structs.replace(affinity.spec, state=state))
        )

    async def adopt(self, affinity: Affinity, cidr: Prefix) -> Block | None:
        """The block behind one of our affinities, whatever state a crash left them in. None when it is another's."""
        if affinity.spec.state == CONFIRMED:
            block = await find_block(self.store, cidr)
            if block is not None and owner(block.spec) == self.node:
                return block
        return await self.claim(cidr)


async def release_affinity(
    store: Store,
    node: str,
    cidr: Prefix,
    *,
    only_empty: bool,
    sequence: int | None = None,
    clock: Clock = SYSTEM,
) -> Given:
    """Take a block away from its node, with ``sequence`` only if it is still at that number.

    An empty block is deleted. One in use stays without an owner, or with ``only_empty`` as it is.
    """
    delays = retry_delays()
    for _ in range(ATTEMPTS):
        try:
            return await _release_once(
                store, node, cidr, only_empty=only_empty, sequence=sequence, clock=clock
            )
        except (AlreadyExists, Conflict, NotFound):
            await asyncio.sleep(delays.next_seconds())
    raise Conflict(str(affinity_key(node, str(cidr))))


async def _release_once(
    store: Store, node: str, cidr: Prefix, *, only_empty: bool, sequence: int | None, clock: Clock
) -> Given:
    affinity = await find_affinity(store, node, cidr)
    block = await find_block(store, cidr)
    if block is None or owner(block.spec) != node:
        if affinity is not None:
            await store.delete(affinity.key, revision=affinity.revision)
        return Given.RELEASED
    empty = is_empty(block.spec)
    in_use = only_empty and not empty
    if in_use or (sequence is not None and block.spec.sequence_number != sequence):
        if affinity is not None and affinity.spec.state != CONFIRMED:
            # Our own mark, or what somebody left who died: the block stays, so it must be routed.
            confirmed = msgspec.structs.replace(affinity.spec, state=CONFIRMED)
            await store.update(affinity.with_spec(confirmed))
        return Given.IN_USE if in_use else Given.CHANGED
    if affinity is not None and affinity.spec.state != PENDING_DELETION:
        leaving = msgspec.structs.replace(affinity.spec, state=PENDING_DELETION)
        affinity = await store.update(affinity.with_spec(leaving))
    checkpoint("ipam.release.pending")
    if empty:
        await store.delete(block.key, revision=block.revision)
    else:
        now = datetime.fromtimestamp(clock.wall(), UTC)
        edit = Edit(block.spec, now=now, cooldown_seconds=LONGEST_COOLDOWN_SECONDS)
        edit.set_affinity(None)
        await store.update(block.with_spec(edit.finish()))
    checkpoint("ipam.release.block")
    if affinity is not None:
        await store.delete(affinity.key, revision=affinity.revision)
    return Given.RELEASED


async def clear_idle(store: Store, block: Block, cidr: Prefix, clock: Clock = SYSTEM) -> bool:
    """Remove an idle block of another node, or of nobody, if nobody has touched it since it was read."""
    before = owner(block.spec)
    if before is not None:
        sequence = block.spec.sequence_number
        given = await release_affinity(store, before, cidr, only_empty=True, sequence=sequence, clock=clock)
        return given is Given.RELEASED
    try:
        await store.delete(block.key, revision=block.revision)
    except NotFound:
        return True
    except Conflict:
        return False
    return True


def is_idle(block: Block, now: datetime, nodes: Collection[str]) -> bool:
    """Whether another node may take this block over: empty, and nobody's, or claimed more than a minute ago, or by a node
    that is none of ``nodes`` any more. Load balancers' blocks are never idle."""
    if not is_empty(block.spec):
        return False
    if block.spec.affinity is None:
        return True
    node = owner(block.spec)
    if node is None:
        return False
    if node not in nodes:
        return True
    claimed = parse_stamp(block.spec.affinity_claim_time)
    return claimed is None or now - claimed > timedelta(seconds=IDLE_SECONDS)
