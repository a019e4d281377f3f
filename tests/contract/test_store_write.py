"""`Store.write`: several compare-and-swaps at once, on every datastore."""

from __future__ import annotations

import pytest

from tests.contract.ipam_clusters import etcd, store, url
from tortie.datastore.store import MOST_AT_ONCE, Store
from tortie.errors import AlreadyExists, Conflict, NotFound
from tortie.ipam.records import find
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ipam_handle import IPAMHandleSpec, handle_key
from tortie.resources.resource import Resource, ResourceKey, Revision

__all__ = ["etcd", "store", "url"]


def handle(name: str, count: int = 1) -> Resource[IPAMHandleSpec]:
    return Resource(key=handle_key(name), spec=IPAMHandleSpec(block={"10.0.0.0/26": count}))


async def test_creates_updates_and_deletes_in_one_call(store: Store) -> None:
    old, leaving = await store.write([handle("old"), handle("leaving")])
    fresh, changed = await store.write([handle("new"), old.with_spec(handle("old", 2).spec)], gone=[leaving])
    assert (await store.get(handle_key("new"))).revision == fresh.revision
    assert (await store.get(handle_key("old"))).spec.block == {"10.0.0.0/26": 2}
    assert await find(store, handle_key("leaving")) is None
    await store.update(
        changed.with_spec(handle("old", 3).spec)
    )  # the revision that was returned is the stored one


async def test_what_is_stored_enveloped_gets_its_identity(store: Store) -> None:
    pool = Resource(key=ResourceKey(IP_POOL, "p"), spec=IPPoolSpec(cidr="10.0.0.0/24"))
    (made,) = await store.write([pool])
    assert made.metadata.uid
    assert (await store.get(pool.key)).metadata.uid == made.metadata.uid


async def test_the_culprit_is_named_and_nothing_after_it_is_written(store: Store) -> None:
    (stored,) = await store.write([handle("there")])
    newer = await store.update(stored.with_spec(handle("there", 2).spec))
    with pytest.raises(AlreadyExists, match="IPAMHandle there"):
        await store.write([handle("there"), handle("after")])
    with pytest.raises(Conflict, match="IPAMHandle there"):
        await store.write([stored, handle("after")])
    with pytest.raises(Conflict, match="IPAMHandle there"):
        await store.write([], gone=[stored])
    absent = Resource(key=handle_key("absent"), spec=IPAMHandleSpec(), revision=Revision("1"))
    with pytest.raises(NotFound, match="IPAMHandle absent"):
        await store.write([absent, handle("after")])
    with pytest.raises(NotFound, match="IPAMHandle absent"):
        await store.write([], gone=[absent])
    assert await find(store, handle_key("after")) is None
    assert (await store.get(newer.key)).revision == newer.revision


async def test_as_many_as_are_promised(store: Store) -> None:
    written = await store.write([handle(f"h{number}") for number in range(MOST_AT_ONCE)])
    assert len({each.key for each in written}) == MOST_AT_ONCE
    await store.write([], gone=written)
    assert await find(store, handle_key("h0")) is None


async def test_nothing_is_written_unless_what_it_relies_on_is_unchanged(store: Store) -> None:
    (stood,) = await store.write([handle("stands")])
    absent = handle_key("absent")
    relied_on = {stood.key: stood.revision, absent: None}
    await store.write([handle("first")], unchanged=relied_on)
    changed = await store.update(stood.with_spec(handle("stands", 2).spec))
    with pytest.raises(Conflict, match="IPAMHandle stands"):
        await store.write([handle("second")], unchanged=relied_on)
    await store.write([handle("absent")], unchanged={stood.key: changed.revision})
    with pytest.raises(Conflict, match="IPAMHandle absent"):
        await store.write([handle("second")], unchanged={stood.key: changed.revision, absent: None})
    assert await find(store, handle_key("second")) is None
