"""Nothing is lost between a document and a resource, and the stored forms are Calico's, byte for byte in meaning."""

from __future__ import annotations

import json
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.errors import InvalidResource
from tortie.resources import codec, registry
from tortie.resources.allocation_block import block_key
from tortie.resources.block_affinity import CONFIRMED, VIRTUAL, affinity_key
from tortie.resources.endpoint_slice import ENDPOINT_SLICE
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION
from tortie.resources.ipam_handle import handle_key
from tortie.resources.pod import POD
from tortie.resources.resource import Resource, ResourceKey, Revision
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, endpoint_name

# calico.md §12: a block of Calico's own, with fields of a later version besides.
BLOCK = {
    "cidr": "10.65.0.0/30",
    "affinity": "host:node-a",
    "affinity_claim_time": "2026-08-22T00:00:00Z",
    "allocations": [0, None, 1, None],
    "unallocated": [1, 3],
    "attributes": [
        {
            "handle_id": "k8s-pod-network.3f2a",
            "secondary": {"namespace": "default", "node": "node-a", "pod": "web-0"},
            "later": {"a": [1]},
        },
        {"handle_id": None, "secondary": None, "releasedAt": "2026-08-22T00:00:09Z"},
    ],
    "sequenceNumber": 1787356800000000002,
    "sequenceNumberForAllocation": {"0": 1787356800000000000},
    "deleted": False,
    "later": None,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
UNKNOWN = st.dictionaries(
    st.text(string.ascii_lowercase, min_size=1, max_size=6).map("x-".__add__), JSON, max_size=3
)


def endpoint(extra: dict[str, Any]) -> dict[str, Any]:
    """A document with the extra fields at every depth."""
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": "n-k8s-p-eth0", "namespace": "default", "labels": {"a": "b"}, **extra},
        "spec": {
            "orchestrator": "k8s",
            "node": "n",
            "ipNetworks": ["10.0.0.1/32"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, **extra}],
            **extra,
        },
        **extra,
    }


@given(UNKNOWN)
def test_unknown_fields_survive_at_every_depth(extra: dict[str, Any]) -> None:
    document = endpoint(extra)
    resource = codec.decode(registry.info(WORKLOAD_ENDPOINT), document)
    assert codec.encode(resource) == document
    assert json.loads(codec.dump(resource)) == document
    changed = resource.with_spec(msgspec.structs.replace(resource.spec, node="m"))
    assert codec.encode(changed) == {**document, "spec": {**document["spec"], "node": "m"}}


def test_unknown_fields_inside_a_list_follow_their_element() -> None:
    block = codec.load(block_key("10.65.0.0/30"), json.dumps(BLOCK).encode())
    mine, other = block.spec.attributes
    for attributes, expected in (
        ((other, mine), [False, True]),
        ((mine, other, other), [True, False, False]),
        ((mine,), [True]),
        ((other,), [False]),
        ((), []),
    ):
        changed = block.with_spec(msgspec.structs.replace(block.spec, attributes=attributes))
        stored = json.loads(codec.dump(changed))
        assert ["later" in each for each in stored["attributes"]] == expected
        assert "later" in stored


def test_unknown_fields_of_what_is_gone_go_with_it() -> None:
    resource = codec.decode(registry.info(WORKLOAD_ENDPOINT), endpoint({"x-a": 1}))
    changed = resource.with_spec(msgspec.structs.replace(resource.spec, ports=()))
    assert "ports" not in codec.encode(changed)["spec"]


@pytest.mark.parametrize(
    "info", [each for each in registry.KINDS if not each.bare], ids=lambda each: each.plural
)
def test_an_empty_document_of_every_kind_has_defaults_and_reads_back(info: registry.KindInfo) -> None:
    metadata = {"name": "x", "namespace": "ns"} if info.namespaced else {"name": "x"}
    first = codec.decode(info, {"metadata": metadata})
    again = codec.decode(info, codec.encode(first))
    assert first.key == again.key == ResourceKey(info.kind, "x", "ns" if info.namespaced else "")
    assert first.spec == again.spec == info.spec()
    assert codec.encode(first) == codec.encode(again)
    stored = codec.load(first.key, codec.dump(first), Revision("7"))
    assert (stored.spec, stored.revision) == (first.spec, "7")


def test_defaults_that_calico_writes_are_written() -> None:
    resource = Resource(key=ResourceKey(IP_POOL, "p"), spec=IPPoolSpec(cidr="10.0.0.0/16"))
    assert codec.encode(resource)["spec"] == {
        "cidr": "10.0.0.0/16",
        "vxlanMode": "Never",
        "ipipMode": "Never",
        "nodeSelector": "all()",
        "allowedUses": ["Workload", "Tunnel"],
        "assignmentMode": "Automatic",
    }


def test_a_block_is_stored_as_calico_does() -> None:
    resource = codec.load(block_key("10.65.0.0/30"), json.dumps(BLOCK).encode())
    assert resource.spec.allocations == (0, None, 1, None)
    assert resource.spec.attributes[1].released_at == "2026-08-22T00:00:09Z"
    assert json.loads(codec.dump(resource)) == BLOCK


def test_a_new_block_has_every_field_that_calico_expects() -> None:
    fresh = registry.find("blocks").spec()
    assert set(json.loads(msgspec.json.encode(fresh))) == set(BLOCK) - {"later", "affinity_claim_time"}


