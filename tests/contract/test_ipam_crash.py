"""A process killed between any two steps of IPAM: the retry gets one address, the DEL leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from tests.contract.ipam_clusters import configure, consistent, etcd, node, pool, store, take, url
from tortie.aio import checkpoints
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.errors import AddressesExhausted
from tortie.ipam import leaks, records
from tortie.ipam.affinity import Claims
from tortie.ipam.allocator import Allocator, AssignRequest
from tortie.ipam.blocks import owner
from tortie.ipam.repair import repair
from tortie.net.addresses import Address, Prefix
from tortie.resources.block_affinity import CONFIRMED

__all__ = ["etcd", "store", "url"]

HANDLE = "k8s-pod-network.c1"
REQUEST = AssignRequest(handle=HANDLE, attributes={"node": "a", "pod": "web", "namespace": "default"}, ipv6=1)
STEPS = [
    "ipam.claim.pending",
    "ipam.claim.block",
    "ipam.claim.confirmed",
    "ipam.block",
    "ipam.block.written",
    "ipam.released",
    "ipam.release.pending",
    "ipam.release.block",
]


async def life(url: str) -> None:
    """One pod, from ADD to DEL, and its node giving its blocks back."""
    store = open_store(url)
    allocator = Allocator(store, "a")
    await allocator.assign(REQUEST)
    await allocator.release_handle(HANDLE)
    from tortie.ipam.affinity import release_affinity
    from tortie.ipam.records import affinities, prefix_of_key

    for affinity in await affinities(store, "a"):
        cidr = prefix_of_key(affinity.key)
        assert cidr is not None
        await release_affinity(store, "a", cidr, only_empty=True)
    await store.close()


def _killed_at(url: str, step: str) -> None:
    program = f"import asyncio; from tests.contract.test_ipam_crash import life; asyncio.run(life({url!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, checkpoints.VARIABLE: f"kill:{step}"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("step", STEPS)
async def test_the_retry_has_one_address_and_the_del_leaves_nothing(
    store: Store, url: str, step: str
) -> None:
    await pool(store, "10.0.0.0/28")
    await pool(store, "fd00::/124")
    allocator = await node(store, "a")
    await asyncio.to_thread(_killed_at, url, step)
    found = await allocator.assign(REQUEST)
    assert [address.version for address in found] == [4, 6]
    assert await allocator.by_handle(HANDLE) == tuple(found)
    await consistent(store, {str(address): HANDLE for address in found})
    await allocator.release_handle(HANDLE)
    await consistent(store, {})


@pytest.mark.parametrize("step", STEPS)
async def test_an_address_that_is_asked_for_after_a_kill_can_be_reached(
    store: Store, url: str, step: str
) -> None:
    """Routing knows a block of ours by its confirmed affinity alone."""
    await pool(store, "10.0.0.0/30")
    await pool(store, "fd00::/124")
    await node(store, "a")
    await asyncio.to_thread(_killed_at, url, step)
    again = Allocator(store, "a")
    await again.assign_address(Address.parse("10.0.0.3"), "other", {})
    affinity = await records.find_affinity(store, "a", Prefix.parse("10.0.0.0/30"))
    assert affinity is not None
    assert affinity.spec.state == CONFIRMED
    await again.release_handle(HANDLE)
    await again.tidy()  # of the other family nothing was asked
    await consistent(store, {"10.0.0.3": "other"})


@pytest.mark.parametrize("step", [step for step in STEPS if step.startswith("ipam.claim")])
@pytest.mark.parametrize("asked_for", [False, True])
async def test_a_claim_goes_on_when_its_request_is_called_off(
    store: Store, step: str, asked_for: bool
) -> None:
    await pool(store, "10.0.0.0/30")
    allocator = await node(store, "a")
    work = asyncio.create_task(
        _assigned(allocator) if asked_for else take(allocator, HANDLE)  # both have to claim a block
    )

    def call_off(passed: str) -> None:
        if passed == step:
            work.cancel()

    checkpoints.observe(call_off)
    try:
        with pytest.raises(asyncio.CancelledError):
            await work
        await allocator.close()
    finally:
        checkpoints.observe(None)
    await allocator.release_handle(HANDLE)
    assert len(await records.block_prefixes(store)) == 1
    await consistent(store, {})


async def _assigned(allocator: Allocator) -> list[str]:
    return [str((await allocator.assign_address(Address.parse("10.0.0.3"), HANDLE, {})).address)]


async def test_a_second_claim_of_a_block_leaves_it_confirmed_throughout(store: Store) -> None:
    """Two processes of one node: while one looks, the pods of the other are routed."""
    await pool(store, "10.0.0.0/30")
    await take(await node(store, "a"), HANDLE)
    (before,) = await records.affinities(store)
    block = await Claims(store, "a").claim(Prefix.parse("10.0.0.0/30"))
    assert block is not None
    assert owner(block.spec) == "a"
    assert [each.revision for each in await records.affinities(store)] == [before.revision]


@pytest.mark.parametrize("step", STEPS)
async def test_the_del_alone_leaves_nothing_that_a_check_finds(store: Store, url: str, step: str) -> None:
    await pool(store, "10.0.0.0/28")
    await pool(store, "fd00::/124")
    allocator = await node(store, "a")
    await asyncio.to_thread(_killed_at, url, step)
    await allocator.release_handle(HANDLE)
    _, found = await leaks.check(store, second_look_seconds=0)
    assert all(
        problem.kind is leaks.Kind.FOREIGN for problem in found
    )  # half a claim, which the node mends itself
    await allocator.tidy()
    assert (await leaks.check(store, second_look_seconds=0))[1] == []


@pytest.mark.parametrize("step", STEPS)
async def test_without_a_del_the_repair_frees_everything(store: Store, url: str, step: str) -> None:
    await pool(store, "10.0.0.0/28")
    await pool(store, "fd00::/124")
    await node(store, "a")
    await asyncio.to_thread(_killed_at, url, step)
    report = await repair(store, second_look_seconds=0)
    assert list(report.left) == []
    await consistent(store, {})


@pytest.mark.parametrize("strict", [False, True])
async def test_eight_processes_and_no_address_twice(store: Store, url: str, strict: bool) -> None:
    """Four nodes, two processes each, ADD and DEL in a pool that is nearly too small; some die in the middle."""
    await pool(store, "10.0.0.0/25", block_size=29)
    await configure(store, strict_affinity=strict)
    for name in "abcd":
        await node(store, name)
    program = "import asyncio, sys; from tests.contract.test_ipam_crash import rounds; asyncio.run(rounds(*sys.argv[1:]))"
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, url, "abcd"[number % 4], str(number)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(8)
    ]
    ends = [await process.communicate() for process in processes]
    held: dict[str, str] = {}
    for number, (process, (output, errors)) in enumerate(zip(processes, ends, strict=True)):
        assert process.returncode == (-signal.SIGKILL if number == 7 else 0), errors.decode()
        for line in output.decode().split():
            address, handle = line.split("=")
            assert address not in held, f"{address} is held by {held[address]} and {handle}"
            held[address] = handle
    held = {address: handle for address, handle in held.items() if not handle.startswith("p7-")}
    last = await node(store, "e")
    for turn in range(30):
        await last.release_handle(f"p7-{turn}")
    await last.tidy()
    await consistent(store, held)


async def rounds(url: str, name: str, number: str) -> None:
    """Thirty pods, of which every tenth stays and is printed. Process 7 is killed in the middle of a write."""
    writes = Counter[str]()

    def count(step: str) -> None:
        writes[step] += 1
        if number == "7" and writes["ipam.block"] == 15:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.observe(count)
    store = open_store(url)
    allocator = Allocator(store, name)

    async def pod(turn: int) -> None:
        handle = f"p{number}-{turn}"
        try:
            found = await allocator.assign(AssignRequest(handle=handle, attributes={"node": name}))
        except AddressesExhausted:
            return
        block = await allocator.by_handle(handle)
        assert block == tuple(found)
        if turn % 10:
            await allocator.release_handle(handle)
        else:
            for address in found:
                print(f"{address}={handle}", flush=True)

    for first in range(0, 30, 3):
        await asyncio.gather(*(pod(first + each) for each in range(3)))
    await allocator.close()
    await store.close()


async def test_a_repair_that_is_killed_is_repeated(store: Store, url: str) -> None:
    await pool(store, "10.0.0.0/28")
    allocator = await node(store, "a")
    for number in range(3):
        await take(allocator, f"h{number}", attributes={"node": "a", "pod": f"p{number}"})
    program = (
        "import asyncio; from tortie.ipam.repair import repair; from tortie.datastore.open import open_store;"
        f"asyncio.run(repair(open_store({url!r}), second_look_seconds=0))"
    )
    for step in ("ipam.repair", "ipam.released"):
        end = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program],
            env={**os.environ, checkpoints.VARIABLE: f"kill:{step}"},
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert end.returncode == -signal.SIGKILL, end.stderr.decode()
    assert list((await repair(store, second_look_seconds=0)).left) == []
    await consistent(store, {})
