"""A node's own set-up against a real datastore file."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tortie.agent.autodetect import HostInterface
from tortie.agent.bootstrap import NodeIdentity, bootstrap, settle_node, sizes_of_pods, watch_addresses
from tortie.agent.default_pools import PodSizes
from tortie.agent.node_options import NodeOptions, node_options
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.errors import InvalidResource, NotFound, UsageError
from tortie.host.links import UNKNOWN_SEGMENTS, SegmentSizes
from tortie.net.addresses import Address, Interface, Version
from tortie.resources.cluster_information import CLUSTER_INFORMATION
from tortie.resources.felix_configuration import FELIX_CONFIGURATION, FelixConfigurationSpec
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec, among
from tortie.resources.node import NODE, NodeAddress, NodeBGPSpec, NodeSpec
from tortie.resources.resource import Kind, Metadata, Resource, ResourceKey
from tortie.resources.tier import BUILT_IN, TIER, TierSpec

BIG = SegmentSizes(196608, 131072)


class FakeMachine:
    """A machine with the interfaces that it was given."""

    def __init__(self, *interfaces: HostInterface, source: str = "") -> None:
        self.now: Sequence[HostInterface] = interfaces
        self.source = source
        self.asked: list[str] = []

    def interfaces(self) -> Sequence[HostInterface]:
        return self.now

    def source_towards(self, target: str, version: Version) -> Address | None:
        self.asked.append(target)
        return Address.parse(self.source) if self.source else None


def nic(
    name: str, *addresses: str, mtu: int = 1500, segments: SegmentSizes = UNKNOWN_SEGMENTS
) -> HostInterface:
    return HostInterface(
        name=name, mtu=mtu, segments=segments, addresses=tuple(map(Interface.parse, addresses))
    )


def machine(number: int = 1, **more: Any) -> FakeMachine:
    return FakeMachine(nic("eth0", f"172.30.0.1{number}/24", f"fd30::1{number}/64", **more))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(f"sqlite://{tmp_path}/t.db")
    yield opened
    await opened.close()


async def get(store: Store, kind: Kind, name: str = "default") -> Resource[Any]:
    return await store.get(ResourceKey(kind, name))


def options(node: str = "node1", **said: str) -> NodeOptions:
    return node_options(node, said)


async def test_the_first_node_of_a_cluster(store: Store) -> None:
    identity = await bootstrap(store, options(), machine(mtu=1450, segments=BIG))
    assert identity == NodeIdentity(
        node="node1", ipv4=Interface.parse("172.30.0.11/24"), ipv6=None, link=PodSizes(1450, BIG)
    )
    node = await get(store, NODE, "node1")
    assert node.spec.bgp == NodeBGPSpec(ipv4_address="172.30.0.11/24")
    assert node.spec.addresses == (NodeAddress(address="172.30.0.11/24", type="CalicoNodeIP"),)
    pool = (await get(store, IP_POOL, "default-ipv4-ippool")).spec
    assert (pool.cidr, pool.block_size, pool.nat_outgoing) == ("192.168.0.0/16", 26, True)
    with pytest.raises(NotFound):
        await get(store, IP_POOL, "default-ipv6-ippool")
    cluster = (await get(store, CLUSTER_INFORMATION)).spec
    assert len(cluster.cluster_guid) == 32
    assert cluster.datastore_ready is True
    felix = (await get(store, FELIX_CONFIGURATION)).spec
    assert felix.nat_outgoing_exclusions == "IPPoolsAndHostIPs"
    assert felix.default_endpoint_to_host_action == "Return"
    assert await sizes_of_pods(store, identity) == PodSizes(1450, SegmentSizes(196608, 65536))


async def test_the_built_in_tiers_are_there_as_calico_has_them(store: Store) -> None:
    await store.create(Resource(key=ResourceKey(TIER, "default"), spec=TierSpec(order=5.0)))
    await bootstrap(store, options(), machine())
    tiers = {name: (await get(store, TIER, name)).spec for name in BUILT_IN}
    assert tiers == {
        "kube-admin": TierSpec(order=1_000.0, default_action="Pass"),
        "default": TierSpec(order=5.0),  # what somebody wrote is left to them
        "kube-baseline": TierSpec(order=10_000_000.0, default_action="Pass"),
    }


async def test_doing_it_again_writes_nothing(store: Store) -> None:
    await bootstrap(store, options(), machine())
    kinds = [
        (NODE, "node1"),
        (IP_POOL, "default-ipv4-ippool"),
        (CLUSTER_INFORMATION, "default"),
        (FELIX_CONFIGURATION, "default"),
        *((TIER, name) for name in BUILT_IN),
    ]
    before = [(await get(store, *each)).revision for each in kinds]
    await bootstrap(store, options(), machine())
    assert [(await get(store, *each)).revision for each in kinds] == before


async def test_what_is_set_stays(store: Store) -> None:
    await store.create(
        Resource(
            key=ResourceKey(FELIX_CONFIGURATION, "default"),
            spec=FelixConfigurationSpec(default_endpoint_to_host_action="Drop", mtu_iface_pattern="^eth1$"),
        )
    )
    await store.create(
        Resource(
            key=ResourceKey(NODE, "node1"),
            metadata=Metadata(labels={"rack": "a"}),
            spec=NodeSpec(
                bgp=NodeBGPSpec(
                    as_number=65001, ipv4_address="192.0.2.99/24", route_reflector_cluster_id="1.2.3.4"
                ),
                addresses=(NodeAddress(address="198.51.100.7", type="InternalIP"),),
            ),
            unknown={("spec", "custom"): "kept"},
        )
    )
    await store.create(
        Resource(key=ResourceKey(IP_POOL, "mine"), spec=IPPoolSpec(cidr="10.5.0.0/16", vxlan_mode="Always"))
    )
    identity = await bootstrap(
        store,
        options(),
        FakeMachine(nic("eth0", "172.30.0.11/24", mtu=1200), nic("eth1", mtu=1400, segments=BIG)),
    )
    node = await get(store, NODE, "node1")
    assert node.metadata.labels == {"rack": "a"}
    assert node.spec.bgp == NodeBGPSpec(
        as_number=65001, ipv4_address="172.30.0.11/24", route_reflector_cluster_id="1.2.3.4"
    )
    assert [each.address for each in node.spec.addresses] == ["172.30.0.11/24", "198.51.100.7"]
    assert node.unknown == {("spec", "custom"): "kept"}
    felix = (await get(store, FELIX_CONFIGURATION)).spec
    assert felix.default_endpoint_to_host_action == "Drop"
    assert felix.nat_outgoing_exclusions == "IPPoolsAndHostIPs"
    with pytest.raises(NotFound):
        await get(store, IP_POOL, "default-ipv4-ippool")
    assert identity.link == PodSizes(1400, BIG)
    assert await sizes_of_pods(store, identity) == PodSizes(1350, SegmentSizes(65536, 65536)), (
        "a tunnel takes no more"
    )


async def test_many_nodes_at_once_agree(store: Store, tmp_path: Path) -> None:
    stores = [open_store(f"sqlite://{tmp_path}/t.db") for _ in range(6)]
    try:
        dual = {"IP6": "autodetect"}
        identities = await asyncio.gather(
            *(bootstrap(each, options(f"node{n}", **dual), machine(n)) for n, each in enumerate(stores, 1))
        )
    finally:
        for each in stores:
            await each.close()
    assert [str(each.ipv6) for each in identities] == [f"fd30::1{n}/64" for n in range(1, 7)]
    pools = [update async for page in store.list(IP_POOL) for update in page.updates]
    assert sorted(update.key.name for update in pools) == ["default-ipv4-ippool", "default-ipv6-ippool"]
    six = (await get(store, IP_POOL, "default-ipv6-ippool")).spec
    assert six.cidr.startswith("fd")
    assert (six.block_size, six.nat_outgoing) == (122, False)


async def test_calicos_variables_make_the_pools(store: Store) -> None:
    said = {
        "AS": "65001.2",
        "IP6": "autodetect",
        "CALICO_IPV4POOL_CIDR": "10.77.0.0/16",
        "CALICO_IPV4POOL_BLOCK_SIZE": "24",
        "CALICO_IPV4POOL_NAT_OUTGOING": "false",
        "CALICO_IPV4POOL_NODE_SELECTOR": "has(rack)",
        "CALICO_IPV4POOL_IPIP": "off",
        "CALICO_IPV4POOL_VXLAN": "CrossSubnet",
        "CALICO_IPV4POOL_DISABLE_BGP_EXPORT": "true",
        "CALICO_IPV6POOL_CIDR": "none",
    }
    await bootstrap(store, options(**said), machine())
    pool = (await get(store, IP_POOL, "default-ipv4-ippool")).spec
    assert pool == IPPoolSpec(
        cidr="10.77.0.0/16",
        block_size=24,
        nat_outgoing=False,
        node_selector="has(rack)",
        vxlan_mode="CrossSubnet",
        disable_bgp_export=True,
    )
    with pytest.raises(NotFound):
        await get(store, IP_POOL, "default-ipv6-ippool")
    assert (await get(store, NODE, "node1")).spec.bgp.as_number == "65001.2"


async def test_the_networks_of_second_uplinks_are_told_to_whoever_makes_a_pool(store: Store) -> None:
    """An agent does not end itself for a pool that lies over one; nobody gets to make it."""
    two = FakeMachine(
        nic("eth0", "172.30.0.11/24", "172.31.0.11/24"),
        nic("eth1", "10.9.0.4/24", "fe80::4/64", "fd09::4/64", "10.8.0.1/32"),
        nic("docker0", "172.17.0.1/16"),
        nic("lo", "127.0.0.1/8"),
    )
    await store.create(Resource(key=ResourceKey(IP_POOL, "old"), spec=IPPoolSpec(cidr="10.9.0.0/16")))
    await bootstrap(store, options(), two)
    node = await get(store, NODE, "node1")
    assert node.metadata.annotations == {"tortie.io/networks": "10.9.0.0/24,172.31.0.0/24,fd09::/64"}
    refused = {
        cidr: [finding.rule for finding in among(made(cidr), [node])]
        for cidr in (
            "10.9.0.0/25",
            "172.31.0.0/16",
            "fd09::/48",
            "172.16.0.0/12",
            "172.17.0.0/16",
            "10.8.0.0/24",
        )
    }
    assert refused == {
        "10.9.0.0/25": ["overlaps a network of Node node1 (10.9.0.0/24)"],
        "172.31.0.0/16": ["overlaps a network of Node node1 (172.31.0.0/24)"],
        "fd09::/48": ["overlaps a network of Node node1 (fd09::/64)"],
        "172.16.0.0/12": [
            "overlaps the network of Node node1 (172.30.0.11/24)",
            "overlaps a network of Node node1 (172.31.0.0/24)",
        ],
        "172.17.0.0/16": [],
        "10.8.0.0/24": [],
    }
    two.now = [nic("eth0", "172.30.0.11/24")]
    await settle_node(store, options(), two)
    assert (await get(store, NODE, "node1")).metadata.annotations == {}


def made(cidr: str) -> Resource[Any]:
    return Resource(key=ResourceKey(IP_POOL, "new"), spec=IPPoolSpec(cidr=cidr))


async def test_the_default_pool_keeps_clear_of_the_machines_networks(store: Store) -> None:
    await bootstrap(
        store, options(), FakeMachine(nic("eth0", "192.168.7.1/24"), nic("eth1", "172.16.3.4/16"))
    )
    assert (await get(store, IP_POOL, "default-ipv4-ippool")).spec.cidr == "172.17.0.0/16"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            {"CALICO_IPV4POOL_CIDR": "172.30.0.0/16"},
            "overlaps the own network of the node node1.*172.30.0.0/24 on eth0",
        ),
        ({"CALICO_IPV4POOL_CIDR": "10.77.0.0/16", "CALICO_IPV4POOL_BLOCK_SIZE": "33"}, "blockSize"),
    ],
)
async def test_a_pool_that_cannot_be_is_not_made(store: Store, said: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidResource, match=why):
        await bootstrap(store, options(**said), machine())
    assert [update async for page in store.list(IP_POOL) for update in page.updates] == []
    assert [update async for page in store.list(NODE) for update in page.updates] == []


async def test_another_nodes_address_is_refused(store: Store) -> None:
    await bootstrap(store, options("node1"), machine())
    with pytest.raises(InvalidResource, match=r"172\.30\.0\.11/24 is the address of the node node1 already"):
        await bootstrap(store, options("node2"), machine())
    with pytest.raises(NotFound):
        await get(store, NODE, "node2")
    await bootstrap(store, options("node2", DISABLE_NODE_IP_CHECK="true"), machine())


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ({}, "172.30.0.11/24"),
        ({"IP": "autodetect", "IP_AUTODETECTION_METHOD": "interface=eth1"}, "203.0.113.11/24"),
        ({"IP": "autodetect", "IP_AUTODETECTION_METHOD": "can-reach=203.0.113.1"}, "203.0.113.11/24"),
        ({"IP": "203.0.113.11"}, "203.0.113.11/24"),
        ({"IP": "203.0.113.11/25"}, "203.0.113.11/25"),
        ({"IP": "192.0.2.1"}, "192.0.2.1/32"),
        ({"IP": "none"}, "None"),
    ],
)
async def test_how_the_address_is_told(store: Store, said: dict[str, str], address: str) -> None:
    two = FakeMachine(nic("eth0", "172.30.0.11/24"), nic("eth1", "203.0.113.11/24"), source="203.0.113.11")
    identity = await bootstrap(store, options(**said), two)
    assert str(identity.ipv4) == address
    node = await get(store, NODE, "node1")
    assert (node.spec.bgp is None) == (address == "None")


async def test_no_address_is_explained(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"node1 has no IPv4 address that first-found finds: docker0 is passed over; set IP"
    ):
        await bootstrap(store, options(), FakeMachine(nic("docker0", "172.17.0.1/16")))
    with pytest.raises(UsageError, match=r"no way to 192\.0\.2\.1"):
        await bootstrap(store, options(IP_AUTODETECTION_METHOD="can-reach=192.0.2.1"), machine())


async def test_a_kept_address_gives_way_when_the_machine_lost_it(store: Store) -> None:
    both = FakeMachine(nic("eth0", "172.30.0.11/24"), nic("eth1", "203.0.113.11/24"))
    await bootstrap(store, options(IP="autodetect", IP_AUTODETECTION_METHOD="interface=eth1"), both)
    assert str((await settle_node(store, options(), both)).ipv4) == "203.0.113.11/24"
    both.now = both.now[:1]
    assert str((await settle_node(store, options(), both)).ipv4) == "172.30.0.11/24"


async def test_the_second_look_follows_or_says_why_not(store: Store) -> None:
    await bootstrap(store, options("node2"), machine(2))
    here = machine()
    told = dataclasses.replace(options(), poll_seconds=0.01)
    identity = await bootstrap(store, told, here)
    looks: asyncio.Queue[tuple[NodeIdentity, Exception | None]] = asyncio.Queue()

    async def on_look(now: NodeIdentity, refusal: Exception | None) -> None:
        await looks.put((now, refusal))

    async def look() -> tuple[str, str]:
        while not looks.empty():
            looks.get_nowait()
        await looks.get()  # may have begun before the change
        now, refusal = await looks.get()
        return str(now.ipv4), str(refusal or "")

    task = asyncio.ensure_future(watch_addresses(store, told, here, identity, on_look))
    try:
        assert await look() == ("172.30.0.11/24", "")
        here.now = machine(3).now
        assert await look() == ("172.30.0.13/24", "")
        assert (await get(store, NODE, "node1")).spec.bgp.ipv4_address == "172.30.0.13/24"
        here.now = machine(2).now
        address, refusal = await look()
        assert address == "172.30.0.13/24"
        assert "is the address of the node node2 already" in refusal
        here.now = (nic("eth0", "192.168.1.1/24"),)
        assert "overlaps the own network" in (await look())[1]
        here.now = ()
        assert "there is no interface" in (await look())[1]
        assert (await get(store, NODE, "node1")).spec.bgp.ipv4_address == "172.30.0.13/24"
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"IP": "eth0"}, "IP 'eth0' is no IPv4 address"),
        ({"IP": "fd00::1"}, "is no IPv4 address"),
        ({"AS": "zero"}, "AS 'zero'"),
        ({"AS": "0"}, "AS '0'"),
        ({"CALICO_IPV4POOL_CIDR": "10.1.2.3/8"}, "CALICO_IPV4POOL_CIDR '10.1.2.3/8'"),
        ({"CALICO_IPV4POOL_CIDR": "fd00::/48"}, "is not IPv4"),
        ({"CALICO_IPV4POOL_IPIP": "sometimes"}, "is not Never, Always or CrossSubnet"),
        ({"CALICO_IPV4POOL_NAT_OUTGOING": "maybe"}, "is neither true nor false"),
        ({"CALICO_IPV4POOL_BLOCK_SIZE": "big"}, "is no prefix length"),
        ({"AUTODETECT_POLL_INTERVAL": "0"}, "no number of seconds"),
        ({"IP_AUTODETECTION_METHOD": "guess"}, "'guess' is no autodetection method"),
    ],
)
def test_bad_variables_are_named(said: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        node_options("node1", said)