def test_the_ipam_configuration_has_other_names_in_storage() -> None:
    key = ResourceKey(IPAM_CONFIGURATION, "default")
    stored = {"strict_affinity": True, "auto_allocate_blocks": True, "maxBlocksPerHost": 4, "later": 1}
    resource = codec.load(key, json.dumps(stored).encode())
    assert json.loads(codec.dump(resource)) == stored
    document = codec.encode(resource)
    assert document["spec"] == {
        "strictAffinity": True,
        "autoAllocateBlocks": True,
        "maxBlocksPerHost": 4,
        "later": 1,
    }
    assert json.loads(codec.dump(codec.decode(registry.info(IPAM_CONFIGURATION), document))) == stored


@pytest.mark.parametrize("stored", [b"", b"{}", b'{"state":"","deleted":null}'])
def test_an_affinity_takes_from_its_key_what_is_not_stored(stored: bytes) -> None:
    key = affinity_key("node-a", "fd00::/122")
    resource = codec.load(key, stored)
    assert (resource.spec.node, resource.spec.type, resource.spec.cidr) == ("node-a", "host", "fd00::/122")
    assert resource.spec.state in (CONFIRMED, "")
    assert set(json.loads(codec.dump(resource))) == {"state", "deleted"}
    assert codec.decode(registry.info(key.kind), codec.encode(resource)).key == key


def test_a_virtual_affinity() -> None:
    resource = codec.load(affinity_key(VIRTUAL + "load-balancer", "10.0.0.0/26"), b"{}")
    assert (resource.spec.node, resource.spec.type) == ("load-balancer", "virtual")
    assert codec.decode(registry.info(resource.key.kind), codec.encode(resource)).key == resource.key


def test_a_handle() -> None:
    stored = b'{"block":{"10.0.0.0/26":2},"deleted":false}'
    resource = codec.load(handle_key("k8s-pod-network.1"), stored)
    assert (resource.spec.block, codec.dump(resource)) == ({"10.0.0.0/26": 2}, stored)


def test_revision_and_status_and_kubernetes_fields() -> None:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "namespace": "default",
            "resourceVersion": "12",
            "uid": "u",
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["a"],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r"}],
            "managedFields": [{}],
        },
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}],
        },
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    }
    resource = codec.decode(registry.info(POD), document)
    assert (resource.revision, resource.status) == ("12", document["status"])
    assert resource.spec.containers[0].ports[0].container_port == 80
    encoded = codec.encode(resource, revision=True)
    encoded["spec"]["containers"][0]["ports"][0].pop("protocol", None)
    assert encoded == document
    assert "resourceVersion" not in codec.encode(resource)["metadata"]


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"{", "IPPool p: (document): is not JSON"),
        (b"[]", "IPPool p: (document): is not a mapping"),
        (b'{"spec": {"blockSize": "26"}}', "IPPool p: spec.blockSize: 26 is not an integer"),
        (b'{"spec": {"allowedUses": "x"}}', "IPPool p: spec.allowedUses: x is not a list"),
        (b'{"spec": []}', "IPPool p: spec: [] is not a mapping"),
        (b'{"metadata": {"labels": {"a": 1}}}', "IPPool p: metadata.labels.a: 1 is not a string"),
        (b'{"metadata": {"labels": []}}', "IPPool p: metadata.labels: [] is not a mapping"),
    ],
)
def test_what_cannot_be_taken_is_named(stored: bytes, message: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        codec.load(ResourceKey(IP_POOL, "p"), stored)
    assert str(caught.value).startswith(message)


def test_null_is_absent() -> None:
    stored = b'{"metadata": {"creationTimestamp": null, "labels": null}, "spec": {"cidr": "10.0.0.0/8", "nodeSelector": null}}'
    assert codec.load(ResourceKey(IP_POOL, "p"), stored).spec == IPPoolSpec(cidr="10.0.0.0/8")


def test_labels_are_interned() -> None:
    one, two = (
        codec.load(
            ResourceKey(IP_POOL, name), b'{"metadata": {"labels": {"app-name": "some-value"}}}'
        ).metadata
        for name in "ab"
    )
    assert one.labels["app-name"] is two.labels["app-name"]


def test_endpoint_names_double_dashes() -> None:
    assert endpoint_name("node-1", "k8s", "web-0", "eth0") == "node--1-k8s-web--0-eth0"


@given(UNKNOWN)
def test_a_document_without_spec_keeps_unknown_fields_at_every_depth(extra: dict[str, Any]) -> None:
    """EndpointSlice: its fields stand beside the metadata."""
    document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "default", **extra},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False, **extra}, **extra}],
        "ports": [{"port": 80, **extra}],
        **extra,
    }
    resource = codec.decode(registry.info(ENDPOINT_SLICE), document)
    assert codec.encode(resource) == document
    assert codec.encode(codec.load(resource.key, codec.dump(resource))) == document


@pytest.mark.parametrize("version", ["discovery.k8s.io/v1beta1", 5, ["x"], None])
def test_an_older_version_is_read_as_ours(version: Any) -> None:
    document = {"apiVersion": version, "metadata": {"name": "s"}, "endpoints": [5, {"topology": {"a": "b"}}]}
    info = registry.info(ENDPOINT_SLICE)
    with pytest.raises(InvalidResource, match=r"endpoints\[0\]: 5 is not a mapping"):
        codec.decode(info, document)
