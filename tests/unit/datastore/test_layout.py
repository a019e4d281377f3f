"""Keys as Calico writes them, both ways."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.datastore.layout import CalicoLayout
from tortie.errors import InvalidResource
from tortie.resources import registry
from tortie.resources.allocation_block import ALLOCATION_BLOCK, block_key
from tortie.resources.block_affinity import BLOCK_AFFINITY, VIRTUAL, affinity_key
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION
from tortie.resources.ipam_handle import IPAM_HANDLE, handle_key
from tortie.resources.kind_info import CALICO, CORE
from tortie.resources.resource import Kind, ResourceKey

LAYOUT = CalicoLayout()


def calico(name: str) -> Kind:
    return Kind(CALICO, name)


# calico.md §4: what a Calico cluster holds.
GOLDEN = (
    (
        ResourceKey(calico("IPPool"), "default-ipv4-ippool"),
        "/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool",
    ),
    (ResourceKey(calico("Node"), "node1"), "/calico/resources/v3/projectcalico.org/nodes/node1"),
    (ResourceKey(calico("BGPPeer"), "rr"), "/calico/resources/v3/projectcalico.org/bgppeers/rr"),
    (
        ResourceKey(calico("BGPConfiguration"), "default"),
        "/calico/resources/v3/projectcalico.org/bgpconfigurations/default",
    ),
    (
        ResourceKey(calico("FelixConfiguration"), "node.node1"),
        "/calico/resources/v3/projectcalico.org/felixconfigurations/node.node1",
    ),
    (
        ResourceKey(calico("ClusterInformation"), "default"),
        "/calico/resources/v3/projectcalico.org/clusterinformations/default",
    ),
    (ResourceKey(calico("IPReservation"), "r"), "/calico/resources/v3/projectcalico.org/ipreservations/r"),
    (
        ResourceKey(calico("Profile"), "kns.default"),
        "/calico/resources/v3/projectcalico.org/profiles/kns.default",
    ),
    (
        ResourceKey(calico("WorkloadEndpoint"), "node1-k8s-web--0-eth0", "default"),
        "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-k8s-web--0-eth0",
    ),
    (ResourceKey(IPAM_CONFIGURATION, "default"), "/calico/ipam/v2/config"),
    (block_key("10.65.0.0/26"), "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26"),
    (
        block_key("fd80:24e2:f998:72d6::/122"),
        "/calico/ipam/v2/assignment/ipv6/block/fd80:24e2:f998:72d6::-122",
    ),
    (affinity_key("node-a", "10.65.0.0/26"), "/calico/ipam/v2/host/node-a/ipv4/block/10.65.0.0-26"),
    (affinity_key("node-a", "fd00::/122"), "/calico/ipam/v2/host/node-a/ipv6/block/fd00::-122"),
    (
        affinity_key(VIRTUAL + "load-balancer", "10.65.0.0/26"),
        "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.65.0.0-26",
    ),
    (handle_key("k8s-pod-network.3f2a"), "/calico/ipam/v2/handle/k8s-pod-network.3f2a"),
    (ResourceKey(Kind(CORE, "Pod"), "web-0", "default"), "/tortie/resources/core/v1/pods/default/web-0"),
    (ResourceKey(Kind(CORE, "Namespace"), "default"), "/tortie/resources/core/v1/namespaces/default"),
    (
        ResourceKey(Kind(CORE, "ServiceAccount"), "sa", "default"),
        "/tortie/resources/core/v1/serviceaccounts/default/sa",
    ),
    (ResourceKey(Kind(CORE, "Service"), "web", "default"), "/tortie/resources/core/v1/services/default/web"),
    (
        ResourceKey(Kind(CORE, "Endpoints"), "web", "default"),
        "/tortie/resources/core/v1/endpoints/default/web",
    ),
    (
        ResourceKey(Kind("discovery.k8s.io", "EndpointSlice"), "web-1", "default"),
        "/tortie/resources/discovery.k8s.io/v1/endpointslices/default/web-1",
    ),
    (
        ResourceKey(Kind("networking.k8s.io", "NetworkPolicy"), "deny", "default"),
        "/tortie/resources/networking.k8s.io/v1/networkpolicies/default/deny",
    ),
    *(
        (
            ResourceKey(calico(kind), "a", "team"),
            f"/calico/resources/v3/projectcalico.org/{kind.lower()[:-1]}ies/team/a",
        )
        for kind in ("NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy")
    ),
    *(
        (
            ResourceKey(calico(kind), "a"),
            f"/calico/resources/v3/projectcalico.org/{kind.lower()[:-1]}ies/a",
        )
        for kind in ("GlobalNetworkPolicy", "StagedGlobalNetworkPolicy")
    ),
    (ResourceKey(calico("NetworkSet"), "a", "t"), "/calico/resources/v3/projectcalico.org/networksets/t/a"),
    (
        ResourceKey(calico("GlobalNetworkSet"), "a"),
        "/calico/resources/v3/projectcalico.org/globalnetworksets/a",
    ),
    (ResourceKey(calico("Tier"), "a"), "/calico/resources/v3/projectcalico.org/tiers/a"),
    (ResourceKey(calico("HostEndpoint"), "a"), "/calico/resources/v3/projectcalico.org/hostendpoints/a"),
)


@pytest.mark.parametrize(("key", "path"), GOLDEN, ids=[path for _, path in GOLDEN])
def test_keys_are_calicos(key: ResourceKey, path: str) -> None:
    assert LAYOUT.path(key) == path
    assert LAYOUT.key(key.kind, path) == key
    if not key.within.startswith(VIRTUAL):  # listed by name only
        assert path.startswith(LAYOUT.prefix(key.kind))
    if key.within:
        assert path.startswith(LAYOUT.prefix(key.kind, key.within))


def test_every_kind_has_a_golden_key() -> None:
    assert {key.kind for key, _ in GOLDEN} == {info.kind for info in registry.KINDS}


_names = st.text(string.ascii_lowercase + string.digits + "-.", min_size=1, max_size=12)
_blocks = st.one_of(
    st.integers(0, 255).map("10.0.{}.0/26".format), st.integers(0, 0xFFFF).map("fd00:{:x}::/122".format)
)
_plain = [
    info
    for info in registry.KINDS
    if info.kind not in (IPAM_CONFIGURATION, ALLOCATION_BLOCK, BLOCK_AFFINITY, IPAM_HANDLE)
]


@given(info=st.sampled_from(_plain), name=_names, within=_names)
def test_resources_come_back(info: registry.KindInfo, name: str, within: str) -> None:
    key = ResourceKey(info.kind, name, within if info.namespaced else "")
    assert LAYOUT.key(info.kind, LAYOUT.path(key)) == key


@given(cidr=_blocks, node=_names, handle=_names)
def test_ipam_comes_back(cidr: str, node: str, handle: str) -> None:
    for key in (
        block_key(cidr),
        affinity_key(node, cidr),
        affinity_key(VIRTUAL + node, cidr),
        handle_key(handle),
    ):
        assert LAYOUT.key(key.kind, LAYOUT.path(key)) == key


def test_no_kinds_prefix_begins_anothers() -> None:
    prefixes = [LAYOUT.prefix(info.kind) for info in registry.KINDS]
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (calico("IPPool"), "/calico/resources/v3/projectcalico.org/ippools/"),
        (calico("IPPool"), "/calico/resources/v3/projectcalico.org/ippools/a/b"),
        (calico("WorkloadEndpoint"), "/calico/resources/v3/projectcalico.org/workloadendpoints/nowhere"),
        (calico("WorkloadEndpoint"), "/calico/resources/v3/projectcalico.org/workloadendpoints/a/b/c"),
        (IPAM_CONFIGURATION, "/calico/ipam/v2/config2"),
        (ALLOCATION_BLOCK, "/calico/ipam/v2/assignment/ipv6/block/10.0.0.0-26"),
        (ALLOCATION_BLOCK, "/calico/ipam/v2/assignment/ipv4/other/10.0.0.0-26"),
        (BLOCK_AFFINITY, "/calico/ipam/v2/host/a/ipv4/block"),
    ],
)
def test_what_has_another_form_is_nobodys(kind: Kind, path: str) -> None:
    assert LAYOUT.key(kind, path) is None


@pytest.mark.parametrize(
    ("key", "field"),
    [
        (ResourceKey(calico("IPPool"), ""), "metadata.name"),
        (ResourceKey(calico("IPPool"), "a/b"), "metadata.name"),
        (ResourceKey(calico("WorkloadEndpoint"), "a"), "metadata.namespace"),
        (ResourceKey(calico("WorkloadEndpoint"), "a", "b/c"), "metadata.namespace"),
        (ResourceKey(IPAM_CONFIGURATION, "mine"), "metadata.name"),
        (ResourceKey(BLOCK_AFFINITY, "10.0.0.0-26"), "spec.node"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_field(key: ResourceKey, field: str) -> None:
    with pytest.raises(InvalidResource) as raised:
        LAYOUT.path(key)
    assert raised.value.field == field
