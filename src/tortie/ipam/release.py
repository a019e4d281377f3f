"""Giving addresses back, and seeing who has which: by handle, by address."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from tortie.aio.checkpoints import checkpoint
from tortie.datastore.store import Store
from tortie.errors import Conflict, NotFound
from tortie.ipam import handles
from tortie.ipam.blocks import Edit, Refusal, address_at, ordinals_of
from tortie.ipam.handles import ATTEMPTS, retry_delays
from tortie.ipam.node_blocks import NodeBlocks
from tortie.ipam.records import Handle, block_prefixes, find_block, find_handle
from tortie.ipam.requests import Assigned, Leaving, Release
from tortie.ipam.terms import Terms
from tortie.ipam.writer import BlockGone, BlockWriter, Change, HandleMoved, Made, Stale
from tortie.net.addresses import Address, Prefix
from tortie.resources.allocation_block import AllocationBlockSpec
from tortie.resources.ipam_handle import handle_key


class Releases:
    """The releasing half of an allocator, which shares its blocks and its terms."""

    def __init__(self, store: Store, blocks: NodeBlocks, terms: Callable[[], Awaitable[Terms]]) -> None:
        self._store = store
        self._blocks = blocks
        self._terms = terms
        self.abandoned: dict[str, BlockWriter] = {}
        """Handles whose request was cancelled while a write of theirs was under way."""
        self.left_a_terminating_pool = asyncio.Event()
        """Set when a pool that is being deleted may have given its last address back."""

    async def settle(self, handle: str) -> None:
        """Wait for what a cancelled request under this handle may still write."""
        writer = self.abandoned.get(handle)
        if writer is not None:
            await writer.settled()
            self.abandoned.pop(handle, None)

    async def release_handle(self, handle: str, leaving: Leaving | None = None) -> tuple[Address, ...]:
        """Give back all that the handle has, and the handle. Unknown handles have nothing. Raises `LeavingMoved`."""
        await self.settle(handle)
        released: list[Address] = []
        delays = retry_delays()
        for _ in range(ATTEMPTS):
            found = await find_handle(self._store, handle)
            if found is None:
                break
            blocks = [Prefix.parse(text) for text in found.spec.block]
            try:
                for cidr in blocks[:-1]:
                    with_it = leaving if leaving is not None and not leaving.gone else None
                    released += await self._release_in(cidr, partial(_give_back, handle, None, with_it))
                    checkpoint("ipam.released")
                if blocks:
                    released += await self._release_last(blocks[-1], handle, found, leaving)
                else:
                    await self._store.delete(found.key, revision=found.revision)
            except NotFound:
                break
            except (Conflict, HandleMoved):
                await asyncio.sleep(delays.next_seconds())
                continue
            break
        else:
            raise Conflict(str(handle_key(handle)))
        return tuple(released)

    async def _release_last(
        self, cidr: Prefix, handle: str, found: Handle, leaving: Leaving | None
    ) -> list[Address]:
        """From this block, and the handle with it."""
        gone = False
        with_it = leaving if leaving is not None and not leaving.gone else None

        def give_back(block: AllocationBlockSpec, edit: Edit) -> Made[list[int]]:
            nonlocal gone
            gone = True
            return _give_back(handle, found, with_it, block, edit)

        released = await self._release_in(cidr, give_back)
        if not gone:
            await self._store.delete(found.key, revision=found.revision)
        return released

    async def _release_in(self, cidr: Prefix, change: Change[list[int]]) -> list[Address]:
        """A block that is gone has nothing to give back."""
        writer = self._blocks.writer(cidr)

        def certainly(block: AllocationBlockSpec, edit: Edit) -> Made[list[int]]:
            made = change(block, edit)
            if not made.result and not writer.fresh:
                raise Stale  # what we remember may be older than what is to be released
            return made

        terms = await self._terms()
        writer.cooldown_seconds = terms.configuration.ip_cooldown_seconds
        try:
            released = [address_at(cidr, ordinal) for ordinal in (await writer.apply(certainly)).result]
        except BlockGone:
            return []
        pool = terms.pool_of(cidr)
        if released and pool is not None and pool.terminating:
            self.left_a_terminating_pool.set()
        return released

    async def release(self, wanted: Iterable[Release]) -> dict[Address, Refusal | None]:
        """Give back addresses; says of each why not, or None. What lies in no block is free."""
        answers: dict[Address, Refusal | None] = {}
        by_block: dict[Prefix, list[Release]] = {}
        for each in wanted:
            cidr = await self._block_of(each.address)
            if cidr is None:
                answers[each.address] = Refusal.FREE
            else:
                by_block.setdefault(cidr, []).append(each)
        for cidr, releases in by_block.items():
            answers.update(await self._release_from(cidr, releases))
        return answers

    async def _release_from(self, cidr: Prefix, releases: list[Release]) -> dict[Address, Refusal | None]:
        answers: dict[Address, Refusal | None] = {}
        gone: Counter[str] = Counter()

        def give_back(_: AllocationBlockSpec, edit: Edit) -> Made[list[int]]:
            answers.clear()
            gone.clear()
            done: list[int] = []
            for address, handle, sequence in releases:
                ordinal = address.value - cidr.value
                who = edit.holder(ordinal)
                answers[address] = refusal = edit.release(ordinal, handle=handle, sequence=sequence)
                if refusal is None:
                    done.append(ordinal)
                    if who is not None and who.handle is not None:
                        gone[who.handle] += 1
            return Made(done)

        await self._release_in(cidr, give_back)
        checkpoint("ipam.released")
        for handle, count in gone.items():
            await handles.decrement(self._store, handle, cidr, count)
        return answers or dict.fromkeys((each.address for each in releases), Refusal.FREE)

    async def _block_of(self, address: Address) -> Prefix | None:
        pool = (await self._terms()).pool_of(address)
        if pool is not None:
            cidr = address.prefix.supernet(max(pool.block_length, pool.cidr.length))
            if await find_block(self._store, cidr) is not None:
                return cidr
        existing = await block_prefixes(self._store)
        return next((cidr for cidr in existing if cidr.holds(address)), None)

    async def held(self, handle: str) -> list[Assigned]:
        await self.settle(handle)
        return await self.held_by(await find_handle(self._store, handle))

    async def held_by(self, found: Handle | None) -> list[Assigned]:
        if found is None:
            return []
        terms = await self._terms()
        held: list[Assigned] = []
        for text in found.spec.block:
            cidr = Prefix.parse(text)
            block = await find_block(self._store, cidr)
            if block is not None:
                pool = terms.pool_of(cidr)
                name = pool.name if pool is not None else ""
                held += [
                    Assigned(address_at(cidr, o), cidr, name) for o in ordinals_of(block.spec, found.key.name)
                ]
        return sorted(held)


def _give_back(
    handle: str, gone: Handle | None, leaving: Leaving | None, _: AllocationBlockSpec, edit: Edit
) -> Made[list[int]]:
    return Made(edit.release_handle(handle), gone=gone, leaving=leaving)
