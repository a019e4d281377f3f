"""An IPAM to try on both datastores: fixtures, and what must always add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.datastore_servers import EtcdServer, etcdctl
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.errors import AlreadyExists
from tortie.ipam import records
from tortie.ipam.allocator import Allocator, AssignRequest
from tortie.ipam.blocks import holders, owner
from tortie.net.addresses import Address
from tortie.resources.block_affinity import CONFIRMED
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION, IPAMConfigurationSpec
from tortie.resources.node import NODE, NodeSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "etcd"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty datastore."""
    if request.param == "etcd":
        server: EtcdServer = request.getfixturevalue("etcd")
        etcdctl(server, "del", "--prefix", "")
        return f"etcd://{server.endpoint}"
    return f"sqlite://{tmp_path}/store.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    yield store
    await store.close()


async def pool(store: Store, cidr: str, name: str = "", **fields: Any) -> None:
    """A pool with blocks of four addresses, unless said otherwise."""
    size: dict[str, Any] = {"block_size": 126 if ":" in cidr else 30, **fields}
    key = ResourceKey(IP_POOL, name or cidr.translate({ord(c): "-" for c in "./:"}))
    await store.create(Resource(key=key, spec=IPPoolSpec(cidr=cidr, **size)))


async def node(store: Store, name: str, **labels: str) -> Allocator:
    resource = Resource(key=ResourceKey(NODE, name), metadata=Metadata(labels=labels), spec=NodeSpec())
    await store.create(resource)
    return Allocator(store, name)


async def configure(store: Store, **fields: Any) -> None:
    key = ResourceKey(IPAM_CONFIGURATION, "default")
    resource = Resource(key=key, spec=IPAMConfigurationSpec(**fields))
    try:
        await store.create(resource)
    except AlreadyExists:
        await store.update(resource)


async def take(allocator: Allocator, handle: str, ipv4: int | None = 1, **more: Any) -> list[str]:
    return [str(a) for a in await allocator.assign(AssignRequest(handle=handle, ipv4=ipv4, **more))]


async def consistent(store: Store, live: dict[str, str] | None = None) -> None:
    """Nobody has an address twice, every handle says what the blocks say, every block has one owner who knows it."""
    seen: Counter[str] = Counter()
    by_handle: Counter[tuple[str, str]] = Counter()
    blocks = await records.block_prefixes(store)
    for cidr, block in blocks.items():
        assert block is not None
        for ordinal, who in holders(block.spec).items():
            seen[str(Address(cidr.version, cidr.value + ordinal))] += 1
            by_handle[who.handle or "", str(cidr)] += 1
        if (node := owner(block.spec)) is not None:
            affinity = await records.find_affinity(store, node, cidr)
            assert affinity is not None
            assert affinity.spec.state == CONFIRMED
    assert not [address for address, count in seen.items() if count > 1]
    told = Counter(
        {(h.key.name, cidr): n for h in await records.handles(store) for cidr, n in h.spec.block.items()}
    )
    assert told == by_handle
    owned = Counter(records.prefix_of_key(a.key) for a in await records.affinities(store))
    assert all(count == 1 for count in owned.values())
    if live is not None:
        assert set(seen) == set(live)
