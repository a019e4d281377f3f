"""A lab of its own for each subject that needs one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.lab import lab
from tortie.lab.pods import LabPod, PodRequest, add_pod, remove_pod
from tortie.lab.topology import Topology, topology


class BenchLab:
    """A lab that is up, and its datastore."""

    def __init__(self, made: Topology, store: Store) -> None:
        self.topology = made
        self.store = store

    async def pod(self, name: str, node: str) -> LabPod:
        return await add_pod(self.topology, self.store, PodRequest(name=name, node=node))

    async def remove(self, pod: LabPod) -> None:
        await remove_pod(self.topology, self.store, pod)


@asynccontextmanager
async def bench_lab(
    *, nodes: int, datastore: Literal["sqlite", "etcd"] = "sqlite", segments: int = 0
) -> AsyncIterator[BenchLab]:
    made = topology(name=f"bench{os.getpid()}", nodes=nodes, datastore=datastore, segments=segments)
    try:
        await lab.up(made, lambda _: None)
        store = open_store(made.store_url)
        try:
            yield BenchLab(made, store)
        finally:
            await store.close()
    finally:
        await lab.down(made.name, lambda _: None)
