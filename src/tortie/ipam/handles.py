"""Handles: for each owner of addresses, the blocks that hold them and how many. Every change is a compare-and-swap.

A handle is written before the block and removed after it. So whoever dies in between leaves a handle that promises too
much, never an address that no handle leads to.
"""

from __future__ import annotations

import asyncio

import msgspec

from tortie.aio.backoff import Backoff
from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, Conflict, NotFound
from tortie.ipam.records import find_handle
from tortie.net.addresses import Prefix
from tortie.resources.ipam_handle import IPAMHandleSpec, handle_key
from tortie.resources.resource import Resource

ATTEMPTS = 100
"""How often a write is tried again when others were first, as in Calico."""


def retry_delays() -> Backoff:
    """The waits between such tries."""
    return Backoff(first_seconds=0.002, most_seconds=0.1)


def pod_handle(network: str, container_id: str) -> str:
    """The handle of a pod sandbox, as Calico names it: ``k8s-pod-network.3f2a…``."""
    return f"{network}.{container_id}"


def ipip_tunnel_handle(node: str) -> str:
    """The handle of a node's IPIP tunnel address."""
    return f"ipip-tunnel-addr-{node}"


def vxlan_tunnel_handle(node: str, version: int = 4) -> str:
    """The handle of a node's VXLAN tunnel address."""
    return f"vxlan-tunnel-addr-{node}" if version == 4 else f"vxlan-v6-tunnel-addr-{node}"


def wireguard_tunnel_handle(node: str, version: int = 4) -> str:
    """The handle of a node's WireGuard address."""
    return f"wireguard-tunnel-addr-{node}" if version == 4 else f"wireguard-v6-tunnel-addr-{node}"


async def create(store: Store, handle: str, cidr: Prefix, count: int) -> None:
    """The first addresses of a handle. Raises `AlreadyExists`."""
    await store.create(Resource(key=handle_key(handle), spec=IPAMHandleSpec(block={str(cidr): count})))


async def increment(store: Store, handle: str, cidr: Prefix, count: int) -> None:
    """``count`` more addresses in this block. Raises `Conflict` after 100 tries."""
    delays = retry_delays()
    for _ in range(ATTEMPTS):
        found = await find_handle(store, handle)
        try:
            if found is None:
                await create(store, handle, cidr, count)
            else:
                counts = dict(found.spec.block)
                counts[str(cidr)] = counts.get(str(cidr), 0) + count
                await store.update(found.with_spec(msgspec.structs.replace(found.spec, block=counts)))
        except (AlreadyExists, Conflict, NotFound):
            await asyncio.sleep(delays.next_seconds())
            continue
        return
    raise Conflict(str(handle_key(handle)))


async def decrement(store: Store, handle: str, cidr: Prefix, count: int) -> None:
    """``count`` fewer; with the last one the handle goes. A handle that is gone is success."""
    delays = retry_delays()
    for _ in range(ATTEMPTS):
        found = await find_handle(store, handle)
        if found is None:
            return
        counts = dict(found.spec.block)
        left = counts.get(str(cidr), 0) - count
        if left > 0:
            counts[str(cidr)] = left
        else:
            counts.pop(str(cidr), None)
        try:
            if counts:
                await store.update(found.with_spec(msgspec.structs.replace(found.spec, block=counts)))
            else:
                await store.delete(found.key, revision=found.revision)
        except NotFound:
            return
        except Conflict:
            await asyncio.sleep(delays.next_seconds())
            continue
        return
    raise Conflict(str(handle_key(handle)))
