"""What is wrong with the addresses, found by comparing blocks, handles, affinities, pools, nodes and endpoints.

`look` reads them, `problems` compares, pure. One look at a living cluster sees things half done; only what a second look
sees again is a problem (`check`). Putting it right: ``tortie.ipam.repair``.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from tortie.datastore.store import Store
from tortie.ipam import records
from tortie.ipam.blocks import Holder, address_at, faults, holders, is_empty, owner
from tortie.ipam.records import Affinity, Block, Handle
from tortie.net.addresses import Address, Interface, Prefix
from tortie.resources.block_affinity import CONFIRMED
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.node import NODE
from tortie.resources.resource import Put, Resource
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec

SECOND_LOOK_SECONDS = 0.5
"""Between the two looks of a check; a repair waits longer."""

_TUNNELS = ("ipip-tunnel-addr-", "vxlan-tunnel-addr-", "vxlan-v6-tunnel-addr-", "wireguard-")
_LOAD_BALANCER = "lb-"


class Kind(Enum):
    """What can be wrong; the value is what the user reads."""

    LEAKED = "leaked"
    DOUBLE = "double"
    NOT_ALLOCATED = "in use, not allocated"
    NOT_IN_POOL = "not in a pool"
    MISSING_HANDLE = "missing handle"
    STALE_HANDLE = "handle without addresses"
    FOREIGN = "foreign"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Problem:
    """``subject`` is an address, a block or a handle. ``sequence`` and ``state`` tell one occurrence from the next, so
    that only what has not moved between two looks counts."""

    kind: Kind
    subject: str
    text: str
    node: str = ""
    handle: str = ""
    sequence: int | None = None
    state: str = ""
    since: datetime | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        return self.kind, self.subject, self.node, self.handle, self.sequence, self.state


@dataclass(frozen=True)
class Endpoint:
    """A workload endpoint that holds addresses."""

    name: str
    spec: WorkloadEndpointSpec


@dataclass(frozen=True)
class Snapshot:
    """Everything that IPAM is judged by. Read in this order, so that what an ADD does meanwhile is seen rather than
    missed: blocks first, endpoints last."""

    blocks: Mapping[Prefix, Block | None]
    handles: Mapping[str, Handle]
    affinities: Sequence[Affinity]
    pools: Mapping[str, Prefix]
    nodes: frozenset[str]
    endpoints: Mapping[Address, Sequence[Endpoint]]

    def allocations(self) -> Iterator[tuple[Prefix, Address, Holder]]:
        """Every address that someone has."""
        for cidr, block in self.blocks.items():
            if block is not None:
                for ordinal, who in holders(block.spec).items():
                    yield cidr, address_at(cidr, ordinal), who

    def in_pool(self, prefix: Prefix) -> bool:
        return any(pool.contains(prefix) for pool in self.pools.values())


async def look(store: Store) -> Snapshot:
    """Read it all."""
    blocks = await records.block_prefixes(store)
    handles = {handle.key.name: handle for handle in await records.handles(store)}
    affinities = await records.affinities(store)
    pools: dict[str, Prefix] = {}
    for pool in await records.resources(store, IP_POOL):
        pools[pool.key.name] = Prefix.parse(pool.spec.cidr, strict=False)
    nodes = frozenset([update.key.name async for update in records.every(store, NODE)])
    return Snapshot(blocks, handles, affinities, pools, nodes, await endpoints(store))


async def endpoints(store: Store) -> dict[Address, list[Endpoint]]:
    """Who uses each address."""
    found: dict[Address, list[Endpoint]] = defaultdict(list)
    async for update in records.every(store, WORKLOAD_ENDPOINT):
        resource: Resource[WorkloadEndpointSpec] | None = update.resource if isinstance(update, Put) else None
        if resource is None:
            continue
        for text in resource.spec.ip_networks:
            try:
                address = Interface.parse(text).address
            except ValueError:
                continue
            key = resource.key
            found[address].append(Endpoint(f"{key.within}/{resource.spec.pod or key.name}", resource.spec))
    return dict(found)


async def check(
    store: Store, *, second_look_seconds: float = SECOND_LOOK_SECONDS
) -> tuple[Snapshot, list[Problem]]:
    """What is wrong at two looks; the second is spared when the first finds nothing."""
    snapshot = await look(store)
    found = problems(snapshot)
    if not found:
        return snapshot, []
    await asyncio.sleep(second_look_seconds)
    snapshot = await look(store)
    before = {problem.identity for problem in found}
    return snapshot, [problem for problem in problems(snapshot) if problem.identity in before]


def problems(snapshot: Snapshot) -> list[Problem]:
    """All that one look shows, in a fixed order."""
    found = [
        *_damage(snapshot),
        *_allocations(snapshot),
        *_doubles(snapshot),
        *_unallocated(snapshot),
        *_handles(snapshot),
        *_affinities(snapshot),
    ]
    order = list(Kind)
    return sorted(found, key=lambda problem: (order.index(problem.kind), problem.subject))


def _damage(snapshot: Snapshot) -> Iterator[Problem]:
    for cidr, block in snapshot.blocks.items():
        if block is None:
            yield Problem(Kind.DAMAGED, str(cidr), "the stored block cannot be read", state="unreadable")
            continue
        for fault in faults(block.spec):
            where = (
                str(cidr) if fault.ordinal is None else f"{address_at(cidr, fault.ordinal)} in block {cidr}"
            )
            sequence = block.spec.sequence_number
            yield Problem(
                Kind.DAMAGED, str(cidr), f"{where} {fault.text}", sequence=sequence, state=fault.text
            )


def _allocations(snapshot: Snapshot) -> Iterator[Problem]:
    for cidr, address, who in snapshot.allocations():
        node = who.attributes.get("node", "")
        handle = who.handle or ""
        if not snapshot.in_pool(cidr):
            text = f"{address} is allocated to {describe(who)}, and block {cidr} lies in no pool"
            yield Problem(Kind.NOT_IN_POOL, str(address), text, node, handle, who.sequence)
        why = _leaked(snapshot, address, who)
        if why is not None:
            text = f"{address} is allocated to {describe(who)}, and {why}"
            yield Problem(
                Kind.LEAKED, str(address), text, node, handle, who.sequence, since=allocated_at(who)
            )


def _leaked(snapshot: Snapshot, address: Address, who: Holder) -> str | None:
    """Why nobody needs this address, or None: somebody does, or one cannot tell."""
    handle, node = who.handle or "", who.attributes.get("node", "")
    if handle.startswith(_LOAD_BALANCER) or "service" in who.attributes:
        return None
    if handle.startswith(_TUNNELS) or who.attributes.get("type", "").endswith("TunnelAddress"):
        return f"there is no node {node}" if node and node not in snapshot.nodes else None
    if not handle or not (node or "pod" in who.attributes):
        return None
    return None if address in snapshot.endpoints else "no workload endpoint has it"


def _doubles(snapshot: Snapshot) -> Iterator[Problem]:
    seen: dict[Address, list[tuple[Prefix, Holder]]] = defaultdict(list)
    for cidr, address, who in snapshot.allocations():
        seen[address].append((cidr, who))
        for endpoint in snapshot.endpoints.get(address, ()):
            container = endpoint.spec.container_id
            if container and who.handle and container not in who.handle:
                text = f"{address} is used by {endpoint.name}, and allocated to {describe(who)}"
                yield Problem(Kind.DOUBLE, str(address), text, handle=who.handle, sequence=who.sequence)
    for address, places in seen.items():
        if len(places) > 1:
            text = "; ".join(f"in block {cidr} to {describe(who)}" for cidr, who in places)
            yield Problem(Kind.DOUBLE, str(address), f"{address} is allocated twice: {text}", state="blocks")
    for address, users in snapshot.endpoints.items():
        if len(users) > 1:
            names = " and ".join(sorted(user.name for user in users))
            text = f"{address} is used by {names}"
            yield Problem(Kind.DOUBLE, str(address), text, state=names)


def _unallocated(snapshot: Snapshot) -> Iterator[Problem]:
    allocated = {address for _, address, _ in snapshot.allocations()}
    for address, users in snapshot.endpoints.items():
        if address in allocated or not snapshot.in_pool(address.prefix):
            continue
        user = users[0]
        text = f"{address} is used by {user.name} on node {user.spec.node}, and is free to be given to others"
        yield Problem(Kind.NOT_ALLOCATED, str(address), text, user.spec.node, handle_of(user))


def handle_of(endpoint: Endpoint) -> str:
    """The handle under which an endpoint's address should be, as Calico names it."""
    spec = endpoint.spec
    return f"k8s-pod-network.{spec.container_id}" if spec.container_id else endpoint.name.replace("/", ".")


