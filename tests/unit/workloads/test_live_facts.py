from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tortie.datastore.store import Store
from tortie.resources.cluster_information import CLUSTER_INFORMATION, ClusterInformationSpec
from tortie.resources.namespace import NAMESPACE, NamespaceSpec
from tortie.resources.pod import POD, PodSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey
from tortie.workloads.live_facts import LiveFacts

SHOP = ResourceKey(NAMESPACE, "shop")
CLUSTER = ResourceKey(CLUSTER_INFORMATION, "default")


def shop(**labels: str) -> Resource[NamespaceSpec]:
    return Resource(key=SHOP, metadata=Metadata(labels=labels), spec=NamespaceSpec())


@pytest.fixture
async def live(store: Store) -> AsyncIterator[LiveFacts]:
    made = LiveFacts(store, "node1")
    task = asyncio.ensure_future(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_without_a_watch_it_reads(store: Store) -> None:
    facts = LiveFacts(store, "node1")
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


def pod(name: str, node: str) -> Resource[PodSpec]:
    return Resource(key=ResourceKey(POD, name, "shop"), spec=PodSpec(node_name=node))


async def test_of_pods_it_remembers_what_may_concern_the_node(store: Store) -> None:
    facts = LiveFacts(store, "node1")
    made = [
        await store.create(pod(*each)) for each in (("ours", "node1"), ("nobodys", ""), ("theirs", "node2"))
    ]
    assert facts.recall(made[0].key) is None
    task = asyncio.ensure_future(facts.run())
    try:
        async with asyncio.timeout(5):
            while facts.recall(made[0].key) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
    recalled = [facts.recall(each.key) for each in made]
    assert [each and each.unchanged for each in recalled] == [
        {made[0].key: made[0].revision},
        {made[1].key: made[1].revision},
        {made[2].key: None},
    ]
