"""The syncer through etcd's outages: down, silent, black-holed, compacted (scenarios 52 and 53)."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.contract.datastore_servers import QUICK, EtcdServer, client, closing, etcdctl, free_ports, retried
from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.keyvalue import Events, KeyValue
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.syncer import Batch, Phase, Syncer
from tortie.errors import StoreUnavailable
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.node import NODE
from tortie.resources.resource import Delete, Put, Resource, ResourceKey
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


class Held:
    """What a consumer of the syncer believes."""

    def __init__(self) -> None:
        self.resources: dict[ResourceKey, str | None] = {}
        self.in_sync = False
        self.changed = asyncio.Event()

    async def sink(self, batch: Batch) -> None:
        for update in batch.updates:
            if isinstance(update, Delete):
                self.resources.pop(update.key, None)
            else:
                self.resources[update.key] = update.resource.revision if isinstance(update, Put) else None
        self.in_sync = batch.in_sync
        self.changed.set()

    async def until_names(self, *names: str) -> None:
        async with asyncio.timeout(20):
            while not self.in_sync or {key.name for key in self.resources} != set(names):
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def syncing(keyvalue: KeyValue) -> AsyncIterator[tuple[Syncer, Held]]:
    syncer, held = Syncer(KeyValueStore(keyvalue), (IP_POOL, NODE, WORKLOAD_ENDPOINT)), Held()
    task = asyncio.create_task(syncer.run(held.sink))
    try:
        yield syncer, held
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def create_pool(store: KeyValue, name: str) -> None:
    key = ResourceKey(IP_POOL, name)
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailable):
                await KeyValueStore(store).create(Resource(key=key, spec=IPPoolSpec(cidr="10.0.0.0/16")))
                return
            await asyncio.sleep(0.1)


async def test_while_etcd_is_down_the_syncer_keeps_what_it_has_and_the_processor_cool(
    server: EtcdServer,
) -> None:
    async with closing(client(server)) as store, syncing(store) as (syncer, held):
        await create_pool(store, "a")
        await held.until_names("a")
        server.kill()
        await asyncio.sleep(1)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(5)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5
        assert used < 0.5, f"{used:.0%} of a processor"
        assert syncer.problem
        assert held.in_sync
        server.start()
        server.wait()
        await create_pool(store, "b")
        await held.until_names("a", "b")
        async with asyncio.timeout(10):
            while syncer.problem:  # noqa: ASYNC110 nothing tells it
                await asyncio.sleep(0.05)


async def test_an_etcd_that_went_silent_is_found_and_reconnected(server: EtcdServer) -> None:
    async with closing(client(server)) as store, syncing(store) as (syncer, held):
        await create_pool(store, "a")
        await held.until_names("a")
        server.signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            while not syncer.problem:  # noqa: ASYNC110 nothing tells it
                await asyncio.sleep(0.05)
        server.signal(signal.SIGCONT)
        await create_pool(store, "b")
        await held.until_names("a", "b")


class Cuttable(EtcdKeyValue):
    """A client whose watches can be kept from coming back."""

    cut = False

    def watch(self, prefix: str, *, after: int) -> AbstractAsyncContextManager[AsyncIterator[Events]]:
        if self.cut:
            raise StoreUnavailable("cut off by the test")
        return super().watch(prefix, after=after)


async def test_what_was_deleted_while_history_was_compacted_is_found_missing(server: EtcdServer) -> None:
    store = Cuttable(EtcdOptions(endpoints=(server.endpoint,)))
    async with closing(store), syncing(store) as (syncer, held):
        for name in ("a", "b", "c"):
            await create_pool(store, name)
        await held.until_names("a", "b", "c")
        store.cut = True
        server.kill()
        server.start()
        server.wait()
        async with asyncio.timeout(20):
            while syncer.states[IP_POOL].phase is not Phase.WAITING:  # noqa: ASYNC110 nothing tells it
                await asyncio.sleep(0.05)
        etcdctl(server, "del", "/calico/resources/v3/projectcalico.org/ippools/b")
        etcdctl(server, "compaction", str(await retried(store, "/elsewhere", b"", 5)))
        store.cut = False
        await held.until_names("a", "c")


class Wire:
    """A TCP forwarder that can become a black hole: what stands then carries nothing ever again, not even an end."""

    def __init__(self, target: int) -> None:
        self._target = target
        (self.port,) = free_ports(1)
        self._age = 0
        self._hole = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        self._age += 1
        self._hole = True

    def mend(self) -> None:
        """New connections work; those of before stay dead."""
        self._age += 1
        self._hole = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink, self._age))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, age: int) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if age == self._age and not self._hole:
                    sink.write(data)
        if age == self._age and not self._hole:
            sink.close()


async def test_a_black_hole_is_found_and_left_though_the_old_connection_never_ends(
    server: EtcdServer,
) -> None:
    wire = Wire(server.client_port)
    options = EtcdOptions(endpoints=(f"127.0.0.1:{wire.port}",), **QUICK)
    async with (
        wire.open(),
        closing(EtcdKeyValue(options)) as store,
        closing(client(server)) as direct,
        syncing(store) as (syncer, held),
    ):
        await create_pool(direct, "a")
        await held.until_names("a")
        wire.cut()
        async with asyncio.timeout(20):
            while not all(state.phase is Phase.WAITING for state in syncer.states.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await create_pool(direct, "b")
        assert held.in_sync
        assert len(held.resources) == 1
        wire.mend()
        began = time.monotonic()
        await held.until_names("a", "b")
        assert time.monotonic() - began < 20


async def test_a_short_hole_leaves_no_watch_behind(server: EtcdServer) -> None:
    """The path works again before anyone missed it, but the connection of before is dead for good."""
    wire = Wire(server.client_port)
    options = EtcdOptions(endpoints=(f"127.0.0.1:{wire.port}",), **QUICK)
    async with (
        wire.open(),
        closing(EtcdKeyValue(options)) as store,
        closing(client(server)) as direct,
        syncing(store) as (_, held),
    ):
        await create_pool(direct, "a")
        await held.until_names("a")
        wire.cut()
        wire.mend()
        await create_pool(direct, "b")
        began = time.monotonic()
        await held.until_names("a", "b")
        assert time.monotonic() - began < 20
