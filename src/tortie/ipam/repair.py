"""Putting right what ``ipam.leaks`` finds, after a second look and piece by piece.

Nothing is freed that a workload endpoint holds, that is younger than the grace, whose sequence number has moved, or whose
handle has another address that is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from tortie.aio.checkpoints import checkpoint
from tortie.datastore.store import Store
from tortie.errors import Conflict, NotFound, TortieError
from tortie.ipam import handles, records
from tortie.ipam.affinity import Claims, release_affinity
from tortie.ipam.allocator import Allocator, Release
from tortie.ipam.blocks import LONGEST_COOLDOWN_SECONDS, Edit, ordinals_of, owner
from tortie.ipam.leaks import Kind, Problem, Snapshot, check, endpoints, look, problems
from tortie.net.addresses import Address, Prefix
from tortie.observe.clock import SYSTEM, Clock
from tortie.resources.allocation_block import block_key
from tortie.resources.ipam_handle import IPAMHandleSpec, handle_key
from tortie.resources.resource import Resource

REPAIR_LOOK_SECONDS = 3.0
"""Between the two looks before anything is changed."""

GRACE_SECONDS = 30.0
"""An address that was given less than this ago may belong to an ADD that is still running."""

ENDPOINTS_ANEW = 20
"""After so many handles the endpoints are read again."""


@dataclass(frozen=True)
class Repair:
    """What was done about a problem, or why nothing was."""

    problem: Problem
    done: bool
    text: str


@dataclass(frozen=True)
class Report:
    """A repair's outcome: what was tried, and what is still wrong afterwards."""

    repairs: Sequence[Repair]
    left: Sequence[Problem]
    snapshot: Snapshot


async def repair(
    store: Store,
    *,
    second_look_seconds: float = REPAIR_LOOK_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
    clock: Clock = SYSTEM,
) -> Report:
    """Find what is wrong at two looks and put right what can be."""
    snapshot, found = await check(store, second_look_seconds=second_look_seconds)
    work = _Repairs(store, grace_seconds, clock)
    damaged = {problem.subject: problem for problem in found if problem.kind is Kind.DAMAGED}
    repairs = [await work.attempt(problem, work.mend(problem)) for problem in damaged.values()]
    repairs += await work.free_leaked(snapshot, [p for p in found if p.kind is Kind.LEAKED])
    for problem in found:
        if problem.kind is Kind.NOT_ALLOCATED:
            repairs.append(await work.attempt(problem, work.allocate(problem)))
        elif problem.kind is Kind.DOUBLE:
            repairs.append(Repair(problem, False, "one of the two must be deleted by hand"))
    squared: set[str] = set()
    for problem in found:
        if problem.kind in (Kind.MISSING_HANDLE, Kind.STALE_HANDLE) and problem.handle not in squared:
            squared.add(problem.handle)
            repairs.append(await work.attempt(problem, work.square(problem.handle)))
    for problem in found:
        if problem.kind is Kind.FOREIGN:
            repairs.append(await work.attempt(problem, work.reclaim(problem, snapshot)))
        elif problem.kind is Kind.NOT_IN_POOL and "/" in problem.subject:
            repairs.append(await work.attempt(problem, work.drop(problem)))
    after = await look(store)
    known = {problem.identity[:4] for problem in found}
    return Report(repairs, [problem for problem in problems(after) if problem.identity[:4] in known], after)


