"""Short ways to write resources down."""

from __future__ import annotations

import textwrap
from typing import Any

from tortie.resources import codec, registry
from tortie.resources.allocation_block import AllocationBlockSpec, BlockAttribute, block_key
from tortie.resources.bgp_configuration import BGP_CONFIGURATION, BGPConfigurationSpec
from tortie.resources.bgp_peer import BGP_PEER, BGPPeerSpec
from tortie.resources.block_affinity import BlockAffinitySpec, affinity_key
from tortie.resources.documents import parse
from tortie.resources.felix_configuration import FELIX_CONFIGURATION, FelixConfigurationSpec
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.node import NODE, NodeAddress, NodeBGPSpec, NodeSpec
from tortie.resources.profile import PROFILE, ProfileSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey, Revision
from tortie.resources.rules import Rule
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec, endpoint_name


def node(
    name: str,
    ipv4: str = "",
    *,
    ipv6: str = "",
    labels: dict[str, str] | None = None,
    addresses: tuple[str, ...] = (),
    **bgp: Any,
) -> Resource[NodeSpec]:
    spoken = NodeBGPSpec(ipv4_address=ipv4, ipv6_address=ipv6, **bgp) if ipv4 or ipv6 or bgp else None
    listed = tuple(NodeAddress(address=address, type="InternalIP") for address in addresses)
    return Resource(
        key=ResourceKey(NODE, name),
        metadata=Metadata(labels=labels or {}),
        spec=NodeSpec(bgp=spoken, addresses=listed),
    )


def pool(name: str, cidr: str, **spec: Any) -> Resource[IPPoolSpec]:
    return Resource(key=ResourceKey(IP_POOL, name), spec=IPPoolSpec(cidr=cidr, **spec))


def block(cidr: str, owner: str = "", held: dict[int, str] | None = None) -> Resource[AllocationBlockSpec]:
    """``held``: the containers that hold addresses, by ordinal."""
    size = 64
    allocations: list[int | None] = [None] * size
    attributes: list[BlockAttribute] = []
    for ordinal, container in (held or {}).items():
        allocations[ordinal] = len(attributes)
        attributes.append(BlockAttribute(handle_id=f"k8s-pod-network.{container}"))
    return Resource(
        key=block_key(cidr),
        spec=AllocationBlockSpec(
            cidr=cidr,
            affinity=f"host:{owner}" if owner else None,
            allocations=tuple(allocations),
            unallocated=tuple(n for n in range(size) if allocations[n] is None),
            attributes=tuple(attributes),
        ),
    )


def affinity(owner: str, cidr: str, state: str = "confirmed") -> Resource[BlockAffinitySpec]:
    return Resource(key=affinity_key(owner, cidr), spec=BlockAffinitySpec(state=state, node=owner, cidr=cidr))


def endpoint(
    on: str, pod: str, *addresses: str, container: str = "", revision: str = "1", **spec: Any
) -> Resource[WorkloadEndpointSpec]:
    """A pod's endpoint in the namespace ``default``; its interface is ``cali-<pod>``."""
    return Resource(
        key=ResourceKey(WORKLOAD_ENDPOINT, endpoint_name(on, "k8s", pod, "eth0"), "default"),
        revision=Revision(revision),
        spec=WorkloadEndpointSpec(
            node=on,
            pod=pod,
            container_id=container or f"c-{pod}",
            interface_name=spec.pop("interface_name", f"cali-{pod}"),
            ip_networks=addresses,
            **spec,
        ),
    )


def felix(name: str = "default", **spec: Any) -> Resource[FelixConfigurationSpec]:
    return Resource(key=ResourceKey(FELIX_CONFIGURATION, name), spec=FelixConfigurationSpec(**spec))


def bgp(name: str = "default", **spec: Any) -> Resource[BGPConfigurationSpec]:
    return Resource(key=ResourceKey(BGP_CONFIGURATION, name), spec=BGPConfigurationSpec(**spec))


def peer(name: str, ip: str, as_number: int | None = 64512, **spec: Any) -> Resource[BGPPeerSpec]:
    return Resource(
        key=ResourceKey(BGP_PEER, name), spec=BGPPeerSpec(peer_ip=ip, as_number=as_number, **spec)
    )


def documents(text: str) -> list[Resource[Any]]:
    """Resources from YAML as a datastore may hold them: nobody validated them."""
    found: list[Resource[Any]] = []
    for document in parse(text, "scenario.yaml"):
        info = registry.by_document(document.value["apiVersion"], document.value["kind"])
        assert info is not None, document.value
        found.append(codec.decode(info, document.value))
    return found


def document(text: str, *, api: str = "projectcalico.org/v3") -> Resource[Any]:
    """One of them, from its kind on: ``api`` comes before."""
    (found,) = documents(f"apiVersion: {api}\n{textwrap.dedent(text)}")
    return found


def profile(name: str, labels: dict[str, str] | None = None) -> Resource[ProfileSpec]:
    """One that allows everything."""
    allow = (Rule(action="Allow"),)
    spec = ProfileSpec(ingress=allow, egress=allow, labels_to_apply=labels or {})
    return Resource(key=ResourceKey(PROFILE, name), spec=spec)


def pod(
    on: str,
    name: str,
    *addresses: str,
    labels: dict[str, str] | None = None,
    namespace: str = "default",
    account: str = "",
    **spec: Any,
) -> Resource[WorkloadEndpointSpec]:
    """A pod's endpoint with labels, and the profiles of its namespace and service account."""
    profiles = (f"kns.{namespace}", *([f"ksa.{namespace}.{account}"] if account else []))
    return Resource(
        key=ResourceKey(WORKLOAD_ENDPOINT, endpoint_name(on, "k8s", name, "eth0"), namespace),
        metadata=Metadata(labels=labels or {}),
        revision=Revision("1"),
        spec=WorkloadEndpointSpec(
            node=on,
            orchestrator="k8s",
            pod=name,
            container_id=f"c-{name}",
            endpoint="eth0",
            interface_name=f"cali-{name}",
            ip_networks=addresses,
            profiles=spec.pop("profiles", profiles),
            service_account_name=account,
            **spec,
        ),
    )
