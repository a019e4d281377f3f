"""Addresses that are taken only while something else is unchanged."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.ipam_clusters import consistent, etcd, node, pool, store, url
from tortie.datastore.store import Store
from tortie.errors import NotFound
from tortie.ipam.allocator import Assignment, AssignRequest, Outdated
from tortie.resources.resource import Resource, ResourceKey, Revision
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec

__all__ = ["etcd", "store", "url"]


def endpoint(name: str) -> Resource[WorkloadEndpointSpec]:
    return Resource(key=ResourceKey(WORKLOAD_ENDPOINT, name, "default"), spec=WorkloadEndpointSpec(node="a"))


async def test_what_relies_on_something_else_stands_or_falls_with_it(store: Store) -> None:
    """Also where others' requests share the write, and of two families neither is kept."""
    await pool(store, "10.0.0.0/24")
    await pool(store, "fd00::/120")
    a = await node(store, "a")
    stood = await store.create(endpoint("stands"))
    moved = await store.update(stood.with_spec(WorkloadEndpointSpec(node="a", mac="changed")))

    def request(name: str, revision: Revision | None) -> AssignRequest:
        return AssignRequest(
            handle=name, ipv6=1, along=lambda addresses: endpoint(name), unchanged={stood.key: revision}
        )

    outdated, fine, absent = await asyncio.gather(
        a.assign(request("outdated", stood.revision)),
        a.assign(request("fine", moved.revision)),
        a.assign(request("absent", None)),
        return_exceptions=True,
    )
    assert isinstance(outdated, Outdated)
    assert isinstance(absent, Outdated)
    assert isinstance(fine, Assignment)
    assert fine.along is not None
    await consistent(store, {str(address): "fine" for address in fine})
    with pytest.raises(NotFound):
        await store.get(endpoint("outdated").key)
