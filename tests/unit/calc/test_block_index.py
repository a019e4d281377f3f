"""Which block an address lies in, and whose it is there."""

from __future__ import annotations

import dataclasses

from tests.scenarios.build import block, endpoint
from tortie.calc.block_index import BlockIndex, block_of, handle_of, owner_token
from tortie.net.addresses import Prefix
from tortie.resources.allocation_block import AllocationBlockSpec, BlockAttribute
from tortie.resources.resource import Metadata
from tortie.resources.workload_endpoint import NETWORK_ANNOTATION
from tortie.workloads.names import handle_id

P = Prefix.parse


def test_an_address_finds_the_blocks_around_it() -> None:
    index = BlockIndex()
    for text in ("10.77.0.0/26", "10.77.0.64/26", "10.77.8.0/24", "fd77::/122"):
        index.put(P(text), block_of(block(text, "n1").spec))
    assert [str(prefix) for prefix, _ in index.around(P("10.77.0.65"))] == ["10.77.0.64/26"]
    assert [str(prefix) for prefix, _ in index.around(P("fd77::3f"))] == ["fd77::/122"]
    assert list(index.around(P("10.77.1.0"))) == []
    index.drop(P("10.77.0.64/26"))
    index.drop(P("10.77.0.64/26"))
    assert list(index.around(P("10.77.0.65"))) == []


def test_who_ipam_gave_an_address_to() -> None:
    index = BlockIndex()
    index.put(P("10.77.0.0/26"), block_of(block("10.77.0.0/26", "n1", {3: "abc"}).spec))
    assert index.owner(P("10.77.0.3")) == owner_token("k8s-pod-network.abc")
    assert index.owner(P("10.77.0.4")) is None
    assert index.owner(P("10.99.0.4")) is None


def test_a_resting_address_is_nobodys_and_a_strange_block_breaks_nothing() -> None:
    spec = AllocationBlockSpec(
        cidr="10.77.0.0/30",
        affinity="virtual:load-balancer",
        allocations=(0, 7, 1),
        attributes=(
            BlockAttribute(handle_id="net.abc", released_at="2026-01-01T00:00:00Z"),
            BlockAttribute(),
        ),
    )
    made = block_of(spec)
    assert made.node == ""
    index = BlockIndex()
    index.put(P("10.77.0.0/30"), made)
    assert [index.owner(P(f"10.77.0.{n}")) for n in range(4)] == [None, None, owner_token(""), None]


def test_the_handle_of_an_endpoint_is_ipams() -> None:
    made = endpoint("n1", "web", "10.77.0.1/32", container="abc")
    assert handle_of(made) == "k8s-pod-network.abc"
    second = endpoint("n1", "web", "10.77.0.1/32", container="abc", endpoint="net1")
    ours = dataclasses.replace(second, metadata=Metadata(annotations={NETWORK_ANNOTATION: "tortie.lab"}))
    assert handle_of(ours) == "tortie.lab.abc.net1" == handle_id("tortie.lab", "abc", "net1")
