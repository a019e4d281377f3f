"""Deleting a node: what it had goes back, except what pods still use."""

from __future__ import annotations

from tortie.datastore.store import Store
from tortie.ipam.affinity import release_affinity
from tortie.ipam.allocator import Allocator
from tortie.ipam.handles import ipip_tunnel_handle, vxlan_tunnel_handle, wireguard_tunnel_handle
from tortie.ipam.records import affinities, prefix_of_key
from tortie.net.addresses import Address, Prefix


async def release_node(store: Store, name: str) -> tuple[tuple[Address, ...], tuple[Prefix, ...]]:
    """Give back a node's tunnel addresses and blocks; returns both.

    A block with addresses in use stays without an owner until they are given back: by DEL, or by ``ipam check --repair``.
    To be called once the Node is gone; an agent that is still alive claims anew.
    """
    tunnels: list[Address] = []
    blocks: list[Prefix] = []
    allocator = Allocator(store, name)
    async with allocator.closing():
        for handle in (
            ipip_tunnel_handle(name),
            *(vxlan_tunnel_handle(name, version) for version in (4, 6)),
            *(wireguard_tunnel_handle(name, version) for version in (4, 6)),
        ):
            tunnels += await allocator.release_handle(handle)
    for affinity in await affinities(store, name):
        cidr = prefix_of_key(affinity.key)
        if cidr is not None:
            await release_affinity(store, name, cidr, only_empty=False)
            blocks.append(cidr)
    return tuple(tunnels), tuple(blocks)
