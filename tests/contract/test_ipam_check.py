"""``ipam check`` and its repair: each kind of wrong is found, told, and put right without harm to who is right."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.contract.ipam_clusters import configure, consistent, etcd, node, pool, store, take, url
from tortie.cli.context import Settings
from tortie.cli.ipam import command
from tortie.datastore.store import Store
from tortie.ipam import handles, leaks, records
from tortie.ipam.affinity import Claims
from tortie.ipam.allocator import Allocator, AssignRequest
from tortie.ipam.leaks import Kind, Problem
from tortie.ipam.repair import repair
from tortie.net.addresses import Address, Prefix
from tortie.resources.allocation_block import block_key
from tortie.resources.block_affinity import BlockAffinitySpec, affinity_key
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.ipam_handle import handle_key
from tortie.resources.node import NODE
from tortie.resources.resource import Resource, ResourceKey
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec
from tortie.testing.clock import ManualClock

__all__ = ["etcd", "store", "url"]

CIDR = Prefix.parse("10.0.0.0/30")


async def endpoint(store: Store, name: str, *addresses: object, container: str = "", node: str = "a") -> None:
    networks = tuple(f"{address}/{128 if ':' in str(address) else 32}" for address in addresses)
    spec = WorkloadEndpointSpec(pod=name, node=node, container_id=container, ip_networks=networks)
    key = ResourceKey(WORKLOAD_ENDPOINT, f"{node}-k8s-{name}-eth0", "default")
    await store.create(Resource(key=key, spec=spec))


async def pod(store: Store, allocator: Allocator, name: str, **more: Any) -> list[str]:
    """A pod whose ADD has got its addresses; without its endpoint it is a leak."""
    attributes = {"pod": name, "namespace": "default", "node": allocator.node, **more.pop("attributes", {})}
    return await take(allocator, f"k8s-pod-network.{name}", attributes=attributes, **more)


async def found(store: Store) -> list[Problem]:
    return (await leaks.check(store, second_look_seconds=0))[1]


async def kinds(store: Store) -> list[tuple[Kind, str]]:
    return [(problem.kind, problem.subject) for problem in await found(store)]


async def mended(store: Store) -> None:
    report = await repair(store, second_look_seconds=0)
    assert list(report.left) == []
    assert await found(store) == []
    await consistent(store)


@pytest.fixture
async def a(store: Store) -> Allocator:
    await pool(store, "10.0.0.0/28")
    await pool(store, "fd00::/124")
    return await node(store, "a")


async def test_a_cluster_in_order_has_no_problem(store: Store, a: Allocator) -> None:
    assert await found(store) == []
    (address,) = await pod(store, a, "web")
    await endpoint(store, "web", address, container="web")
    await a.tunnel_address("vxlan-tunnel-addr-a", "vxlanTunnelAddress")
    await take(a, "somebody", attributes={})  # an unknown writer: taken to be valid
    assert await found(store) == []


async def test_a_leak_is_found_and_freed(store: Store, a: Allocator) -> None:
    (address,) = await pod(store, a, "gone")
    (kept,) = await pod(store, a, "web")
    await endpoint(store, "web", kept, container="web")
    problems = await found(store)
    assert [(p.kind, p.subject, p.handle) for p in problems] == [
        (Kind.LEAKED, address, "k8s-pod-network.gone")
    ]
    assert "pod default/gone on node a, and no workload endpoint has it" in problems[0].text
    await mended(store)
    assert await a.by_handle("k8s-pod-network.gone") == ()
    assert [str(x) for x in await a.by_handle("k8s-pod-network.web")] == [kept]


async def test_a_handle_is_freed_whole_or_not_at_all(store: Store, a: Allocator) -> None:
    v4, v6 = await pod(store, a, "web", ipv6=1)
    await endpoint(store, "web", v4, container="web")
    assert await kinds(store) == [(Kind.LEAKED, v6)]
    report = await repair(store, second_look_seconds=0)
    assert [(each.done, each.text) for each in report.repairs] == [
        (False, f"kept: its handle also has {v4}, which is in use")
    ]
    assert len(await a.by_handle("k8s-pod-network.web")) == 2


async def test_a_young_address_is_kept(store: Store, a: Allocator) -> None:
    clock = ManualClock(1_800_000_000)
    await pod(store, a, "starting", attributes={"timestamp": "2027-01-15 08:00:00.123456789 +0000 UTC"})
    clock.advance(10)
    report = await repair(store, second_look_seconds=0, clock=clock)
    assert "given 10 s ago" in report.repairs[0].text
    assert len(report.left) == 1
    clock.advance(30)
    assert list((await repair(store, second_look_seconds=0, clock=clock)).left) == []


async def test_what_moves_between_the_looks_is_no_problem(store: Store, a: Allocator) -> None:
    await pod(store, a, "web")
    first = leaks.problems(await leaks.look(store))
    await a.release_handle("k8s-pod-network.web")
    await a.assign_address(
        Address.parse(first[0].subject), "k8s-pod-network.web", {"pod": "web", "node": "a"}
    )
    second = leaks.problems(await leaks.look(store))
    assert [p.subject for p in second] == [p.subject for p in first]
    assert {p.identity for p in second}.isdisjoint(p.identity for p in first)


async def test_an_address_in_use_that_nobody_allocated(store: Store, a: Allocator) -> None:
    await endpoint(store, "web", "10.0.0.5", container="c9")
    assert await kinds(store) == [(Kind.NOT_ALLOCATED, "10.0.0.5")]
    await mended(store)
    assert [str(x) for x in await a.by_handle("k8s-pod-network.c9")] == ["10.0.0.5"]
    await endpoint(store, "elsewhere", "192.0.2.1")
    assert await found(store) == []


async def test_two_endpoints_with_one_address(store: Store, a: Allocator) -> None:
    (address,) = await pod(store, a, "web")
    await endpoint(store, "web", address, container="web")
    await endpoint(store, "copy", address, container="copy")
    texts = [p.text for p in await found(store) if p.kind is Kind.DOUBLE]
    assert f"{address} is used by default/copy and default/web" in texts
    assert any("is used by default/copy, and allocated to pod default/web" in text for text in texts)
    report = await repair(store, second_look_seconds=0)
    assert len(report.left) == 2
    assert [str(x) for x in await a.by_handle("k8s-pod-network.web")] == [address]


async def test_handles_that_say_too_little_or_too_much(store: Store, a: Allocator) -> None:
    (address,) = await pod(store, a, "web")
    await endpoint(store, "web", address, container="web")
    await store.delete(handle_key("k8s-pod-network.web"))
    await handles.create(store, "ghost", CIDR, 2)
    assert await kinds(store) == [(Kind.MISSING_HANDLE, "k8s-pod-network.web"), (Kind.STALE_HANDLE, "ghost")]
    await mended(store)
    assert await records.find_handle(store, "ghost") is None
    assert await a.release_handle("k8s-pod-network.web") == (Address.parse(address),)


async def test_blocks_and_affinities_of_a_node_that_is_gone(store: Store, a: Allocator) -> None:
    b = await node(store, "b")
    await pod(store, b, "lost")
    await take(b, "idle", ipv4=0, ipv6=1)
    await b.release_handle("idle")
    await store.delete(ResourceKey(NODE, "b"))
    problems = await found(store)
    assert {p.kind for p in problems} == {Kind.LEAKED, Kind.FOREIGN}
    assert any("belongs to node b, which does not exist" in p.text for p in problems)
    await mended(store)
    await configure(store, strict_affinity=True)
    assert len(await take(a, "h", ipv4=16)) == 16


async def test_affinities_that_lead_nowhere_or_to_anothers_block(store: Store, a: Allocator) -> None:
    await node(store, "b")
    await Claims(store, "a").claim(CIDR)
    for name, cidr in (("b", CIDR), ("b", Prefix.parse("10.0.0.4/30"))):
        await store.create(Resource(key=affinity_key(name, str(cidr)), spec=BlockAffinitySpec()))
    texts = [p.text for p in await found(store)]
    assert texts == [
        f"node b has an affinity to block {CIDR}, which belongs to a",
        "node b has a confirmed affinity to block 10.0.0.4/30, which does not exist",
    ]
    await mended(store)
    await store.delete(affinity_key("a", str(CIDR)))
    assert [p.text for p in await found(store)] == [
        f"block {CIDR} belongs to node a, which has no affinity to it"
    ]
    await mended(store)
    assert await records.find_affinity(store, "a", CIDR) is not None


async def test_a_damaged_block_is_mended(store: Store, a: Allocator) -> None:
    (address,) = await pod(store, a, "web")
    await endpoint(store, "web", address, container="web")
    cidr = Address.parse(address).prefix.supernet(30)
    block = await store.get(block_key(str(cidr)))
    await store.update(block.with_spec(msgspec.structs.replace(block.spec, unallocated=(0, 1, 1))))
    assert {kind for kind, _ in await kinds(store)} == {Kind.DAMAGED}
    await mended(store)
    assert [str(x) for x in await a.by_handle("k8s-pod-network.web")] == [address]


async def test_what_lies_in_no_pool(store: Store, a: Allocator) -> None:
    (address,) = await pod(store, a, "web")
    await endpoint(store, "web", address, container="web")
    await store.delete(ResourceKey(IP_POOL, "10-0-0-0-28"))
    assert await kinds(store) == [(Kind.NOT_IN_POOL, address)]
    assert len((await repair(store, second_look_seconds=0)).left) == 1
    await store.delete(ResourceKey(WORKLOAD_ENDPOINT, "a-k8s-web-eth0", "default"))
    assert {kind for kind, _ in await kinds(store)} == {Kind.LEAKED, Kind.NOT_IN_POOL}
    assert list((await repair(store, second_look_seconds=0)).left) == []
    assert {kind for kind, _ in await kinds(store)} == {Kind.NOT_IN_POOL}
    await mended(store)
    assert await records.block_prefixes(store) == {}


def cells(output: str) -> list[list[str]]:
    """A framed table's rows."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines()]


