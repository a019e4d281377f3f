"""What IPAM leaves in etcd is, key by key and field by field, what Calico leaves there (calico: ``backend/model``)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.contract.datastore_servers import EtcdServer, etcdctl
from tests.contract.ipam_clusters import configure, etcd, node, pool
from tortie.datastore.open import open_store
from tortie.ipam.allocator import Allocator, AssignRequest
from tortie.testing.clock import ManualClock

__all__ = ["etcd"]

ATTRIBUTES = {
    "namespace": "default",
    "node": "node-a",
    "pod": "web-0",
    "timestamp": "2026-08-22 00:00:01 +0000 UTC",
}


@pytest.fixture
def server(etcd: EtcdServer) -> EtcdServer:
    etcdctl(etcd, "del", "--prefix", "")
    return etcd


def stored(server: EtcdServer) -> dict[str, Any]:
    found = json.loads(etcdctl(server, "get", "--prefix", "/calico/ipam", "-w", "json"))
    return {
        base64.b64decode(each["key"]).decode(): json.loads(base64.b64decode(each["value"]))
        for each in found["kvs"]
    }


async def test_an_allocation_and_its_release(server: EtcdServer) -> None:
    store = open_store(f"etcd://{server.endpoint}")
    await pool(store, "10.65.0.0/30")
    await pool(store, "fd00::/126")
    await node(store, "node-a")
    await configure(store, strict_affinity=True)
    allocator = Allocator(store, "node-a", clock=ManualClock(1_787_356_800))
    await allocator.assign(AssignRequest(handle="k8s-pod-network.3f2a", attributes=ATTRIBUTES, ipv6=1))
    assert stored(server) == {
        "/calico/ipam/v2/config": {
            "strict_affinity": True,
            "auto_allocate_blocks": True,
            "maxBlocksPerHost": 0,
        },
        "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30": {
            "cidr": "10.65.0.0/30",
            "affinity": "host:node-a",
            "affinity_claim_time": "2026-08-22T00:00:00Z",
            "allocations": [0, None, None, None],
            "unallocated": [1, 2, 3],
            "attributes": [{"handle_id": "k8s-pod-network.3f2a", "secondary": ATTRIBUTES}],
            "sequenceNumber": 1787356800000000001,
            "sequenceNumberForAllocation": {"0": 1787356800000000000},
            "deleted": False,
        },
        "/calico/ipam/v2/assignment/ipv6/block/fd00::-126": {
            "cidr": "fd00::/126",
            "affinity": "host:node-a",
            "affinity_claim_time": "2026-08-22T00:00:00Z",
            "allocations": [0, None, None, None],
            "unallocated": [1, 2, 3],
            "attributes": [{"handle_id": "k8s-pod-network.3f2a", "secondary": ATTRIBUTES}],
            "sequenceNumber": 1787356800000000001,
            "sequenceNumberForAllocation": {"0": 1787356800000000000},
            "deleted": False,
        },
        "/calico/ipam/v2/handle/k8s-pod-network.3f2a": {
            "block": {"10.65.0.0/30": 1, "fd00::/126": 1},
            "deleted": False,
        },
        "/calico/ipam/v2/host/node-a/ipv4/block/10.65.0.0-30": {"state": "confirmed", "deleted": False},
        "/calico/ipam/v2/host/node-a/ipv6/block/fd00::-126": {"state": "confirmed", "deleted": False},
    }
    await allocator.release_handle("k8s-pod-network.3f2a")
    after = stored(server)
    assert "/calico/ipam/v2/handle/k8s-pod-network.3f2a" not in after
    block = after["/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30"]
    assert (block["allocations"], block["unallocated"], block["attributes"]) == ([None] * 4, [1, 2, 3, 0], [])
    assert block["sequenceNumberForAllocation"] == {}
    await store.close()


async def test_a_block_of_calicos_hand_is_worked_on(server: EtcdServer) -> None:
    """With fields that we do not know, an affinity stored as nothing, and one address that cools down."""
    block = {
        "cidr": "10.65.0.0/30",
        "affinity": "host:node-a",
        "allocations": [0, None, 1, None],
        "unallocated": [3, 1],
        "attributes": [
            {
                "handle_id": "k8s-pod-network.old",
                "secondary": {"pod": "old", "namespace": "default", "node": "node-a"},
            },
            {"handle_id": None, "secondary": None, "releasedAt": "2026-08-22T00:00:00Z"},
        ],
        "sequenceNumber": 7,
        "sequenceNumberForAllocation": {"0": 5},
        "deleted": False,
        "somethingNew": {"a": 1},
    }
    key = "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30"
    etcdctl(server, "put", key, value=json.dumps(block).encode())
    etcdctl(server, "put", "/calico/ipam/v2/host/node-a/ipv4/block/10.65.0.0-30", value=b"{}")
    store = open_store(f"etcd://{server.endpoint}")
    await pool(store, "10.65.0.0/30")
    await configure(store, ip_cooldown_seconds=600)
    await node(store, "node-a")
    allocator = Allocator(store, "node-a", clock=ManualClock(1_787_356_900))
    (address,) = await allocator.assign(AssignRequest(handle="new"))
    assert str(address) == "10.65.0.3"
    after = stored(server)[key]
    assert after["somethingNew"] == {"a": 1}
    assert after["allocations"] == [0, None, 1, 2]
    assert after["unallocated"] == [1]
    assert after["attributes"][1]["releasedAt"] == "2026-08-22T00:00:00Z"
    assert (after["sequenceNumber"], after["sequenceNumberForAllocation"]) == (8, {"0": 5, "3": 7})
    await store.close()