def counts_by_handle(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """What each handle would say if blocks were right, and they are."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for cidr, _, who in snapshot.allocations():
        if who.handle is not None:
            counts[who.handle][str(cidr)] += 1
    return {handle: dict(by_block) for handle, by_block in counts.items()}


def _handles(snapshot: Snapshot) -> Iterator[Problem]:
    real = counts_by_handle(snapshot)
    for handle, blocks in real.items():
        stored = snapshot.handles.get(handle)
        told = stored.spec.block if stored is not None else {}
        for cidr, count in blocks.items():
            if told.get(cidr, 0) < count:
                what = "does not exist" if stored is None else f"counts {told.get(cidr, 0)} there"
                text = f"block {cidr} has {count} of handle {handle}, which {what}"
                yield Problem(Kind.MISSING_HANDLE, handle, text, handle=handle, state=f"{cidr}:{count}")
    for handle, stored in snapshot.handles.items():
        for cidr, count in stored.spec.block.items():
            has = real.get(handle, {}).get(cidr, 0)
            if has < count:
                text = f"handle {handle} counts {count} in block {cidr}, which has {has}"
                yield Problem(
                    Kind.STALE_HANDLE, handle, text, handle=handle, state=f"{cidr}:{stored.revision}"
                )


def _affinities(snapshot: Snapshot) -> Iterator[Problem]:
    owners: set[tuple[str, Prefix]] = set()
    for affinity in snapshot.affinities:
        cidr, node = records.prefix_of_key(affinity.key), affinity.key.within
        if cidr is None:
            continue
        owners.add((node, cidr))
        block = snapshot.blocks.get(cidr)
        why = ""
        if node not in snapshot.nodes:
            why = f"block {cidr} belongs to node {node}, which does not exist"
        elif cidr not in snapshot.blocks:
            why = f"node {node} has a {affinity.spec.state} affinity to block {cidr}, which does not exist"
        elif block is not None and owner(block.spec) != node:
            whose = owner(block.spec) or "nobody"
            why = f"node {node} has an affinity to block {cidr}, which belongs to {whose}"
        elif affinity.spec.state != CONFIRMED:
            why = f"node {node} has a {affinity.spec.state} affinity to its block {cidr}"
        if why:
            state = f"{affinity.spec.state}:{affinity.revision}"
            yield Problem(Kind.FOREIGN, str(cidr), why, node, state=state)
    for cidr, block in snapshot.blocks.items():
        if block is None:
            continue
        node = owner(block.spec) or ""
        if node and (node, cidr) not in owners:
            text = f"block {cidr} belongs to node {node}, which has no affinity to it"
            yield Problem(Kind.FOREIGN, str(cidr), text, node, state="no affinity")
        if is_empty(block.spec) and not snapshot.in_pool(cidr):
            text = f"block {cidr} lies in no pool, and is empty"
            yield Problem(Kind.NOT_IN_POOL, str(cidr), text, node, sequence=block.spec.sequence_number)


def describe(who: Holder) -> str:
    """Who holds an address, in a phrase: the pod's name where one is told."""
    pod = who.attributes.get("pod")
    if pod:
        return f"pod {who.attributes.get('namespace', '')}/{pod} on node {who.attributes.get('node', '?')}"
    return who.handle or "a holder without a handle"


def allocated_at(who: Holder) -> datetime | None:
    """When, if the holder says so as Calico does: ``2026-08-22 00:00:01 +0000 UTC``."""
    text = who.attributes.get("timestamp", "")[:19]  # Go adds nanoseconds and the zone, which is UTC
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