class _Repairs:
    def __init__(self, store: Store, grace_seconds: float, clock: Clock) -> None:
        self._store = store
        self._grace_seconds = grace_seconds
        self._clock = clock

    async def attempt(self, problem: Problem, work: Awaitable[str]) -> Repair:
        """One piece; that it fails does not stop the others."""
        try:
            return Repair(problem, True, await work)
        except TortieError as error:
            return Repair(problem, False, str(error))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    async def free_leaked(self, snapshot: Snapshot, leaked: Sequence[Problem]) -> list[Repair]:
        """All addresses of a handle, or none of them."""
        by_handle: dict[str, list[Problem]] = defaultdict(list)
        for problem in leaked:
            by_handle[problem.handle].append(problem)
        has: dict[str, set[str]] = defaultdict(set)
        for _, address, who in snapshot.allocations():
            has[who.handle or ""].add(str(address))
        repairs: list[Repair] = []
        used: set[Address] = set()
        allocator = Allocator(self._store, "", clock=self._clock)
        async with allocator.closing():
            for number, (handle, its) in enumerate(by_handle.items()):
                if number % ENDPOINTS_ANEW == 0:
                    used = set(await endpoints(self._store))
                why = self._why_not(its, has[handle], used)
                if why is not None:
                    repairs += [Repair(problem, False, why) for problem in its]
                    continue
                checkpoint("ipam.repair")
                wanted = [Release(Address.parse(p.subject), p.handle, p.sequence) for p in its]
                try:
                    answers = await allocator.release(wanted)
                except TortieError as error:
                    repairs += [Repair(problem, False, str(error)) for problem in its]
                    continue
                for problem in its:
                    refusal = answers[Address.parse(problem.subject)]
                    text = "freed" if refusal is None else "was released by others meanwhile"
                    repairs.append(Repair(problem, refusal is None, text))
        return repairs

    def _why_not(self, leaked: Sequence[Problem], has: set[str], used: set[Address]) -> str | None:
        needed = has - {problem.subject for problem in leaked}
        if needed:
            return f"kept: its handle also has {', '.join(sorted(needed))}, which is in use"
        for problem in leaked:
            if Address.parse(problem.subject) in used:
                return "kept: a workload endpoint has it by now"
            if problem.since is not None:
                age = (self._now() - problem.since).total_seconds()
                if age < self._grace_seconds:
                    return f"kept: given {age:.0f} s ago, perhaps to a pod that is still starting; try again later"
        return None

    async def mend(self, problem: Problem) -> str:
        cidr = Prefix.parse(problem.subject)
        for _ in range(handles.ATTEMPTS):
            block = await self._store.get(block_key(problem.subject))
            edit = Edit(block.spec, now=self._now(), cooldown_seconds=LONGEST_COOLDOWN_SECONDS)
            mended = edit.mend()
            spec = edit.finish()
            if spec is None or not mended:
                return f"block {cidr} is well by now"
            try:
                await self._store.update(block.with_spec(spec))
            except Conflict:
                continue
            return f"mended {len(mended)} faults of block {cidr}"
        raise Conflict(f"block {cidr}")

    async def allocate(self, problem: Problem) -> str:
        allocator = Allocator(self._store, problem.node, clock=self._clock)
        async with allocator.closing():
            attributes = {"node": problem.node}
            await allocator.assign_address(Address.parse(problem.subject), problem.handle, attributes)
        return f"allocated to {problem.handle}"

    async def square(self, handle: str) -> str:
        """Make the handle say what the blocks say."""
        for _ in range(handles.ATTEMPTS):
            stored = await records.find_handle(self._store, handle)
            counts: dict[str, int] = {}
            for cidr, block in (await records.block_prefixes(self._store)).items():
                if block is not None and (ordinals := ordinals_of(block.spec, handle)):
                    counts[str(cidr)] = len(ordinals)
            try:
                if stored is None and counts:
                    spec = IPAMHandleSpec(block=counts)
                    await self._store.create(Resource(key=handle_key(handle), spec=spec))
                elif stored is not None and counts:
                    await self._store.update(
                        stored.with_spec(msgspec.structs.replace(stored.spec, block=counts))
                    )
                elif stored is not None:
                    await self._store.delete(stored.key, revision=stored.revision)
            except (Conflict, NotFound):
                continue
            return f"handle {handle} counts {sum(counts.values())}" if counts else f"handle {handle} removed"
        raise Conflict(f"handle {handle}")

    async def reclaim(self, problem: Problem, snapshot: Snapshot) -> str:
        """A block to the one it belongs to, or to nobody."""
        cidr = Prefix.parse(problem.subject)
        if problem.node not in snapshot.nodes:
            await release_affinity(self._store, problem.node, cidr, only_empty=False, clock=self._clock)
            return f"block {cidr} taken from node {problem.node}"
        block = await records.find_block(self._store, cidr)
        if block is None or owner(block.spec) != problem.node:
            await release_affinity(self._store, problem.node, cidr, only_empty=True, clock=self._clock)
            return f"affinity of node {problem.node} to block {cidr} removed"
        await Claims(self._store, problem.node, self._clock).claim(cidr)
        return f"affinity of node {problem.node} to block {cidr} confirmed"

    async def drop(self, problem: Problem) -> str:
        cidr = Prefix.parse(problem.subject)
        if problem.node:
            await release_affinity(self._store, problem.node, cidr, only_empty=True, clock=self._clock)
        else:
            block = await self._store.get(block_key(problem.subject))
            await self._store.delete(block.key, revision=block.revision)
        return f"block {cidr} removed"
