"""The blocks of one node, and where its next address may come from: its own, one more that it claims, another's.

Callers hold the family's lock while they look for room, so that fifty pods that find the blocks full claim one more
between them and not fifty. A claim or a release that has begun goes on to its end, whether its caller waits or is cancelled.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from tortie.aio.tasks import Group
from tortie.datastore.store import Store
from tortie.errors import InvalidResource
from tortie.ipam.affinity import Claims, Given, clear_idle, is_idle, release_affinity
from tortie.ipam.blocks import is_empty, owner
from tortie.ipam.pool_state import is_terminating
from tortie.ipam.records import Block, affinities, block_prefixes, every, find, prefix_of_key
from tortie.ipam.terms import Pool, Terms
from tortie.ipam.writer import BlockWriter
from tortie.net.addresses import Prefix, Version
from tortie.observe.clock import Clock
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.node import NODE
from tortie.resources.resource import ResourceKey

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What kind of room is looked for."""

    version: Version
    pools: Sequence[Pool]
    max_blocks: int = 0

    def covers(self, cidr: Prefix) -> bool:
        return any(pool.cidr.contains(cidr) for pool in self.pools)


@dataclass
class Room:
    """A block with room, or None and the reasons why there is none."""

    writer: BlockWriter | None = None
    borrowed: bool = False
    reasons: list[str] = field(default_factory=list[str])


