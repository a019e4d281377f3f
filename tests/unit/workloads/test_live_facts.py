from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tortie.datastore.store import Store
from tortie.resources.cluster_information import CLUSTER_INFORMATION, ClusterInformationSpec
from tortie.resources.namespace import NAMESPACE, NamespaceSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey
from tortie.workloads.live_facts import LiveFacts

SHOP = ResourceKey(NAMESPACE, "shop")
CLUSTER = ResourceKey(CLUSTER_INFORMATION, "default")


def shop(**labels: str) -> Resource[NamespaceSpec]:
    return Resource(key=SHOP, metadata=Metadata(labels=labels), spec=NamespaceSpec())


@pytest.fixture
async def live(store: Store) -> AsyncIterator[LiveFacts]:
    made = LiveFacts(store)
    task = asyncio.ensure_future(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_without_a_watch_it_reads(store: Store) -> None:
    facts = LiveFacts(store)
    assert await facts.get(SHOP) is None
    await store.create(shop(a="1"))
    found = await facts.get(SHOP)
    assert found is not None
    assert found.metadata.labels == {"a": "1"}


async def test_what_was_made_a_moment_ago_is_found(store: Store, live: LiveFacts) -> None:
    assert await live.get(CLUSTER) is None
    await store.create(Resource(key=CLUSTER, spec=ClusterInformationSpec(datastore_ready=False)))
    found = await live.get(CLUSTER)
    assert found is not None
    assert found.spec.datastore_ready is False


async def eventually(live: LiveFacts, wanted: dict[str, str] | None) -> None:
    """Until the namespace is known with these labels, or (None) not at all."""

    async def labels() -> dict[str, str] | None:
        found = await live.get(SHOP)
        return dict(found.metadata.labels) if found is not None else None

    async with asyncio.timeout(5):
        while await labels() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_changes_arrive(store: Store, live: LiveFacts) -> None:
    await store.create(shop(a="1"))
    await eventually(live, {"a": "1"})
    await store.update(shop(a="2"))
    await eventually(live, {"a": "2"})
    await store.delete(SHOP)
    await eventually(live, None)
