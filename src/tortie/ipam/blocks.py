"""The algebra of one allocation block: pure, so that everything that can be proved of it is.

A block is a run of addresses, each known by its *ordinal* (its distance from the first). An ordinal is either free and
stands once in ``unallocated``, the head of which was freed longest ago, or it is taken and ``allocations`` says by the
index of an attribute, which names the handle. After a release it may cool down first: taken, but by an attribute with
``released_at``. Every write of a block raises its sequence number, and each allocation remembers the number under which
it was made, so that a release meant for an earlier holder is seen for what it is.

Format: calico.md of the reference notes; Calico's ``libcalico-go/lib/backend/model/block.go`` is the authority.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from tortie.net.addresses import Address, Prefix
from tortie.resources.allocation_block import AllocationBlockSpec, BlockAttribute

HOST = "host:"
"""What stands before the node's name in a block's ``affinity``."""

NONE_RESERVED: frozenset[int] = frozenset()


LONGEST_COOLDOWN_SECONDS = 1200
"""The most that ``ipCooldownSeconds`` may be."""


class Refusal(Enum):
    """Why a release did not happen."""

    FREE = auto()
    """Nobody has the address. For the one who releases this is success."""
    OTHER_HANDLE = auto()
    """Someone else has it by now."""
    OTHER_SEQUENCE = auto()
    """It was released and given out again since; the same handle may have it."""


class Holder(NamedTuple):
    """Who has an ordinal; ``sequence`` is None in blocks of very old writers."""

    handle: str | None
    attributes: Mapping[str, str]
    sequence: int | None


@dataclass(frozen=True)
class Fault:
    """Something in a block that its algebra cannot have made; ``ordinal`` is None when it concerns the whole."""

    ordinal: int | None
    text: str


def stamp(now: datetime) -> str:
    """A time as blocks carry it: ``2026-08-22T00:00:00Z``."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_stamp(text: str | None) -> datetime | None:
    """None also for what cannot be read: an unknown time is an old one."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def new_block(cidr: Prefix, *, affinity: str | None, now: datetime, sequence: int) -> AllocationBlockSpec:
    """An empty block. ``sequence`` should be no number that an earlier block of this CIDR had: nanoseconds since 1970."""
    return AllocationBlockSpec(
        cidr=str(cidr),
        affinity=affinity,
        affinity_claim_time=stamp(now) if affinity is not None else None,
        allocations=(None,) * cidr.size,
        unallocated=tuple(range(cidr.size)),
        attributes=(),
        sequence_number=sequence,
        sequence_number_for_allocation={},
    )


def owner(block: AllocationBlockSpec) -> str | None:
    """The node that the block belongs to, or None: nobody, or a load balancer."""
    affinity = block.affinity
    return affinity[len(HOST) :] if affinity is not None and affinity.startswith(HOST) else None


def prefix_of(block: AllocationBlockSpec) -> Prefix:
    return Prefix.parse(block.cidr, strict=False)


def address_at(cidr: Prefix, ordinal: int) -> Address:
    return Address(cidr.version, cidr.value + ordinal)


def reserved_ordinals(cidr: Prefix, reservations: Iterable[Prefix]) -> Collection[int]:
    """The ordinals of ``cidr`` that fall into a reservation."""
    found: set[int] = set()
    for reservation in reservations:
        if reservation.contains(cidr):
            return range(cidr.size)
        if cidr.contains(reservation):
            first = reservation.value - cidr.value
            found.update(range(first, first + reservation.size))
    return found or NONE_RESERVED


def is_empty(block: AllocationBlockSpec) -> bool:
    """Whether nothing is allocated; what only cools down does not count."""
    attributes = block.attributes
    return all(
        index is None or (index < len(attributes) and attributes[index].released_at is not None)
        for index in block.allocations
    )


def holder(block: AllocationBlockSpec, ordinal: int) -> Holder | None:
    """Who has it; None when it is free or cooling down."""
    index = block.allocations[ordinal]
    if index is None:
        return None
    sequence = block.sequence_number_for_allocation.get(str(ordinal))
    if index >= len(block.attributes):
        return Holder(None, {}, sequence)
    attribute = block.attributes[index]
    if attribute.released_at is not None:
        return None
    return Holder(attribute.handle_id, attribute.secondary or {}, sequence)


def holders(block: AllocationBlockSpec) -> dict[int, Holder]:
    """Every ordinal that someone has."""
    found: dict[int, Holder] = {}
    for ordinal, index in enumerate(block.allocations):
        if index is not None and (who := holder(block, ordinal)) is not None:
            found[ordinal] = who
    return found


def ordinals_of(block: AllocationBlockSpec, handle: str) -> list[int]:
    """The ordinals that this handle has, in order."""
    indexes = {i for i, a in enumerate(block.attributes) if a.handle_id == handle and a.released_at is None}
    return [o for o, index in enumerate(block.allocations) if index in indexes] if indexes else []


def faults(block: AllocationBlockSpec) -> list[Fault]:
    """What no sequence of edits could have made: for ``ipam check``."""
    try:
        size = Prefix.parse(block.cidr).size
    except ValueError as error:
        return [Fault(None, f"has an unreadable CIDR: {error}")]
    found: list[Fault] = []
    if len(block.allocations) != size:
        found.append(Fault(None, f"has {len(block.allocations)} allocations for {size} addresses"))
    seen: set[int] = set()
    for ordinal in block.unallocated:
        if not 0 <= ordinal < len(block.allocations):
            found.append(Fault(ordinal, "is listed as free and is not in the block"))
        elif ordinal in seen:
            found.append(Fault(ordinal, "is listed as free twice"))
        elif block.allocations[ordinal] is not None:
            found.append(Fault(ordinal, "is listed as free and is allocated"))
        seen.add(ordinal)
    for ordinal, index in enumerate(block.allocations):
        if index is None:
            if ordinal not in seen:
                found.append(Fault(ordinal, "is neither free nor allocated"))
        elif not 0 <= index < len(block.attributes):
            found.append(Fault(ordinal, "is allocated to an attribute that does not exist"))
    return found


class Edit:
    """Changes to one block that become one write.

    Opening an edit collects what has cooled down. `finish` gives the block to be stored, or None when nothing changed.
    """

    def __init__(self, block: AllocationBlockSpec, *, now: datetime, cooldown_seconds: int = 0) -> None:
        self._block = block
        self._now = now
        self._cooldown_seconds = cooldown_seconds
        self._allocations: list[int | None] = list(block.allocations)
        self._unallocated = list(block.unallocated)
        self._attributes = list(block.attributes)
        self._sequences = dict(block.sequence_number_for_allocation)
        self._affinity: str | None = block.affinity
        self._claimed_at = block.affinity_claim_time
        self._changed = False
        self._dropped = False
        self._warm_up()

    @property
    def sequence(self) -> int:
        """The number under which this edit's allocations are made."""
        return self._block.sequence_number

    def _warm_up(self) -> None:
        cooling = [(i, a.released_at) for i, a in enumerate(self._attributes) if a.released_at is not None]
        warm: set[int] = set()
        for index, released_at in cooling:
            released = parse_stamp(released_at)
            if released is None or (self._now - released).total_seconds() >= self._cooldown_seconds:
                warm.add(index)
        if not warm:
            return
        for ordinal, at in enumerate(self._allocations):
            if at in warm:
                self._allocations[ordinal] = None
                self._unallocated.append(ordinal)
        self._changed = self._dropped = True

    def free(self, reserved: Collection[int] = NONE_RESERVED) -> int:
        """How many addresses `assign` could give."""
        if not reserved:
            return len(self._unallocated)
        return sum(1 for ordinal in self._unallocated if ordinal not in reserved)

    def assign(
        self,
        count: int,
        handle: str | None,
        attributes: Mapping[str, str],
        reserved: Collection[int] = NONE_RESERVED,
    ) -> list[int]:
        """Take up to ``count`` ordinals, those first that were freed longest ago."""
        taken: list[int] = []
        kept: list[int] = []
        position = 0
        for position, ordinal in enumerate(self._unallocated, 1):
            if len(taken) == count:
                position -= 1
                break
            # A block that breaks its own rules must not cost anyone his address.
            if not 0 <= ordinal < len(self._allocations) or self._allocations[ordinal] is not None:
                self._changed = True
            elif ordinal in reserved:
                kept.append(ordinal)
            else:
                taken.append(ordinal)
                self._allocations[ordinal] = -1
        if taken or self._changed:
            self._unallocated[:position] = kept
        for ordinal in taken:
            self._take(ordinal, handle, attributes)
        return taken

    def assign_ordinal(self, ordinal: int, handle: str | None, attributes: Mapping[str, str]) -> bool:
        """Take this one. False when someone has it, or it cools down."""
        if self._allocations[ordinal] is not None:
            return False
        self._unallocated = [free for free in self._unallocated if free != ordinal]
        self._take(ordinal, handle, attributes)
        return True

    def _take(self, ordinal: int, handle: str | None, secondary: Mapping[str, str]) -> None:
        mine = [i for i, a in enumerate(self._attributes) if a.handle_id == handle and a.released_at is None]
        index = next((i for i in mine if self._attributes[i].secondary == secondary), -1)
        if index < 0:
            index = len(self._attributes)
            self._attributes.append(BlockAttribute(handle_id=handle, secondary=dict(secondary)))
        self._allocations[ordinal] = index
        self._sequences[str(ordinal)] = self._block.sequence_number
        self._changed = True

    def release(
        self, ordinal: int, *, handle: str | None = None, sequence: int | None = None
    ) -> Refusal | None:
        """Give it back, if its holder is still ``handle`` (None: whoever) and its number still ``sequence`` (None:
        whichever). Returns None when it was released."""
        who = self.holder(ordinal)
        if who is None:
            return Refusal.FREE
        if handle is not None and who.handle != handle:
            return Refusal.OTHER_HANDLE
        if sequence is not None and who.sequence != sequence:
            return Refusal.OTHER_SEQUENCE
        self._give_back(ordinal)
        return None

    def release_handle(self, handle: str) -> list[int]:
        """Give back all that this handle has in this block."""
        indexes = {
            i for i, a in enumerate(self._attributes) if a.handle_id == handle and a.released_at is None
        }
        if not indexes:
            return []
        found = [ordinal for ordinal, index in enumerate(self._allocations) if index in indexes]
        for ordinal in found:
            self._give_back(ordinal)
        return found

    def holder(self, ordinal: int) -> Holder | None:
        """Who has it, as this edit stands."""
        index = self._allocations[ordinal]
        if index is None:
            return None
        sequence = self._sequences.get(str(ordinal))
        if not 0 <= index < len(self._attributes):
            return Holder(None, {}, sequence)
        attribute = self._attributes[index]
        if attribute.released_at is not None:
            return None
        return Holder(attribute.handle_id, attribute.secondary or {}, sequence)

    def _give_back(self, ordinal: int) -> None:
        self._changed = self._dropped = True
        self._sequences.pop(str(ordinal), None)
        if self._cooldown_seconds <= 0:
            self._allocations[ordinal] = None
            self._unallocated.append(ordinal)
            return
        released_at = stamp(self._now)
        index = next((i for i, a in enumerate(self._attributes) if a.released_at == released_at), -1)
        if index < 0:
            index = len(self._attributes)
            self._attributes.append(BlockAttribute(released_at=released_at))
        self._allocations[ordinal] = index

    def set_affinity(self, affinity: str | None) -> None:
        """Another owner, or none; the block keeps its allocations."""
        if affinity != self._affinity:
            self._affinity = affinity
            self._claimed_at = stamp(self._now) if affinity is not None else None
            self._changed = True

    def mend(self) -> list[Fault]:
        """Put right what `faults` finds, in favour of whoever may have the address. Returns what was mended."""
        found = faults(self._block)
        if not found:
            return []
        for ordinal, at in enumerate(self._allocations):
            if at is not None and not 0 <= at < len(self._attributes):
                self._allocations[ordinal] = None
        free = [o for o in dict.fromkeys(self._unallocated) if self._is_free(o)]
        listed = set(free)
        free += [o for o, index in enumerate(self._allocations) if index is None and o not in listed]
        self._unallocated = free
        self._changed = self._dropped = True
        return found

    def _is_free(self, ordinal: int) -> bool:
        return 0 <= ordinal < len(self._allocations) and self._allocations[ordinal] is None

    def finish(self) -> AllocationBlockSpec | None:
        """The block as it should be stored; None when there is nothing to write."""
        if not self._changed:
            return None
        if self._dropped:
            self._drop_unused_attributes()
        return msgspec.structs.replace(
            self._block,
            affinity=self._affinity,
            affinity_claim_time=self._claimed_at,
            allocations=tuple(self._allocations),
            unallocated=tuple(self._unallocated),
            attributes=tuple(self._attributes),
            sequence_number=self._block.sequence_number + 1,
            sequence_number_for_allocation=self._sequences,
        )

    def _drop_unused_attributes(self) -> None:
        used = {index for index in self._allocations if index is not None}
        if len(used) == len(self._attributes):
            return
        moved: dict[int, int] = {}
        kept: list[BlockAttribute] = []
        for index, attribute in enumerate(self._attributes):
            if index in used:
                moved[index] = len(kept)
                kept.append(attribute)
        self._attributes = kept
        self._allocations = [
            None if index is None else moved.get(index, index) for index in self._allocations
        ]
