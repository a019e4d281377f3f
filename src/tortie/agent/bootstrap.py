"""A node's own set-up: its address and AS number, its Node resource, and what every cluster needs (pools, ClusterInformation,
FelixConfiguration). Runs before anything else, and again every minute for the address.

Nodes may do this at the same moment against one datastore: everything is written by compare-and-swap or only where it is absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from tortie.agent.autodetect import (
    MTU_PATTERN,
    Found,
    HostInterface,
    choose,
    holder,
    host_interface,
    link_mtu,
    link_segments,
    other_networks,
    why_none,
)
from tortie.agent.cluster_defaults import (
    MOST_TRIES,
    VERSIONS,
    create_if_absent,
    ensure_cluster_information,
    ensure_felix_configuration,
    ensure_tiers,
    every,
    missing_pools,
    pools_of,
    stored_or_none,
    written,
)
from tortie.agent.default_pools import PodSizes, pod_sizes, pool_overlaps
from tortie.agent.node_options import NodeOptions
from tortie.datastore.store import Store
from tortie.errors import Conflict, InvalidResource, UsageError
from tortie.kernel import machine as this_machine
from tortie.net.addresses import Address, Interface, Prefix, Version
from tortie.observe import log
from tortie.resources.felix_configuration import FELIX_CONFIGURATION
from tortie.resources.ip_pool import IPPoolSpec
from tortie.resources.node import NETWORKS_ANNOTATION, NODE, NodeAddress, NodeBGPSpec, NodeSpec
from tortie.resources.resource import Resource, ResourceKey

logger = log.get("bootstrap")
OWN_ADDRESS = "CalicoNodeIP"
"""The type of those of a Node's addresses that are ours to write."""


class ThisMachine:
    """The machine, or network namespace, that this process runs in."""

    def interfaces(self) -> Sequence[HostInterface]:
        return [host_interface(link, addresses) for link, addresses in this_machine.interfaces()]

    def source_towards(self, target: str, version: Version) -> Address | None:
        return this_machine.source_towards(target, version)


class Machine(Protocol):
    """What is asked of the machine. Both may block for some milliseconds, and a name's resolution longer."""

    def interfaces(self) -> Sequence[HostInterface]:
        """All interfaces, in the kernel's order. Raises `KernelError`."""
        ...

    def source_towards(self, target: str, version: Version) -> Address | None:
        """The machine's own address on the way to an address or a host's name; None when there is no way."""
        ...


@dataclass(frozen=True, kw_only=True)
class NodeIdentity:
    """Who this node is now. ``link`` is what its uplinks take."""

    node: str
    ipv4: Interface | None
    ipv6: Interface | None
    link: PodSizes

    def address(self, version: int) -> Interface | None:
        return self.ipv4 if version == 4 else self.ipv6


async def bootstrap(store: Store, options: NodeOptions, machine: Machine) -> NodeIdentity:
    """Set the node up; idempotent.

    Raises `UsageError` when no address can be found, `InvalidResource` when the address is another node's or a pool lies over
    the node's own network, and what the store raises.
    """
    interfaces = await asyncio.to_thread(machine.interfaces)
    stored = await stored_or_none(store, ResourceKey(NODE, options.node))
    found = await _find_all(options, machine, interfaces, stored)
    pools = await pools_of(store)
    missing = missing_pools(options, interfaces, pools)
    _refuse_overlaps(options.node, found, [*pools, *missing])
    for network in other_networks(interfaces, (one.address for one in found.values())):
        for pool in pools:
            if pool_overlaps(pool.spec, network):
                # No reason to leave the pods of this node without an agent: `tortie apply` refuses such a pool beforehand.
                logger.warning(
                    "a pool lies over a network of this machine: what is there may be unreachable",
                    pool=pool.key.name,
                    cidr=pool.spec.cidr,
                    network=str(network),
                )
    for pool in missing:
        await create_if_absent(store, pool)
    await ensure_cluster_information(store, options.cluster_type)
    await ensure_felix_configuration(store)
    await ensure_tiers(store)
    return await settle_node(store, options, machine)


async def settle_node(store: Store, options: NodeOptions, machine: Machine) -> NodeIdentity:
    """Find the node's addresses and write them into its Node. Raises as `bootstrap` does; then the Node stays as it was."""
    interfaces = await asyncio.to_thread(machine.interfaces)
    key = ResourceKey(NODE, options.node)
    for _ in range(MOST_TRIES):
        stored = await stored_or_none(store, key)
        found = await _find_all(options, machine, interfaces, stored)
        _refuse_overlaps(options.node, found, await pools_of(store))
        addresses: dict[Version, Interface] = {version: one.address for version, one in found.items()}
        if options.check_conflicts:
            await _refuse_conflict(store, options.node, addresses)
        networks = other_networks(interfaces, addresses.values())
        if await written(store, stored, node_resource(key, stored, options, addresses, networks)):
            pattern = await _mtu_pattern(store, options.node)
            return NodeIdentity(
                node=options.node,
                ipv4=addresses.get(4),
                ipv6=addresses.get(6),
                link=PodSizes(link_mtu(pattern, interfaces), link_segments(pattern, interfaces)),
            )
    raise Conflict(str(key))