class TestCommand:
    """What the user types and reads."""

    @pytest.fixture
    def tortie(self, url: str) -> Any:
        def run(*arguments: str) -> Result:
            return CliRunner().invoke(command, list(arguments), obj=Settings(datastore=url))

        return run

    @pytest.fixture
    async def leaked(self, store: Store, a: Allocator) -> str:
        (address,) = await pod(store, a, "gone", attributes={"timestamp": "2020-01-01 00:00:00 +0000 UTC"})
        return address

    async def test_check_and_repair(self, tortie: Any, leaked: str, tmp_path: Path) -> None:
        report = tmp_path / "report.json"
        told = await asyncio.to_thread(tortie, "check", "--report", str(report))
        assert told.exit_code == 1
        assert f"| leaked | {leaked} is allocated to pod default/gone" in told.output
        assert told.output.endswith("Check complete; found 1 problems.\n")
        assert json.loads(report.read_text())["problems"][0]["subject"] == leaked
        told = await asyncio.to_thread(tortie, "check", "--repair", "--second-look", "0", "-o", "json")
        assert told.exit_code == 0
        document = json.loads(told.output)
        assert document["ok"] is True
        assert document["repairs"][0]["outcome"] == "freed"
        told = await asyncio.to_thread(tortie, "release", "--from-report", str(report))
        assert told.output == f"{leaked} is not assigned\n"

    async def test_show(self, tortie: Any, leaked: str) -> None:
        told = await asyncio.to_thread(tortie, "show", "--show-blocks")
        assert ["IP Pool", "10.0.0.0/28", "16", "1 (6%)", "0 (0%)", "15 (94%)"] in cells(told.output)
        block = Address.parse(leaked).prefix.supernet(30)
        assert ["Block", str(block), "4", "1 (25%)", "0 (0%)", "3 (75%)"] in cells(told.output)
        told = await asyncio.to_thread(tortie, "show", "--ip", leaked)
        assert told.output.startswith(
            f"IP {leaked} is in use\nAttributes:\n  Handle ID: k8s-pod-network.gone\n"
        )
        told = await asyncio.to_thread(tortie, "show", "--ip", leaked, "-o", "json")
        assert json.loads(told.output)["handle"] == "k8s-pod-network.gone"

    async def test_an_address_in_use_is_not_released(
        self, tortie: Any, store: Store, leaked: str, a: Allocator
    ) -> None:
        await endpoint(store, "gone", leaked, container="gone")
        for arguments in (("--ip", leaked), ("--handle", "k8s-pod-network.gone")):
            told = await asyncio.to_thread(tortie, "release", *arguments)
            assert told.exit_code == 1
            assert f"{leaked} is used by default/gone: kept" in told.output
        assert len(await a.by_handle("k8s-pod-network.gone")) == 1
        told = await asyncio.to_thread(tortie, "release", "--force", "--handle", "k8s-pod-network.gone")
        assert told.output == f"handle k8s-pod-network.gone: released {leaked}\n"

    async def test_configure(self, tortie: Any, store: Store) -> None:
        told = await asyncio.to_thread(
            tortie, "configure", "--strict-affinity=true", "--max-blocks-per-host=3"
        )
        assert told.output.splitlines() == [
            "Successfully set StrictAffinity to: true",
            "Successfully set MaxBlocksPerHost to: 3",
        ]
        told = await asyncio.to_thread(tortie, "configure", "--strict-affinity=false")
        assert "spec.maxBlocksPerHost: 3 is possible only while spec.strictAffinity is true" in str(
            told.exception
        )
        told = await asyncio.to_thread(tortie, "show", "--show-configuration")
        assert "| MaxBlocksPerHost   | 3     |" in told.output

    async def test_borrowed_addresses(self, tortie: Any, store: Store, a: Allocator) -> None:
        b = await node(store, "b")
        await take(a, "h", ipv4=13)
        (address,) = await b.assign(AssignRequest(handle="k8s-pod-network.x", attributes={"node": "b"}))
        told = await asyncio.to_thread(tortie, "show", "--show-borrowed")
        block = address.prefix.supernet(30)
        assert [str(address), "b", str(block), "a", "workload", "k8s-pod-network.x"] in cells(told.output)
