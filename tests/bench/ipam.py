"""Addresses a second: 8 processes with 8 node names ask one datastore for 10,000 single addresses.

``python -m tests.bench.ipam [sqlite|etcd …]`` runs this alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tortie.aio.checkpoints import observe
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.ipam.allocator import Allocator, AssignRequest
from tortie.ipam.blocks import holders
from tortie.ipam.records import block_prefixes
from tortie.net.addresses import Address
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.node import NODE, NodeSpec
from tortie.resources.resource import Resource, ResourceKey

PROCESSES = 8
REQUESTS = 10_000
AIM = 3000
RUNS = 3


async def run() -> list[Figure]:
    return [await _figure(kind, in_flight) for kind in ("sqlite", "etcd") for in_flight in (1, 16)]


async def _figure(kind: str, in_flight: int) -> Figure:
    rates: list[float] = []
    costs: list[float] = []
    conflicts = doubles = writes = 0
    for _ in range(RUNS):
        with _datastore(kind) as url:
            outcome = await _measure(url, in_flight)
        rates.append(outcome.rate)
        costs.append(outcome.client_milliseconds)
        conflicts += outcome.conflicts
        doubles += outcome.doubles
        writes += outcome.block_writes
    rate = sorted(rates)[len(rates) // 2]
    return Figure(
        subject="ipam",
        what=f"{kind}: addresses a second, {PROCESSES} processes with {in_flight} in flight each",
        value=f"{rate:.0f}/s; {sorted(costs)[len(costs) // 2]:.2f} ms of the clients' CPU each;"
        f" {conflicts / RUNS:.0f} conflicts, {writes / RUNS:.0f} block writes, {doubles} double allocations",
        target=f"aim {AIM}/s, none double",
        met=rate >= AIM and not doubles,
        runs=f"{RUNS} times {REQUESTS} requests",
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one run."""

    rate: float
    conflicts: int
    doubles: int
    block_writes: int
    client_milliseconds: float
    """CPU time a request, of the clients alone."""


async def _measure(url: str, in_flight: int) -> Outcome:
    store = open_store(url)
    try:
        spec = IPPoolSpec(cidr="10.0.0.0/14", block_size=24)
        await store.create(Resource(key=ResourceKey(IP_POOL, "pool"), spec=spec))
        names = [f"node{number}" for number in range(PROCESSES)]
        for name in names:
            await store.create(Resource(key=ResourceKey(NODE, name), spec=NodeSpec()))
        share = REQUESTS // PROCESSES
        workers = [await _start("worker", url, name, str(share), str(in_flight)) for name in names]
        for worker in workers:
            assert worker.stdout is not None
            line = await worker.stdout.readline()
            assert line == b"ready\n", line
        started = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
        outputs = [await worker.communicate() for worker in workers]
        seconds = time.perf_counter() - started
        told = [json.loads(output) for output, _ in outputs]
        given = [address for each in told for address in each["addresses"]]
        assert len(given) == share * PROCESSES
        doubles = len(given) - len(set(given)) + len(set(given) ^ await _stored(store))
        conflicts = sum(each["conflicts"] for each in told)
        return Outcome(
            rate=len(given) / seconds,
            conflicts=conflicts,
            doubles=doubles,
            block_writes=sum(each["writes"] for each in told),
            client_milliseconds=sum(each["cpu"] for each in told) * 1000 / len(given),
        )
    finally:
        await store.close()


async def _stored(store: Store) -> set[str]:
    found: set[str] = set()
    for cidr, block in (await block_prefixes(store)).items():
        assert block is not None
        found |= {str(Address(cidr.version, cidr.value + ordinal)) for ordinal in holders(block.spec)}
    return found


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.ipam", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**24,
    )


async def _work(url: str, node: str, requests: int, in_flight: int) -> None:
    store = open_store(url)
    allocator = Allocator(store, node)
    running = asyncio.create_task(allocator.run())
    while not allocator.ready:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    numbers = iter(range(requests))
    addresses: list[str] = []
    writes = 0

    def count(name: str) -> None:
        nonlocal writes
        writes += name == "ipam.block"

    async def client() -> None:
        for number in numbers:
            attributes = {"namespace": "default", "node": node, "pod": f"pod-{number}"}
            attributes["timestamp"] = "2026-08-22 00:00:01 +0000 UTC"
            handle = f"k8s-pod-network.{node}{number:060d}"
            found = await allocator.assign(AssignRequest(handle=handle, attributes=attributes))
            addresses.extend(map(str, found))

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    observe(count)
    started = time.process_time()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    cpu = time.process_time() - started
    told = {"addresses": addresses, "conflicts": allocator.conflicts, "writes": writes, "cpu": cpu}
    print(json.dumps(told), flush=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await allocator.close()
    await store.close()


@contextlib.contextmanager
def _datastore(kind: str) -> Iterator[str]:
    """A new one, on disk and with the durability that it has by default."""
    directory = Path(tempfile.mkdtemp(prefix="tortie-bench-"))
    try:
        if kind == "sqlite":
            yield f"sqlite://{directory}/tortie.db"
        else:
            with _etcd(directory) as endpoint:
                yield f"etcd://{endpoint}"
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def _etcd(directory: Path) -> Iterator[str]:
    from tests.contract.datastore_servers import free_ports

    client, peer = (f"127.0.0.1:{port}" for port in free_ports(2))
    command = [
        *("etcd", "--data-dir", str(directory / "data"), "--log-level", "error"),
        *("--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}"),
        *("--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}"),
        *("--initial-cluster", f"default=http://{peer}"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        ask = ["etcdctl", "--endpoints", client, "get", "x"]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        while subprocess.run(ask, check=False, env=environment, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise AssertionError("etcd does not answer")
            time.sleep(0.1)
        yield client
    finally:
        process.terminate()
        process.wait()


async def _alone(kinds: list[str]) -> None:
    for kind in kinds or ["sqlite", "etcd"]:
        for in_flight in (1, 16):
            print((await _figure(kind, in_flight)).row(), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        url, node, requests, in_flight = sys.argv[2:]
        asyncio.run(_work(url, node, int(requests), int(in_flight)))
    else:
        asyncio.run(_alone(sys.argv[1:]))
