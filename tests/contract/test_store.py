"""What `Store` promises, asked of every datastore; and that what stands in etcd is what Calico writes there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contract.datastore_servers import EtcdServer, Place, etcdctl
from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.datastore.store import Changes, Cursor
from tortie.errors import AlreadyExists, Conflict, HistoryGone, InvalidResource, NotFound
from tortie.resources import registry
from tortie.resources.allocation_block import AllocationBlockSpec, BlockAttribute, block_key
from tortie.resources.block_affinity import PENDING, BlockAffinitySpec, affinity_key
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION, IPAMConfigurationSpec
from tortie.resources.ipam_handle import IPAMHandleSpec, handle_key
from tortie.resources.namespace import NAMESPACE
from tortie.resources.network_policy import NETWORK_POLICY
from tortie.resources.pod import POD
from tortie.resources.resource import (
    Delete,
    Invalid,
    Kind,
    Metadata,
    Put,
    Resource,
    ResourceKey,
    Revision,
    Update,
)
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "etcd":
        server: EtcdServer = request.getfixturevalue("etcd")
        etcdctl(server, "del", "--prefix", "")
        return lambda: EtcdKeyValue(EtcdOptions(endpoints=(server.endpoint,)))
    return lambda: SqliteKeyValue(SqliteOptions(tmp_path / "store.db"))


@pytest.fixture
async def store(place: Place) -> AsyncIterator[KeyValueStore]:
    store = KeyValueStore(place())
    yield store
    await store.close()


@pytest.fixture
async def on_etcd(etcd: EtcdServer) -> AsyncIterator[KeyValueStore]:
    etcdctl(etcd, "del", "--prefix", "")
    store = KeyValueStore(EtcdKeyValue(EtcdOptions(endpoints=(etcd.endpoint,))))
    yield store
    await store.close()


def pool(name: str = "p", **fields: Any) -> Resource[IPPoolSpec]:
    return Resource(key=ResourceKey(IP_POOL, name), spec=IPPoolSpec(cidr="10.0.0.0/16", **fields))


def sample(info: registry.KindInfo) -> ResourceKey:
    """Some key of the kind."""
    name = {"IPAMConfiguration": "default", "IPAMBlock": "10.0.0.0-26", "BlockAffinity": "10.0.0.0-26"}
    within = "ns" if info.namespaced else "node1" if info.kind.name == "BlockAffinity" else ""
    return ResourceKey(info.kind, name.get(info.kind.name, "some-name"), within)


async def listed(store: KeyValueStore, kind: Kind, within: str = "") -> tuple[list[Update], Cursor]:
    updates: list[Update] = []
    cursors: set[Cursor] = set()
    async for page in store.list(kind, within=within):
        updates.extend(page.updates)
        cursors.add(page.cursor)
    assert len(cursors) == 1
    return updates, cursors.pop()


async def take(changes: AsyncIterator[Changes], count: int) -> list[Update]:
    updates: list[Update] = []
    async with asyncio.timeout(10):
        while len(updates) < count:
            updates.extend((await anext(changes)).updates)
    return updates


async def raw_put(store: KeyValueStore, key: ResourceKey, value: bytes) -> None:
    await store.keyvalue.commit(expect={}, put={store.layout.path(key): value})


@pytest.mark.parametrize("info", registry.KINDS, ids=[info.kind.name for info in registry.KINDS])
async def test_every_kind_goes_through_a_whole_life(store: KeyValueStore, info: registry.KindInfo) -> None:
    key = sample(info)
    spec = info.complete(key, msgspec.convert({}, info.spec))
    _, cursor = await listed(store, info.kind)
    with pytest.raises(NotFound):
        await store.get(key)
    created = await store.create(Resource(key=key, spec=spec))
    assert created.revision is not None
    found = await store.get(key)
    assert (found.key, found.spec, found.revision) == (key, spec, created.revision)
    assert found.metadata.uid == created.metadata.uid
    updates, _ = await listed(store, info.kind, key.within)
    assert [update.key for update in updates] == [key]
    updated = await store.update(found)
    assert updated.revision != created.revision
    await store.delete(key, revision=updated.revision)
    with pytest.raises(NotFound):
        await store.get(key)
    async with store.watch(info.kind, after=cursor) as changes:
        told = await take(changes, 3)
    assert [type(update) for update in told] == [Put, Put, Delete]
    assert [update.resource.revision for update in told if isinstance(update, Put)] == [
        created.revision,
        updated.revision,
    ]
    assert {update.key for update in told} == {key}


async def test_creating_gives_an_identity_and_never_overwrites(store: KeyValueStore) -> None:
    created = await store.create(pool())
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", created.metadata.uid)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created.metadata.creation_timestamp)
    with pytest.raises(AlreadyExists, match="IPPool p exists already"):
        await store.create(pool(disabled=True))
    found = await store.get(created.key)
    assert not found.spec.disabled
    assert found.metadata.uid == created.metadata.uid


async def test_of_two_updates_from_one_state_one_wins(store: KeyValueStore) -> None:
    created = await store.create(pool())
    await store.update(created.with_spec(IPPoolSpec(cidr="10.0.0.0/16", disabled=True)))
    with pytest.raises(Conflict, match="IPPool p was changed"):
        await store.update(created)
    with pytest.raises(Conflict):
        await store.delete(created.key, revision=created.revision)
    assert (await store.get(created.key)).spec.disabled


async def test_what_is_gone_is_not_found(store: KeyValueStore) -> None:
    created = await store.create(pool())
    await store.delete(created.key)
    for attempt in (
        store.update(created),
        store.update(pool()),
        store.delete(created.key),
        store.delete(created.key, revision=created.revision),
        store.get(created.key),
    ):
        with pytest.raises(NotFound, match="IPPool p does not exist"):
            await attempt


async def test_an_update_that_expects_nothing_keeps_identity_status_and_the_unknown(
    store: KeyValueStore,
) -> None:
    key = ResourceKey(IP_POOL, "p")
    stored: dict[str, Any] = {
        "metadata": {
            "name": "p",
            "uid": "u-1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [1],
        },
        "spec": {"cidr": "10.0.0.0/16", "later": {"a": None}},
        "status": {"conditions": []},
    }
    await raw_put(store, key, json.dumps(stored).encode())
    await store.update(pool(disabled=True))
    raw = json.loads((await store.keyvalue.get(store.layout.path(key))).value)
    assert raw["metadata"] == stored["metadata"]
    assert raw["status"] == stored["status"]
    assert raw["spec"]["later"] == {"a": None}
    assert raw["spec"]["disabled"] is True


async def test_concurrent_blind_updates_all_succeed(place: Place, store: KeyValueStore) -> None:
    await store.create(pool())
    results = await asyncio.gather(*(store.update(pool(block_size=n)) for n in range(20, 28)))
    last = await store.get(ResourceKey(IP_POOL, "p"))
    assert last.revision in {result.revision for result in results}
    assert last.spec.block_size in range(20, 28)


async def test_unknown_fields_survive_a_rewrite(store: KeyValueStore) -> None:
    key = ResourceKey(WORKLOAD_ENDPOINT, "w", "default")
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {
            "name": "w",
            "namespace": "default",
            "uid": "u",
            "labels": {"a": "b"},
            "odd": [1, {"x": None}],
        },
        "spec": {
            "node": "n",
            "ports": [{"name": "http", "port": 80, "later": True}],
            "future": {"deep": [None]},
        },
    }
    await raw_put(store, key, json.dumps(document).encode())
    found = await store.get(key)
    await store.update(found.with_spec(msgspec.structs.replace(found.spec, node="m")))
    raw = json.loads((await store.keyvalue.get(store.layout.path(key))).value)
    assert raw["spec"]["node"] == "m"
    assert raw["spec"]["future"] == {"deep": [None]}
    assert raw["spec"]["ports"][0]["later"] is True
    assert raw["metadata"]["odd"] == [1, {"x": None}]


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"\xff", b'{"spec":{"cidr":5}}', b'{"metadata":{"labels":5}}']
)
async def test_what_cannot_be_taken_is_invalid_and_stops_nobody(store: KeyValueStore, value: bytes) -> None:
    await store.create(pool("good"))
    _, cursor = await listed(store, IP_POOL)
    bad = ResourceKey(IP_POOL, "bad")
    await raw_put(store, bad, value)
    with pytest.raises(InvalidResource) as raised:
        await store.get(bad)
    updates, _ = await listed(store, IP_POOL)
    invalid = next(update for update in updates if update.key == bad)
    assert isinstance(invalid, Invalid)
    assert f"{bad}: {invalid.reason}" == str(raised.value)
    assert isinstance(next(update for update in updates if update.key != bad), Put)
    async with store.watch(IP_POOL, after=cursor) as changes:
        assert await take(changes, 1) == [invalid]
        await store.update(pool("bad"))  # it can be mended, and deleted
        assert isinstance((await take(changes, 1))[0], Put)


async def test_of_a_policy_that_cannot_be_taken_enough_is_left_to_fail_closed(store: KeyValueStore) -> None:
    key = ResourceKey(NETWORK_POLICY, "bad", "team")
    await raw_put(store, key, b'{"spec":{"selector":"a == \'b\'","types":["Egress"],"egress":5}}')
    (invalid,), _ = await listed(store, NETWORK_POLICY)
    assert isinstance(invalid, Invalid)
    assert invalid.readable is not None
    assert (invalid.readable.spec.selector, invalid.readable.spec.types) == ("a == 'b'", ("Egress",))
    assert invalid.readable.revision is not None


async def test_an_invalid_resource_can_be_deleted(store: KeyValueStore) -> None:
    key = ResourceKey(IP_POOL, "bad")
    await raw_put(store, key, b"{")
    await store.delete(key)
    assert (await listed(store, IP_POOL))[0] == []


async def test_lists_and_watches_keep_to_their_namespace(store: KeyValueStore) -> None:
    _, start = await listed(store, POD)
    for namespace in ("a", "ab", "b"):
        key = ResourceKey(POD, "pod", namespace)
        await store.create(Resource(key=key, spec=msgspec.convert({}, registry.info(POD).spec)))
    assert [update.key.within for update in (await listed(store, POD))[0]] == ["a", "ab", "b"]
    assert [update.key.within for update in (await listed(store, POD, "a"))[0]] == ["a"]
    async with store.watch(POD, after=start, within="b") as changes:
        assert [update.key.within for update in await take(changes, 1)] == ["b"]


async def test_foreign_keys_are_passed_over(store: KeyValueStore) -> None:
    _, start = await listed(store, NAMESPACE)
    await store.keyvalue.commit(expect={}, put={store.layout.prefix(NAMESPACE) + "odd/key": b"{"})
    await store.create(
        Resource(key=ResourceKey(NAMESPACE, "ns"), spec=msgspec.convert({}, registry.info(NAMESPACE).spec))
    )
    assert [update.key.name for update in (await listed(store, NAMESPACE))[0]] == ["ns"]
    async with store.watch(NAMESPACE, after=start) as changes:
        assert [update.key.name for update in await take(changes, 1)] == ["ns"]


async def test_a_long_list_comes_in_pages_of_at_most_500(store: KeyValueStore) -> None:
    for start in range(0, 1201, 100):
        await store.keyvalue.commit(
            expect={},
            put={store.layout.path(handle_key(f"h{n:05}")): b"{}" for n in range(start, start + 100)},
        )
    sizes = [len(page.updates) async for page in store.list(handle_key("").kind)]
    assert sizes == [500, 500, 300]


async def test_a_cursor_that_is_none_has_no_history(store: KeyValueStore) -> None:
    for cursor in ("", "x", "999999999"):
        with pytest.raises(HistoryGone):
            async with asyncio.timeout(10), store.watch(IP_POOL, after=Cursor(cursor)) as changes:
                await anext(changes)


async def test_a_revision_that_is_none_conflicts(store: KeyValueStore) -> None:
    await store.create(pool())
    with pytest.raises(Conflict):
        await store.update(replace(pool(), revision=Revision("not one of ours")))


# ---- what stands in etcd (calico.md §4 and §12) ----


def raw(etcd: EtcdServer, path: str) -> Any:
    return json.loads(etcdctl(etcd, "get", "--print-value-only", path))


async def test_a_block_is_stored_as_calico_does(etcd: EtcdServer, on_etcd: KeyValueStore) -> None:
    block = AllocationBlockSpec(
        cidr="10.65.0.0/30",
        affinity="host:node-a",
        affinity_claim_time="2026-08-22T00:00:00Z",
        allocations=(0, None, 1, None),
        unallocated=(1, 3),
        attributes=(
            BlockAttribute(
                handle_id="k8s-pod-network.3f2a",
                secondary={
                    "namespace": "default",
                    "node": "node-a",
                    "pod": "web-0",
                    "timestamp": "2026-08-22",
                },
            ),
            BlockAttribute(
                handle_id="vxlan-tunnel-addr-node-a",
                secondary={"node": "node-a", "type": "vxlanTunnelAddress"},
            ),
        ),
        sequence_number=1787356800000000002,
        sequence_number_for_allocation={"0": 1787356800000000000, "2": 1787356800000000001},
    )
    await on_etcd.create(Resource(key=block_key("10.65.0.0/30"), spec=block))
    assert raw(etcd, "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30") == {
        "cidr": "10.65.0.0/30",
        "affinity": "host:node-a",
        "affinity_claim_time": "2026-08-22T00:00:00Z",
        "allocations": [0, None, 1, None],
        "unallocated": [1, 3],
        "attributes": [
            {
                "handle_id": "k8s-pod-network.3f2a",
                "secondary": {
                    "namespace": "default",
                    "node": "node-a",
                    "pod": "web-0",
                    "timestamp": "2026-08-22",
                },
            },
            {
                "handle_id": "vxlan-tunnel-addr-node-a",
                "secondary": {"node": "node-a", "type": "vxlanTunnelAddress"},
            },
        ],
        "sequenceNumber": 1787356800000000002,
        "sequenceNumberForAllocation": {"0": 1787356800000000000, "2": 1787356800000000001},
        "deleted": False,
    }


async def test_affinities_handles_and_configuration_are_stored_as_calico_does(
    etcd: EtcdServer, on_etcd: KeyValueStore
) -> None:
    await on_etcd.create(
        Resource(key=affinity_key("node-a", "10.65.0.0/26"), spec=BlockAffinitySpec(state=PENDING))
    )
    assert raw(etcd, "/calico/ipam/v2/host/node-a/ipv4/block/10.65.0.0-26") == {
        "state": "pending",
        "deleted": False,
    }
    await on_etcd.create(Resource(key=handle_key("h"), spec=IPAMHandleSpec(block={"10.0.0.0/26": 2})))
    assert raw(etcd, "/calico/ipam/v2/handle/h") == {"block": {"10.0.0.0/26": 2}, "deleted": False}
    await on_etcd.create(
        Resource(
            key=ResourceKey(IPAM_CONFIGURATION, "default"), spec=IPAMConfigurationSpec(strict_affinity=True)
        )
    )
    assert raw(etcd, "/calico/ipam/v2/config") == {
        "strict_affinity": True,
        "auto_allocate_blocks": True,
        "maxBlocksPerHost": 0,
    }


async def test_what_calico_stored_is_read(etcd: EtcdServer, on_etcd: KeyValueStore) -> None:
    etcdctl(etcd, "put", "/calico/ipam/v2/host/node-a/ipv4/block/10.65.0.0-26", "")
    affinity = await on_etcd.get(affinity_key("node-a", "10.65.0.0/26"))
    assert (affinity.spec.state, affinity.spec.node, affinity.spec.cidr) == (
        "confirmed",
        "node-a",
        "10.65.0.0/26",
    )
    etcdctl(etcd, "put", "/calico/ipam/v2/config", '{"strict_affinity":true,"auto_allocate_blocks":false}')
    found = await on_etcd.get(ResourceKey(IPAM_CONFIGURATION, "default"))
    assert (found.spec.strict_affinity, found.spec.auto_allocate_blocks) == (True, False)


async def test_a_resource_is_stored_as_calico_does(etcd: EtcdServer, on_etcd: KeyValueStore) -> None:
    key = ResourceKey(WORKLOAD_ENDPOINT, "node1-k8s-web-eth0", "default")
    created = await on_etcd.create(
        Resource(
            key=key,
            metadata=Metadata(labels={"app": "web"}),
            spec=WorkloadEndpointSpec(
                orchestrator="k8s",
                node="node1",
                container_id="3f2a",
                pod="web",
                endpoint="eth0",
                ip_networks=("10.65.0.1/32",),
                profiles=("kns.default", "ksa.default.default"),
                interface_name="cali12345678901",
                mac="ee:ee:ee:ee:ee:ee",
            ),
        )
    )
    assert raw(
        etcd, "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-k8s-web-eth0"
    ) == {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {
            "name": "node1-k8s-web-eth0",
            "namespace": "default",
            "uid": created.metadata.uid,
            "creationTimestamp": created.metadata.creation_timestamp,
            "labels": {"app": "web"},
        },
        "spec": {
            "orchestrator": "k8s",
            "node": "node1",
            "containerID": "3f2a",
            "pod": "web",
            "endpoint": "eth0",
            "ipNetworks": ["10.65.0.1/32"],
            "profiles": ["kns.default", "ksa.default.default"],
            "interfaceName": "cali12345678901",
            "mac": "ee:ee:ee:ee:ee:ee",
        },
    }
