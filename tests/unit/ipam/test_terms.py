"""Which pools serve a request, which blocks are tried, and how usage is counted: pure."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.ipam.node_blocks import free_blocks
from tortie.ipam.pool_state import as_terminating, is_terminating
from tortie.ipam.terms import Pool, Terms, make_terms
from tortie.net.addresses import Address, Prefix
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ip_reservation import IP_RESERVATION, IPReservationSpec
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION, IPAMConfigurationSpec
from tortie.resources.node import NODE, NodeSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey


def pool(name: str, cidr: str, **fields: Any) -> Resource[IPPoolSpec]:
    return Resource(key=ResourceKey(IP_POOL, name), spec=IPPoolSpec(cidr=cidr, **fields))


def terms(
    *pools: Resource[IPPoolSpec], labels: dict[str, str] | None = None, reserved: tuple[str, ...] = ()
) -> Terms:
    node = Resource(key=ResourceKey(NODE, "a"), metadata=Metadata(labels=labels or {}), spec=NodeSpec())
    reservation = Resource(
        key=ResourceKey(IP_RESERVATION, "r"), spec=IPReservationSpec(reserved_cidrs=reserved)
    )
    return make_terms(configuration=None, pools=pools, reservations=[reservation], node=node)


def names(chosen: list[Pool]) -> list[str]:
    return [each.name for each in chosen]


def test_every_pool_that_is_left_out_says_why() -> None:
    from datetime import UTC, datetime

    deleted = as_terminating(pool("deleted", "10.4.0.0/24"), datetime(2026, 8, 22, tzinfo=UTC))
    found = terms(
        pool("bad", "10.1.0.0/24", node_selector="zone ==="),
        pool("far", "10.2.0.0/24", node_selector="zone == 'far'"),
        pool("good", "10.3.0.0/24"),
        deleted,
        pool("six", "fd00::/64"),
        labels={"zone": "near"},
    )
    chosen, reasons = found.choose(4)
    assert names(chosen) == ["good"]
    assert len(reasons) == 3
    assert "pool bad (10.1.0.0/24) has an unreadable nodeSelector" in reasons[0]
    assert reasons[1] == "pool deleted (10.4.0.0/24) is being deleted"
    assert reasons[2] == "pool far (10.2.0.0/24) does not select this node (nodeSelector: zone == 'far')"
    assert names(found.choose(6)[0]) == ["six"]
    assert names(found.choose(4, requested=("far",))[0]) == ["far"]
    assert found.choose(4, requested=("six",))[1] == ["pool six (fd00::/64) is not an IPv4 pool"]


def test_the_mark_of_a_deletion() -> None:
    from datetime import UTC, datetime

    before = pool("p", "10.0.0.0/24")
    marked = as_terminating(before, datetime(2026, 8, 22, tzinfo=UTC))
    assert not is_terminating(before)
    assert is_terminating(marked)
    assert marked.metadata.deletion_timestamp == "2026-08-22T00:00:00Z"
    condition = marked.status["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "Allocatable",
        "False",
        "Terminating",
    )


def test_the_limit_of_blocks() -> None:
    key = ResourceKey(IPAM_CONFIGURATION, "default")

    def limit(number: int) -> int:
        configuration = Resource(key=key, spec=IPAMConfigurationSpec(max_blocks_per_host=number))
        return make_terms(configuration=configuration, pools=[], reservations=[], node=None).block_limit

    assert [limit(0), limit(7)] == [20, 7]


@pytest.mark.parametrize("cidr", ["10.0.0.0/26", "10.0.0.0/24", "10.0.0.0/16"])
@given(data=st.data())
def test_each_block_of_a_pool_is_offered_once_unless_taken_or_reserved(
    cidr: str, data: st.DataObject
) -> None:
    found = terms(pool("p", cidr)).pools[0]
    blocks = list(found.cidr.subnets(26))
    taken = set(data.draw(st.lists(st.sampled_from(blocks), max_size=8)))
    reserved = [data.draw(st.sampled_from(blocks)).supernet(data.draw(st.integers(20, 32)))]
    node = data.draw(st.text(max_size=8))
    offered = list(free_blocks(found, taken, reserved, node))
    assert sorted(offered) == [b for b in blocks if b not in taken and not reserved[0].contains(b)]


def test_an_ipv6_pool_of_any_size_is_walked_in_no_time() -> None:
    found = terms(pool("p", "fd00::/48")).pools[0]
    half = Prefix.parse("fd00::/49")
    offered = list(islice(free_blocks(found, set(), [half], "node-a"), 3))
    assert len(set(offered)) == 3
    assert all(block.length == 122 and not half.contains(block) for block in offered)


def test_nodes_begin_at_places_of_their_own() -> None:
    found = terms(pool("p", "10.0.0.0/16")).pools[0]
    starts = {next(free_blocks(found, set(), [], f"node{number}")) for number in range(50)}
    assert len(starts) > 45


def test_reservations_are_ordinals_of_a_block() -> None:
    found = terms(pool("p", "10.0.0.0/24"), reserved=("10.0.0.1", "10.0.0.64/30", "junk"))
    assert set(found.reserved(Prefix.parse("10.0.0.0/26"))) == {1}
    assert set(found.reserved(Prefix.parse("10.0.0.64/26"))) == {0, 1, 2, 3}
    assert found.pool_of(Address.parse("10.0.1.1")) is None
