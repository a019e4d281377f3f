"""Addresses for one node: assigned, released, looked up. What ADD, DEL and the tunnels call.

An address belongs to a *handle*, for a pod made from its container's id, so that DEL and a retry after a crash find
everything that an ADD took, without any memory of ours. All writes are compare-and-swaps of single resources.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from tortie.aio.tasks import Group, supervise
from tortie.datastore.store import NOTHING, Store, Unchanged
from tortie.errors import AddressesExhausted, Conflict, TortieError
from tortie.ipam.blocks import Edit, Holder, Refusal, address_at, owner
from tortie.ipam.handles import ATTEMPTS
from tortie.ipam.leaks import describe
from tortie.ipam.live_terms import LiveTerms
from tortie.ipam.node_blocks import NodeBlocks, Room, Search
from tortie.ipam.pools import complete_deletions
from tortie.ipam.records import Handle, find_handle
from tortie.ipam.release import Releases
from tortie.ipam.requests import Assigned, Assignment, AssignRequest, Leaving, LeavingMoved, Outdated, Release
from tortie.ipam.terms import Pool, Terms, read_terms
from tortie.ipam.writer import BlockGone, BlockWriter, Change, HandleMoved, Made, Stale
from tortie.net.addresses import Address, Prefix, Version
from tortie.observe.clock import SYSTEM, Clock
from tortie.resources.allocation_block import AllocationBlockSpec
from tortie.resources.ipam_handle import IPAMHandleSpec, handle_key
from tortie.resources.resource import Resource

__all__ = [
    "Allocator",
    "AssignRequest",
    "Assigned",
    "Assignment",
    "Leaving",
    "LeavingMoved",
    "Outdated",
    "Release",
]

T = TypeVar("T")

WRITES_AT_ONCE = 64
"""Blocks that are written at the same time, at most."""

TIDY_SECONDS = 90

_GO_WITHOUT = (
    "make another IPv{0} pool, or say that this pod goes without IPv{0}: annotation cni.projectcalico.org/ipFamilies of it "
    "or its namespace, or ipam.assign_ipv{0} of the CNI configuration"
)


class _HandleInUse(Exception):
    """The handle exists already: an earlier request under it did not end, or it has been answered."""


class _NotOurs(Exception):
    """The block belongs to another node by now."""


class _Unconfirmed(Exception):
    """The block names our node, and this process has not seen yet that its affinity is confirmed."""


@dataclass
class _Taking:
    """One request on its way."""

    handle: str
    attributes: Mapping[str, str]
    stored: Handle | None = None
    """The handle as we last saw or wrote it."""
    taken: list[Assigned] = field(default_factory=list[Assigned])
    along: Callable[[tuple[Address, ...]], Resource[Any]] | None = None
    """Set for the last of the families."""
    unchanged: Unchanged = field(default_factory=lambda: NOTHING)
    along_stored: Resource[Any] | None = None

    def riding(self, cidr: Prefix, ordinals: Sequence[int]) -> Resource[Any] | None:
        """What is to be stored with these, which are the last."""
        if self.along is None:
            return None
        fresh = [address_at(cidr, ordinal) for ordinal in ordinals]
        return self.along(tuple(sorted([*(each.address for each in self.taken), *fresh])))

    def counting(self, cidr: Prefix, count: int) -> Handle:
        """The handle with ``count`` more in this block."""
        if self.stored is None:
            return Resource(key=handle_key(self.handle), spec=IPAMHandleSpec(block={str(cidr): count}))
        counts = dict(self.stored.spec.block)
        counts[str(cidr)] = counts.get(str(cidr), 0) + count
        return self.stored.with_spec(msgspec.structs.replace(self.stored.spec, block=counts))


class Allocator:
    """Gives and takes addresses in the name of one node. Any number may work on one datastore, also for one node."""

    def __init__(self, store: Store, node: str, *, clock: Clock = SYSTEM) -> None:
        self.store = store
        self.node = node
        self._clock = clock
        self._writes = Group(WRITES_AT_ONCE, lambda name, error: None)  # each error goes to those who wait
        self._blocks = NodeBlocks(store, node, self._writes, clock)
        self._live = LiveTerms(store, node)
        self._releases = Releases(store, self._blocks, self._terms)

    @property
    def conflicts(self) -> int:
        """Block writes that had to be repeated because others were first."""
        return self._blocks.conflicts

    @property
    def ready(self) -> bool:
        """Whether `run` keeps the terms up to date just now."""
        return self._live.current() is not None

    async def run(self) -> None:
        """For ever: keep pools, reservations, configuration and the node's labels up to date from watches, and `tidy`.

        An allocator works without it as well, but then reads them for every request.
        """
        await supervise({"ipam terms": self._live.run, "ipam tidy": self._tidy_now_and_then})

    async def _tidy_now_and_then(self) -> None:
        while True:
            pause = TIDY_SECONDS * random.uniform(0.8, 1.2)  # jitter, no secret
            tidy_at = self._clock.monotonic() + pause
            while (left := tidy_at - self._clock.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._releases.left_a_terminating_pool.wait(), left)
                    self._releases.left_a_terminating_pool.clear()
                    with contextlib.suppress(TortieError):  # `tidy` tries again
                        await complete_deletions(self.store)
            with contextlib.suppress(TortieError):  # the next round tries again
                await self.tidy()

    async def _terms(self) -> Terms:
        return self._live.current() or await read_terms(self.store, self.node)

    async def assign(self, request: AssignRequest) -> Assignment:
        """All the addresses asked for, or none.

        Asked again under the same handle it returns what the handle has and adds what is missing: a retry after a crash
        leaves no second address. Raises `Outdated`, `AddressesExhausted` with the reasons, and `StoreError`; after the last
        `release_handle` gives back whatever was taken.
        """
        await self._releases.settle(request.handle)
        for _ in range(ATTEMPTS):
            taking = _Taking(request.handle, request.attributes, unchanged=request.unchanged)
            with contextlib.suppress(_HandleInUse):
                return await self._assign(request, taking)
            taking.stored = await find_handle(self.store, request.handle)
            held = await self._releases.held_by(taking.stored)
            if not held:
                # A crash between handle and block left the promise alone.
                await self.release_handle(request.handle)
                continue
            assert taking.stored is not None
            really = dict(Counter(str(each.block) for each in held))
            taking.stored = taking.stored.with_spec(msgspec.structs.replace(taking.stored.spec, block=really))
            with contextlib.suppress(_HandleInUse):
                return await self._complete(request, taking, held)
        raise Conflict(str(handle_key(request.handle)))

    async def _complete(self, request: AssignRequest, taking: _Taking, held: list[Assigned]) -> Assignment:
        """What the handle has, and what is missing of what is asked for."""
        kept: list[Assigned] = []
        missing: dict[Version, int | None] = {4: request.ipv4, 6: request.ipv6}
        for each in held:
            wanted = missing[each.address.version]
            if wanted is None or wanted > 0:
                kept.append(each)
                missing[each.address.version] = 0 if wanted is None else wanted - 1
        if not any(count is None or count > 0 for count in missing.values()):
            return Assignment(tuple(kept))
        if kept:  # a family that was wanted where there is a pool was had, or not, by the first request
            missing = {version: 0 if count is None else count for version, count in missing.items()}
        if not any(count is None or count > 0 for count in missing.values()):
            return Assignment(tuple(kept))
        rest = replace(request, ipv4=missing[4], ipv6=missing[6], along=None)
        added = await self._assign(rest, taking)
        return Assignment(tuple(sorted((*kept, *added.addresses))))

    async def _assign(self, request: AssignRequest, taking: _Taking) -> Assignment:
        wanted: list[tuple[Version, int | None, tuple[str, ...]]] = [
            (4, request.ipv4, request.ipv4_pools),
            (6, request.ipv6, request.ipv6_pools),
        ]
        try:
            terms = await self._terms()
            last = self._last_family(request, terms)
            for version, count, pools in wanted:
                taking.along = request.along if version == last else None
                if count != 0:
                    await self._assign_family(request, taking, version, count, pools, terms)
            taking.along = None
            if not taking.taken and terms is self._live.current():  # a pool may have been made a moment ago
                terms = await read_terms(self.store, self.node)
                for version, count, pools in wanted:
                    if count != 0:
                        await self._assign_family(request, taking, version, count, pools, terms)
        except TortieError:
            # Half of a dual stack is nothing. What cannot be given back now, `release_handle` gives back.
            with contextlib.suppress(TortieError):
                await self.release([Release(each.address, taking.handle) for each in taking.taken])
            raise
        if not taking.taken and (request.ipv4 is None or request.ipv6 is None):
            labels = request.namespace_labels
            reasons = [
                reason
                for version in (4, 6)
                for reason in terms.choose(version, use=request.use, namespace_labels=labels)[1]
            ]
            why = "; ".join(reasons or ["there is no IP pool"])
            raise AddressesExhausted(f"no address for {request.handle} on node {self.node}: {why}")
        return Assignment(tuple(taking.taken), taking.along_stored)

    @staticmethod
    def _last_family(request: AssignRequest, terms: Terms) -> Version | None:
        """With whose addresses all are there; None when that cannot be told beforehand."""
        if request.along is None:
            return None
        if request.ipv6 is not None or request.ipv6_pools:
            return 6 if request.ipv6 != 0 else 4
        whose: dict[str, Any] = {"use": request.use, "namespace_labels": request.namespace_labels}
        return 6 if terms.choose(6, **whose)[0] or terms.withheld(6, **whose) else 4

    async def _assign_family(
        self,
        request: AssignRequest,
        taking: _Taking,
        version: Version,
        count: int | None,
        requested: tuple[str, ...],
        terms: Terms,
    ) -> None:
        have = len(taking.taken)
        pools: list[Pool] = []
        reasons: list[str] = []
        for _ in range(ATTEMPTS):
            pools, reasons = terms.choose(
                version, use=request.use, requested=requested, namespace_labels=request.namespace_labels
            )
            if not pools and count is None and not requested:
                closed = terms.withheld(version, use=request.use, namespace_labels=request.namespace_labels)
                if not closed:
                    return
                reasons = [*closed, _GO_WITHOUT.format(version)]
            missing = (count or 1) - (len(taking.taken) - have)
            if missing == 0:
                return
            search = Search(version=version, pools=pools, max_blocks=request.max_blocks)
            found = Room(self._blocks.own_room(search, terms))
            if found.writer is None and pools:
                async with self._blocks.locks[version]:
                    found.writer = self._blocks.own_room(search, terms)
                    if found.writer is None:
                        terms = await read_terms(self.store, self.node)
                        pools, reasons = terms.choose(
                            version,
                            use=request.use,
                            requested=requested,
                            namespace_labels=request.namespace_labels,
                        )
                        search = Search(version=version, pools=pools, max_blocks=request.max_blocks)
                        if pools:
                            found = await self._blocks.find_room(search, terms)
                    self._promise(found, missing, terms)
            else:
                self._promise(found, missing, terms)
            if found.writer is None:
                if self._live.current() is terms:  # never fail by what may be a moment old
                    terms = await read_terms(self.store, self.node)
                    continue
                raise AddressesExhausted(
                    _why_none(request.handle, self.node, version, missing, pools, [*reasons, *found.reasons])
                )
            await self._take(found.writer, missing, taking, terms, borrowed=found.borrowed)
        raise Conflict(f"IPv{version} blocks of node {self.node}")

    @staticmethod
    def _promise(found: Room, count: int, terms: Terms) -> None:
        if found.writer is not None:
            found.writer.promised += count

    async def _take(
        self, writer: BlockWriter, count: int, taking: _Taking, terms: Terms, *, borrowed: bool
    ) -> None:
        """Up to ``count`` addresses of this block, which have been promised already."""
        cidr = writer.cidr
        reserved = terms.reserved(cidr)
        writer.cooldown_seconds = terms.configuration.ip_cooldown_seconds

        def take(block: AllocationBlockSpec, edit: Edit) -> Made[list[int]]:
            if not borrowed and owner(block) != self.node:
                raise _NotOurs if writer.fresh else Stale
            ordinals = edit.assign(count, taking.handle, taking.attributes, reserved)
            if len(ordinals) < count and not writer.fresh:
                raise Stale
            if not ordinals:
                return Made(ordinals)
            along = taking.riding(cidr, ordinals) if len(ordinals) == count else None
            unchanged = NOTHING if along is None else taking.unchanged
            return Made(ordinals, put=taking.counting(cidr, len(ordinals)), along=along, unchanged=unchanged)

        try:
            made = await self._apply(writer, take, taking.handle)
        except HandleMoved:
            if taking.stored is None:
                raise _HandleInUse from None
            taking.stored = await find_handle(self.store, taking.handle)
            return
        except (BlockGone, _NotOurs):
            self._blocks.forget(writer)
            return
        finally:
            writer.promised -= count
        taking.stored = made.stored or taking.stored
        taking.along_stored = made.along_stored
        pool = terms.pool_of(cidr)
        name = pool.name if pool is not None else ""
        taking.taken.extend(Assigned(address_at(cidr, ordinal), cidr, name) for ordinal in made.result)

    async def _apply(self, writer: BlockWriter, change: Change[T], handle: str) -> Made[T]:
        try:
            return await writer.apply(change)
        except asyncio.CancelledError:
            self._releases.abandoned[handle] = writer
            raise

    async def assign_address(self, address: Address, handle: str, attributes: Mapping[str, str]) -> Assigned:
        """This very address. It must lie in a pool that is enabled; reservations and selectors do not matter.

        Asked again under the same handle it is success. Raises `AddressesExhausted`, naming who has it.
        """
        terms = await read_terms(self.store, self.node)
        pool = terms.pool_of(address)
        if pool is None:
            raise AddressesExhausted(f"{address} lies in no IP pool")
        if pool.spec.disabled or pool.terminating:
            raise AddressesExhausted(
                f"{address} lies in pool {pool}, which is {'disabled' if pool.spec.disabled else 'being deleted'}"
            )
        cidr = address.prefix.supernet(max(pool.block_length, pool.cidr.length))
        writer = self._blocks.writer(cidr)
        writer.cooldown_seconds = terms.configuration.ip_cooldown_seconds
        taking = _Taking(handle, attributes)
        ordinal = address.value - cidr.value

        def take(block: AllocationBlockSpec, edit: Edit) -> Made[Holder | None]:
            if owner(block) != self.node and terms.configuration.strict_affinity:
                whose = f"node {owner(block)}" if owner(block) else "no node"
                raise AddressesExhausted(
                    f"{address} lies in block {cidr} of {whose}, and strict affinity forbids to borrow it"
                )
            if owner(block) == self.node and not self._blocks.owns(writer):
                raise _Unconfirmed if writer.fresh else Stale
            if edit.assign_ordinal(ordinal, handle, attributes):
                return Made(None, put=taking.counting(cidr, 1))
            if not writer.fresh:
                raise Stale
            who = edit.holder(ordinal)
            if who is None:
                raise AddressesExhausted(f"{address} was released less than ipCooldownSeconds ago")
            return Made(who)

        for _ in range(ATTEMPTS):
            taking.stored = await find_handle(self.store, handle)
            try:
                made = await self._apply(writer, take, handle)
            except HandleMoved:
                continue
            except (BlockGone, _Unconfirmed):
                async with self._blocks.locks[address.version]:
                    await self._blocks.claim_for(cidr, pool, terms)
                continue
            who = made.result
            if who is not None and who.handle != handle:
                raise AddressesExhausted(f"{address} is taken: {describe(who)} has it")
            return Assigned(address, cidr, pool.name)
        raise Conflict(f"block {cidr}")

    async def release_handle(self, handle: str, *, leaving: Leaving | None = None) -> tuple[Address, ...]:
        """Give back all that the handle has, and the handle. Unknown handles have nothing.

        ``leaving`` is deleted by the first write, if there is one to make: look at its ``gone``. Raises `LeavingMoved`
        when that cannot be, with nothing written.
        """
        return await self._releases.release_handle(handle, leaving)

    async def release(self, wanted: Iterable[Release]) -> dict[Address, Refusal | None]:
        """Give back addresses; says of each why not, or None. What lies in no block is free."""
        return await self._releases.release(wanted)

    async def by_handle(self, handle: str) -> tuple[Address, ...]:
        """What the handle has, in order."""
        return tuple(each.address for each in await self._releases.held(handle))

    async def tunnel_address(self, handle: str, type: str, *, version: Version = 4) -> Address:
        """The node's address for a tunnel: the one it has, or a new one when its pool is gone or none was given.

        ``type`` is Calico's word for it, such as ``vxlanTunnelAddress``.
        """
        terms = await read_terms(self.store, self.node)
        for each in await self._releases.held(handle):
            pool = terms.pool_of(each.address)
            if pool is not None and not pool.spec.disabled and not pool.terminating:
                return each.address
        await self.release_handle(handle)
        attributes = {"node": self.node, "type": type}
        ipv4, ipv6 = (1, 0) if version == 4 else (0, 1)
        request = AssignRequest(handle=handle, attributes=attributes, ipv4=ipv4, ipv6=ipv6, use="Tunnel")
        return next(iter(await self.assign(request)))

    async def tidy(self) -> list[Prefix]:
        """Let go of blocks that the node does not need, and finish the deletion of pools that nobody uses any more.

        To be called now and then, more than a minute apart. Returns the blocks that were given back.
        """
        released: list[Prefix] = []
        terms = await read_terms(self.store, self.node)
        for version in (4, 6):
            async with self._blocks.locks[version]:
                released += await self._blocks.give_back_idle(version, terms)
        if any(pool.terminating for pool in terms.pools):
            await complete_deletions(self.store)
        return released

    async def close(self) -> None:
        """Wait for writes under way."""
        await self._writes.close()

    @contextlib.asynccontextmanager
    async def closing(self) -> AsyncIterator[Allocator]:
        """For tools that use one for a moment."""
        try:
            yield self
        finally:
            await self.close()


def _why_none(
    handle: str, node: str, version: Version, missing: int, pools: list[Pool], reasons: list[str]
) -> str:
    many = "no IPv{} address" if missing == 1 else str(missing) + " IPv{} addresses cannot be had"
    text = f"{many.format(version)} for {handle} on node {node}"
    if pools:
        text += f" in pool {', '.join(str(pool) for pool in pools)}: this node's blocks are full"
    elif not reasons:
        reasons = [f"there is no IPv{version} pool"]
    return "; ".join([text, *reasons])
