"""The algebra of one block: examples in Calico's stored JSON, then properties over any sequence of edits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tortie.ipam import blocks
from tortie.ipam.blocks import Edit, Refusal
from tortie.net.addresses import Prefix
from tortie.resources.allocation_block import AllocationBlockSpec, BlockAttribute

NOW = datetime(2026, 8, 22, tzinfo=UTC)
GOLDEN = b"""{"cidr":"10.65.0.0/30","affinity":"host:node-a","affinity_claim_time":"2026-08-22T00:00:00Z",
"allocations":[0,null,1,null],"unallocated":[1,3],
"attributes":[{"handle_id":"k8s-pod-network.3f2a","secondary":{"namespace":"default","node":"node-a","pod":"web-0"}},
{"handle_id":"vxlan-tunnel-addr-node-a","secondary":{"node":"node-a","type":"vxlanTunnelAddress"}}],
"sequenceNumber":1787356800000000002,
"sequenceNumberForAllocation":{"0":1787356800000000000,"2":1787356800000000001},"deleted":false}"""


def fresh(cidr: str = "10.65.0.0/30", sequence: int = 100) -> AllocationBlockSpec:
    return blocks.new_block(Prefix.parse(cidr), affinity="host:node-a", now=NOW, sequence=sequence)


def assigned(block: AllocationBlockSpec, count: int, handle: str) -> AllocationBlockSpec:
    edit = Edit(block, now=NOW)
    edit.assign(count, handle, {})
    done = edit.finish()
    assert done is not None
    return done


def test_calicos_own_json_comes_about() -> None:
    block = fresh(sequence=1787356800000000000)
    for ordinal, handle, attributes in (
        (0, "k8s-pod-network.3f2a", {"namespace": "default", "node": "node-a", "pod": "web-0"}),
        (2, "vxlan-tunnel-addr-node-a", {"node": "node-a", "type": "vxlanTunnelAddress"}),
    ):
        edit = Edit(block, now=NOW)
        assert edit.assign_ordinal(ordinal, handle, attributes)
        block = edit.finish() or block
    assert msgspec.json.decode(msgspec.json.encode(block)) == msgspec.json.decode(GOLDEN)
    assert list(msgspec.json.decode(msgspec.json.encode(block))) == list(msgspec.json.decode(GOLDEN))
    assert msgspec.json.decode(GOLDEN, type=AllocationBlockSpec) == block


def test_what_was_freed_last_is_used_last() -> None:
    block = assigned(fresh(), 2, "a")
    edit = Edit(block, now=NOW)
    assert edit.release(0) is None
    block = edit.finish() or block
    edit = Edit(block, now=NOW)
    assert edit.assign(3, "b", {}) == [2, 3, 0]


def test_a_stale_release_is_refused() -> None:
    block = assigned(fresh(), 1, "a")
    before = blocks.holder(block, 0)
    assert before is not None
    edit = Edit(block, now=NOW)
    edit.release(0)
    block = edit.finish() or block
    edit = Edit(block, now=NOW)
    assert edit.assign_ordinal(0, "a", {})
    block = edit.finish() or block
    edit = Edit(block, now=NOW)
    assert edit.release(0, handle="a", sequence=before.sequence) is Refusal.OTHER_SEQUENCE
    assert edit.release(0, handle="b") is Refusal.OTHER_HANDLE
    assert edit.release(1, handle="a") is Refusal.FREE
    assert edit.finish() is None


def test_an_address_cools_down_before_it_is_used_again() -> None:
    block = assigned(fresh("10.0.0.0/32"), 1, "a")
    edit = Edit(block, now=NOW, cooldown_seconds=60)
    assert edit.release(0) is None
    block = edit.finish() or block
    assert blocks.holder(block, 0) is None
    assert blocks.is_empty(block)
    early = Edit(block, now=NOW + timedelta(seconds=59), cooldown_seconds=60)
    assert early.assign(1, "b", {}) == []
    assert not early.assign_ordinal(0, "b", {})
    assert early.release(0) is Refusal.FREE
    late = Edit(block, now=NOW + timedelta(seconds=60), cooldown_seconds=60)
    assert late.assign(1, "b", {}) == [0]
    done = late.finish()
    assert done is not None
    assert [a.handle_id for a in done.attributes] == ["b"]


def test_reserved_addresses_stay_where_they_are_in_the_line() -> None:
    cidr = Prefix.parse("10.65.0.0/30")
    reserved = blocks.reserved_ordinals(cidr, [Prefix.parse("10.65.0.0/31"), Prefix.parse("10.9.0.0/16")])
    edit = Edit(fresh(), now=NOW)
    assert edit.free(reserved) == 2
    assert edit.assign(4, "a", {}, reserved) == [2, 3]
    done = edit.finish()
    assert done is not None
    assert done.unallocated == (0, 1)
    assert len(blocks.reserved_ordinals(cidr, [Prefix.parse("10.0.0.0/8")])) == 4


def test_equal_attributes_are_stored_once() -> None:
    edit = Edit(fresh(), now=NOW)
    edit.assign(1, "a", {"pod": "x"})
    edit.assign(1, "b", {"pod": "x"})
    edit.assign(1, "a", {"pod": "x"})
    done = edit.finish()
    assert done is not None
    assert done.allocations == (0, 1, 0, None)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"unallocated": (0, 0, 1, 2, 3)}, "listed as free twice"),
        ({"unallocated": (1, 2, 3)}, "neither free nor allocated"),
        ({"unallocated": (0, 1, 2, 3, 9)}, "is not in the block"),
        ({"allocations": (7, None, None, None), "unallocated": (1, 2, 3)}, "attribute that does not exist"),
        ({"allocations": (0, None, None, None)}, "listed as free and is allocated"),
    ],
)
def test_a_damaged_block_is_told_and_mended(damage: dict[str, object], said: str) -> None:
    attributes = (BlockAttribute(handle_id="a"),)
    block = msgspec.structs.replace(fresh(), attributes=attributes, **damage)
    assert any(said in fault.text for fault in blocks.faults(block))
    edit = Edit(block, now=NOW)
    edit.mend()
    mended = edit.finish()
    assert mended is not None
    assert blocks.faults(mended) == []


def test_a_block_that_lists_a_taken_address_as_free_does_not_give_it_out_twice() -> None:
    block = msgspec.structs.replace(assigned(fresh(), 1, "a"), unallocated=(0, 1, 1, 2, 3))
    edit = Edit(block, now=NOW)
    assert edit.assign(9, "b", {}) == [1, 2, 3]


@given(st.integers(20, 32), st.integers(0, 40))
def test_a_block_gives_what_it_has_and_no_more(length: int, count: int) -> None:
    cidr = Prefix.parse(f"10.0.0.0/{length}")
    edit = Edit(blocks.new_block(cidr, affinity=None, now=NOW, sequence=1), now=NOW)
    taken = edit.assign(count, "h", {})
    assert len(taken) == min(count, cidr.size)
    assert len(set(taken)) == len(taken)


class BlockMachine(RuleBasedStateMachine):
    """Any edits in any order, against a dict of who has what and the line of who waits longest."""

    @initialize(cooldown=st.sampled_from([0, 0, 30]))
    def begin(self, cooldown: int) -> None:
        self.block = fresh("10.0.0.0/29")
        self.now = NOW
        self.cooldown = cooldown
        self.model: dict[int, str] = {}
        self.rounds = 0

    def edit(self) -> Edit:
        return Edit(self.block, now=self.now, cooldown_seconds=self.cooldown)

    def store(self, edit: Edit) -> None:
        before = self.block.sequence_number
        done = edit.finish()
        if done is not None:
            self.block = msgspec.json.decode(msgspec.json.encode(done), type=AllocationBlockSpec)
            assert self.block.sequence_number == before + 1

    @rule(
        count=st.integers(0, 5),
        handle=st.sampled_from("abcd"),
        pod=st.sampled_from("xy"),
        reserved=st.frozensets(st.integers(0, 7), max_size=3),
    )
    def assign(self, count: int, handle: str, pod: str, reserved: frozenset[int]) -> None:
        edit = self.edit()
        free = edit.free(reserved)
        taken = edit.assign(count, handle, {"pod": pod}, reserved)
        assert len(taken) == min(count, free)
        assert not set(taken) & set(self.model)
        assert not set(taken) & reserved
        self.model.update(dict.fromkeys(taken, handle))
        self.store(edit)

    @rule(ordinal=st.integers(0, 7), handle=st.sampled_from("abcd"))
    def release(self, ordinal: int, handle: str) -> None:
        edit = self.edit()
        refusal = edit.release(ordinal, handle=handle)
        if self.model.get(ordinal) == handle:
            assert refusal is None
            del self.model[ordinal]
            if not self.cooldown:
                done = edit.finish()
                assert done is not None
                assert done.unallocated[-1] == ordinal
        else:
            assert refusal is (Refusal.OTHER_HANDLE if ordinal in self.model else Refusal.FREE)
        self.store(edit)

    @rule(handle=st.sampled_from("abcd"))
    def release_handle(self, handle: str) -> None:
        edit = self.edit()
        assert edit.release_handle(handle) == [o for o in sorted(self.model) if self.model[o] == handle]
        self.model = {o: h for o, h in self.model.items() if h != handle}
        self.store(edit)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "block"):
            return
        assert blocks.faults(self.block) == []
        held = blocks.holders(self.block)
        assert {o: h.handle for o, h in held.items()} == self.model
        assert blocks.is_empty(self.block) == (not self.model)
        for handle in "abcd":
            assert blocks.ordinals_of(self.block, handle) == [
                o for o, h in sorted(self.model.items()) if h == handle
            ]
        used = {index for index in self.block.allocations if index is not None}
        assert used == set(range(len(self.block.attributes)))
        assert set(self.block.sequence_number_for_allocation) == {str(o) for o in self.model}


TestBlockMachine = BlockMachine.TestCase
