"""A whole agent on a node that holds `tests.bench.crowd`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import crowd
from tests.cni_node import Node, SocketEtcd, until
from tortie.kernel import netns
from tortie.resources.resource import Resource

LOADED_SECONDS = 120.0


@contextlib.contextmanager
def crowded(
    datastore: str,
    policies: int,
    *,
    real: tuple[int, ...] = (),
    pods: int = crowd.PODS,
    versions: tuple[int, ...] = (4,),
    extra: Iterable[Resource[Any]] = (),
) -> Iterator[tuple[Node, dict[int, str]]]:
    """A node whose agent has all of `crowd` in the kernel. The namespaces of the ``real`` pods come with it."""
    directory = Path(tempfile.mkdtemp(prefix="tt-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        made: list[str] = []

        def namespace() -> str:
            name = f"tt-bench-{secrets.token_hex(6)}"
            netns.create(name)
            stack.callback(netns.delete, name)
            made.append(name)
            return name

        url = ""
        if datastore == "etcd":
            server = SocketEtcd(directory)
            stack.callback(server.kill)
            server.start()
            url = server.url
        node = Node(directory, namespace, datastore=url, whole=True)
        stack.callback(node.close)
        node.prepare(crowd.POOL)
        namespaces = {number: namespace() for number in real}
        for number, name in namespaces.items():
            crowd.wire_real(node.name, number, name)
        crowd.wire(node.name, [number for number in range(pods) if number not in namespaces])
        everything = (
            *crowd.namespaces(),
            *crowd.pods(node.name, range(pods), versions),
            *crowd.policies(policies),
            crowd.last_word(),
            *extra,
        )
        asyncio.run(crowd.store(node.datastore, everything))
        node.start()
        until(lambda: b"in sync" in node.log.read_bytes(), LOADED_SECONDS, "not loaded", node.log)
        node.start_bird()
        yield node, namespaces