class NodeBlocks:
    """One node's blocks, as this process knows them."""

    def __init__(self, store: Store, node: str, writes: Group, clock: Clock) -> None:
        self.locks: dict[int, asyncio.Lock] = {4: asyncio.Lock(), 6: asyncio.Lock()}
        self._store = store
        self._node = node
        self._claims = Claims(store, node, clock)
        self._writes = writes
        self._clock = clock
        self._writers: dict[Prefix, BlockWriter] = {}
        self._own: dict[int, list[BlockWriter]] = {4: [], 6: []}
        self._seen_empty: dict[Prefix, int] = {}

    def writer(self, cidr: Prefix) -> BlockWriter:
        """The one writer of this block in this process."""
        found = self._writers.get(cidr)
        if found is None:
            if len(self._writers) > 256:
                own = {id(each) for writers in self._own.values() for each in writers}
                self._writers = {c: w for c, w in self._writers.items() if id(w) in own or not w.idle}
            found = self._writers[cidr] = BlockWriter(self._store, cidr, self._writes, self._clock)
        return found

    async def _whole(self, cidr: Prefix, work: Coroutine[Any, Any, T]) -> T:
        """Writes about this block that belong together: a caller that is cancelled leaves nothing half done."""
        task = self._writes.start(f"own {cidr}", work)
        await asyncio.wait((task,))
        return task.result()

    @property
    def conflicts(self) -> int:
        """How often others were first, over all blocks since the start."""
        return sum(writer.conflicts for writer in self._writers.values())

    def own_room(self, search: Search, terms: Terms) -> BlockWriter | None:
        """One of our blocks that probably has room. Asks nobody."""
        for writer in self._own[search.version]:
            # Most are full: the cheap question first.
            if writer.room(()) > 0 and search.covers(writer.cidr):
                reserved = terms.reserved(writer.cidr)
                if not reserved or writer.room(reserved) > 0:
                    return writer
        return None

    def owns(self, writer: BlockWriter) -> bool:
        """Whether this block is known to be ours, with an affinity that is confirmed."""
        return writer in self._own[writer.cidr.version]

    def forget(self, writer: BlockWriter) -> None:
        """This block turned out not to be ours."""
        for writers in self._own.values():
            if writer in writers:
                writers.remove(writer)

    async def find_room(self, search: Search, terms: Terms) -> Room:
        """Look again, claim, take over, borrow: in this order. ``terms`` must be fresh."""
        owned = await self.refresh(search.version, terms)
        for writer in self._own[search.version]:
            if search.covers(writer.cidr) and writer.warm_room(terms.reserved(writer.cidr)) > 0:
                return Room(writer)
        existing = await block_prefixes(self._store)
        reasons: list[str] = []
        limit = min(search.max_blocks or terms.block_limit, terms.block_limit)
        if not terms.configuration.auto_allocate_blocks:
            reasons.append("autoAllocateBlocks is off")
        elif owned >= limit:
            reasons.append(
                f"node {self._node} has {owned} IPv{search.version} blocks, and {limit} are the limit"
            )
        else:
            claimed = await self._claim_one(search, terms, existing)
            if claimed is not None:
                return Room(claimed)
            reasons.append("every block is taken")
        if terms.configuration.strict_affinity:
            reasons.append("strict affinity forbids borrowing from other nodes' blocks")
            return Room(reasons=reasons)
        lender = self._borrow(search, terms, existing)
        if lender is None:
            reasons.append("no other node's block has an address to lend")
        return Room(lender, borrowed=True, reasons=reasons)

    async def refresh(self, version: Version, terms: Terms) -> int:
        """Read our affinities and blocks; mend what a crash left; let go of empty blocks whose pool no longer wants us.

        Returns how many blocks we have.
        """
        own: list[BlockWriter] = []
        owned = 0
        for affinity in await affinities(self._store, self._node):
            cidr = prefix_of_key(affinity.key)
            if cidr is None or cidr.version != version:
                continue
            writer = self.writer(cidr)
            if not self._keeps(cidr, terms) and writer.idle:
                given = await self._release(cidr)
                if given is Given.RELEASED:
                    writer.known = None
                    continue
            try:
                block = await self._whole(cidr, self._claims.adopt(affinity, cidr))
            except InvalidResource:
                owned += 1  # nobody can read it, so nobody can use it: `ipam check` tells
                continue
            if block is None:
                continue
            owned += 1
            if writer.idle:
                writer.known = block
            writer.cooldown_seconds = terms.configuration.ip_cooldown_seconds
            own.append(writer)
        self._own[version] = own
        return owned

    async def _release(self, cidr: Prefix, sequence: int | None = None) -> Given:
        """Give an empty block back, with ``sequence`` only if nobody has touched it since."""
        return await self._whole(
            cidr,
            release_affinity(
                self._store, self._node, cidr, only_empty=True, sequence=sequence, clock=self._clock
            ),
        )

    @staticmethod
    def _keeps(cidr: Prefix, terms: Terms) -> bool:
        pool = terms.pool_of(cidr)
        return pool is not None and (pool.spec.disabled or terms.why_not_here(pool) is None)

    async def _claim_one(
        self, search: Search, terms: Terms, existing: dict[Prefix, Block | None]
    ) -> BlockWriter | None:
        # A block that names us and to which we have no affinity: someone removed the affinity alone.
        for cidr, block in existing.items():
            known = any(writer.cidr == cidr for writer in self._own[search.version])
            if block is None or known or owner(block.spec) != self._node or not search.covers(cidr):
                continue
            found = await self._claim(cidr, search, terms)
            if found is not None and found.room(terms.reserved(cidr)) > 0:
                return found
        for pool in search.pools:
            for cidr in free_blocks(pool, existing, terms.reservations, self._node):
                if len(terms.reserved(cidr)) == cidr.size:
                    continue
                found = await self._claim(cidr, search, terms)
                if found is not None:
                    return found
                if not await self._pool_open(pool):
                    break
                existing[cidr] = None
        nodes: set[str] | None = None
        for cidr, block in existing.items():
            if (
                block is None
                or not search.covers(cidr)
                or owner(block.spec) == self._node
                or not is_empty(block.spec)
            ):
                continue
            if nodes is None:
                nodes = {update.key.name async for update in every(self._store, NODE)}
            if len(terms.reserved(cidr)) == cidr.size or not is_idle(block, self._now(), nodes):
                continue
            if await self._whole(cidr, clear_idle(self._store, block, cidr, self._clock)):
                found = await self._claim(cidr, search, terms)
                if found is not None:
                    return found
        return None

    async def _claim(self, cidr: Prefix, search: Search, terms: Terms) -> BlockWriter | None:
        pool = next(pool for pool in search.pools if pool.cidr.contains(cidr))

        async def still_wanted() -> bool:
            return await self._pool_open(pool)

        block = await self._whole(cidr, self._claims.claim(cidr, still_wanted))
        if block is None:
            return None
        writer = self.writer(cidr)
        if writer.idle:
            writer.known = block
        writer.cooldown_seconds = terms.configuration.ip_cooldown_seconds
        if not self.owns(writer):
            self._own[search.version].append(writer)
        return writer

    async def claim_for(self, cidr: Prefix, pool: Pool, terms: Terms) -> bool:
        """Claim this very block, or confirm our claim, for an address that was asked for. False when it is another's."""
        search = Search(version=cidr.version, pools=[pool])
        return await self._claim(cidr, search, terms) is not None

    async def _pool_open(self, pool: Pool) -> bool:
        found = await find(self._store, ResourceKey(IP_POOL, pool.name))
        return found is not None and not found.spec.disabled and not is_terminating(found)

    def _borrow(
        self, search: Search, terms: Terms, existing: dict[Prefix, Block | None]
    ) -> BlockWriter | None:
        ours = {writer.cidr for writer in self._own[search.version]}
        candidates = [
            (cidr, block)
            for cidr, block in existing.items()
            if block is not None
            and cidr not in ours
            and search.covers(cidr)
            and (block.spec.affinity is None or owner(block.spec) is not None)
        ]
        if candidates:
            start = _hash(self._node) % len(candidates)
            candidates = candidates[start:] + candidates[:start]
        for cidr, block in candidates:
            writer = self.writer(cidr)
            writer.cooldown_seconds = terms.configuration.ip_cooldown_seconds
            if writer.idle:
                writer.known = block
            if writer.warm_room(terms.reserved(cidr)) > 0:
                return writer
        return None

    async def give_back_idle(self, version: Version, terms: Terms) -> list[Prefix]:
        """Release our blocks that were empty and untouched at this and the last look, but keep one of the family."""
        owned = await self.refresh(version, terms)
        seen = {cidr: seq for cidr, seq in self._seen_empty.items() if cidr.version != version}
        released: list[Prefix] = []
        for writer in list(self._own[version]):
            block = writer.known
            if block is None or not writer.idle or not is_idle(block, self._now(), (self._node,)):
                continue
            sequence = block.spec.sequence_number
            if self._seen_empty.get(writer.cidr) != sequence:
                seen[writer.cidr] = sequence
            elif owned > 1:
                self._own[version].remove(writer)
                given = await self._release(writer.cidr, sequence)
                writer.known = None
                if given is Given.RELEASED:
                    owned -= 1
                    released.append(writer.cidr)
            else:
                seen[writer.cidr] = sequence
        self._seen_empty = seen
        return released

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)


def free_blocks(
    pool: Pool, existing: Collection[Prefix], reservations: Sequence[Prefix], node: str
) -> Iterator[Prefix]:
    """The blocks of the pool that nobody has, from a place that depends on the node, so that nodes meet rarely.

    Also in a pool of 2^58 blocks this takes no more steps than there are blocks and reservations.
    """
    length = max(pool.block_length, pool.cidr.length)
    size = pool.cidr.supernet(0).size >> length
    count = pool.cidr.size // size
    start = random.randrange(count) if size == 1 else _hash(node) % count  # spread, no secret:
    for first, last in ((start, count), (0, start)):
        index = first
        while index < last:
            cidr = Prefix(pool.cidr.version, pool.cidr.value + index * size, length)
            around = next((each for each in reservations if each.contains(cidr)), None)
            if around is not None:
                index = (around.last + 1 - pool.cidr.value) // size
                continue
            if cidr not in existing:
                yield cidr
            index += 1


def _hash(text: str) -> int:
    """FNV-1a of 32 bits, with which Calico spreads its nodes."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
