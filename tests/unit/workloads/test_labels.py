from __future__ import annotations

import pytest

from tortie.cli.changes import write
from tortie.datastore.store import Store
from tortie.resources import registry
from tortie.resources.kind_info import KindInfo
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.profile import PROFILE, ProfileSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey
from tortie.resources.service_account import SERVICE_ACCOUNT
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec
from tortie.workloads.labels import follow, relabel

SOURCES = (
    (ResourceKey(NAMESPACE, "shop"), ResourceKey(PROFILE, "kns.shop"), "pcns."),
    (ResourceKey(SERVICE_ACCOUNT, "cart", "shop"), ResourceKey(PROFILE, "ksa.shop.cart"), "pcsa."),
)
WEB = ResourceKey(POD, "web", "shop")
ENDPOINT = ResourceKey(WORKLOAD_ENDPOINT, "n1-k8s-web-eth0", "shop")


def labelled(key: ResourceKey, **labels: str) -> Resource[object]:
    info: KindInfo = registry.info(key.kind)
    return Resource(key=key, metadata=Metadata(labels=labels), spec=info.spec())


@pytest.mark.parametrize(("source", "profile", "prefix"), SOURCES)
async def test_applied_labels_are_passed_on_by_the_profile(
    store: Store, source: ResourceKey, profile: ResourceKey, prefix: str
) -> None:
    own = {f"{prefix}projectcalico.org/name": source.name, "other": "y"}
    await store.create(Resource(key=profile, spec=ProfileSpec(labels_to_apply={**own, f"{prefix}old": "x"})))
    for env in ("prod", "test"):
        await write(store, [labelled(source, env=env)], "apply")
        assert (await store.get(profile)).spec.labels_to_apply == {**own, f"{prefix}env": env}
    await relabel(store, source, {"env": None, "team": "a"})
    assert (await store.get(profile)).spec.labels_to_apply == {**own, f"{prefix}team": "a"}


async def test_applied_labels_of_a_pod_are_its_endpoints(store: Store) -> None:
    spec = WorkloadEndpointSpec(
        orchestrator="k8s", node="n1", pod="web", endpoint="eth0", interface_name="cali1", container_id="c"
    )
    calico = {"projectcalico.org/namespace": "shop"}
    await store.create(Resource(key=ENDPOINT, metadata=Metadata(labels={**calico, "old": "x"}), spec=spec))
    await write(store, [labelled(WEB, app="db")], "apply")
    assert (await store.get(ENDPOINT)).metadata.labels == {**calico, "app": "db"}


async def test_nothing_follows_where_nothing_is(store: Store) -> None:
    for source, _, _ in SOURCES:
        await write(store, [labelled(source, a="b")], "apply")
        await follow(store, ResourceKey(source.kind, "gone", source.within))
    await write(store, [labelled(WEB, a="b")], "apply")
    await follow(store, ResourceKey(POD, "gone", "shop"))
    names = [each.key.name async for page in store.list(PROFILE) for each in page.updates]
    assert sorted(names) == sorted(profile.name for _, profile, _ in SOURCES)