async def watch_addresses(
    store: Store,
    options: NodeOptions,
    machine: Machine,
    identity: NodeIdentity,
    on_look: Callable[[NodeIdentity, Exception | None], Awaitable[None]],
) -> None:
    """Look again every ``poll_seconds``. Eternal.

    ``on_look`` gets the identity that holds now and, when the machine's address cannot be followed, why; then the old one
    stays. A datastore that is away is told in the same way.
    """
    while True:
        await asyncio.sleep(options.poll_seconds)
        refusal: Exception | None = None
        try:
            identity = await settle_node(store, options, machine)
        except Exception as error:
            refusal = error
        await on_look(identity, refusal)


async def sizes_of_pods(store: Store, identity: NodeIdentity) -> PodSizes:
    """What a pod's interface gets: what the uplinks take, less what encapsulation costs."""
    return pod_sizes(identity.link, await pools_of(store))


async def _find_all(
    options: NodeOptions,
    machine: Machine,
    interfaces: Sequence[HostInterface],
    stored: Resource[NodeSpec] | None,
) -> dict[Version, Found]:
    found: dict[Version, Found] = {}
    for version in VERSIONS:
        one = await _find(options, version, machine, interfaces, stored)
        if one is not None:
            found[version] = one
    return found


async def _find(
    options: NodeOptions,
    version: Version,
    machine: Machine,
    interfaces: Sequence[HostInterface],
    stored: Resource[NodeSpec] | None,
) -> Found | None:
    want = options.want[version]
    if want == "none":
        return None
    if isinstance(want, Interface):
        return _explicit(want, interfaces)
    method = options.methods[version]
    if want == "keep":
        kept = _stored_address(stored, version)
        found = holder(kept.address, interfaces) if kept else None
        if found is not None:
            return found
    source = None
    if method.kind == "can-reach":
        source = await asyncio.to_thread(machine.source_towards, method.target, version)
    found = choose(method, version, interfaces, source)
    if found is not None:
        return found
    name = "IP" if version == 4 else "IP6"
    reason = (
        f"there is no way to {method.target}"
        if method.kind == "can-reach" and source is None
        else why_none(method, version, interfaces)
    )
    raise UsageError(
        f"the node {options.node} has no IPv{version} address that {method} finds: {reason}; "
        f"set {name} or {name}_AUTODETECTION_METHOD"
    )


def _explicit(want: Interface, interfaces: Sequence[HostInterface]) -> Found:
    """An address that was told; its network's length from the interface that has it, where none was told."""
    found = holder(want.address, interfaces)
    if found is None:
        return Found("", want)
    told = want.address.prefix.length != want.length
    return Found(found.interface, want if told else found.address)


def _stored_address(stored: Resource[NodeSpec] | None, version: int) -> Interface | None:
    if stored is None or stored.spec.bgp is None:
        return None
    text = stored.spec.bgp.ipv4_address if version == 4 else stored.spec.bgp.ipv6_address
    try:
        return Interface.parse(text) if text else None
    except ValueError:
        return None


def _refuse_overlaps(
    node: str, found: Mapping[Version, Found], pools: Sequence[Resource[IPPoolSpec]]
) -> None:
    for interface, address in found.values():
        for pool in pools:
            if pool_overlaps(pool.spec, address.network):
                where = f"{address.network} on {interface}" if interface else str(address.network)
                raise InvalidResource(
                    "spec.cidr",
                    pool.spec.cidr,
                    f"overlaps the own network of the node {node} ({where}): what is there would be unreachable",
                    str(pool.key),
                )


async def _refuse_conflict(store: Store, node: str, addresses: Mapping[Version, Interface]) -> None:
    own = {each.address: each for each in addresses.values()}
    async for resource in every(store, NODE):
        if resource.key.name == node:
            continue
        for version in VERSIONS:
            theirs = _stored_address(resource, version)
            if theirs is not None and theirs.address in own:
                raise InvalidResource(
                    f"spec.bgp.ipv{version}Address",
                    own[theirs.address],
                    f"is the address of the node {resource.key.name} already: give one of them another, "
                    f"or delete that node if it is gone",
                    f"Node {node}",
                )


def node_resource(
    key: ResourceKey,
    stored: Resource[NodeSpec] | None,
    options: NodeOptions,
    addresses: Mapping[Version, Interface],
    networks: Sequence[Prefix],
) -> Resource[NodeSpec]:
    """The Node as it should be, everything else of it kept as it was. ``networks``: where it stands besides."""
    before = stored if stored is not None else Resource(key=key, spec=NodeSpec())
    annotations = {**before.metadata.annotations, NETWORKS_ANNOTATION: ",".join(map(str, networks))}
    if not networks:
        del annotations[NETWORKS_ANNOTATION]
    before = replace(before, metadata=replace(before.metadata, annotations=annotations))
    bgp = before.spec.bgp or NodeBGPSpec()
    bgp = msgspec.structs.replace(
        bgp,
        ipv4_address=str(addresses.get(4) or ""),
        ipv6_address=str(addresses.get(6) or ""),
        as_number=bgp.as_number if options.as_number is None else options.as_number,
    )
    others = tuple(each for each in before.spec.addresses if each.type != OWN_ADDRESS)
    own = tuple(NodeAddress(address=str(each), type=OWN_ADDRESS) for each in addresses.values())
    spoken = None if bgp == NodeBGPSpec() else bgp
    return before.with_spec(msgspec.structs.replace(before.spec, bgp=spoken, addresses=(*own, *others)))


async def _mtu_pattern(store: Store, node: str) -> str:
    for name in (f"node.{node}", "default"):
        resource = await stored_or_none(store, ResourceKey(FELIX_CONFIGURATION, name))
        if resource is not None and resource.spec.mtu_iface_pattern:
            return str(resource.spec.mtu_iface_pattern)
    return MTU_PATTERN
