"""As much of an agent as ADD and DEL need, as a process: server, workloads, IPAM and the kernel are the real ones.

What the calculation and the dataplane do for an endpoint is reduced to routes and switches of its interface, so that tests of
the plugin's own steps do not wait for theirs. ``python -m cni_agent`` with the arguments that `cni_node.Node` passes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

from tortie.agent.cni_server import CNIServer
from tortie.aio import checkpoints
from tortie.aio.tasks import supervise
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.errors import DeadlineExceeded, KernelError
from tortie.host.routes import Route
from tortie.ipam.allocator import Allocator
from tortie.kernel import sysctl
from tortie.kernel.pod_link import LinuxPodLinks
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Prefix
from tortie.observe import log
from tortie.resources.resource import ResourceKey, Revision
from tortie.workloads.live_facts import LiveFacts
from tortie.workloads.means import Means
from tortie.workloads.profiles import Profiles
from tortie.workloads.register import StoreRegister
from tortie.workloads.workloads import Workloads


class PlainRealised:
    """The node's part of one endpoint, done when it is waited for; never while the file ``failing`` is there."""

    def __init__(self, store: Store, failing: Path) -> None:
        self._store = store
        self._failing = failing
        self._routes = RouteSocket()

    async def wait(self, endpoint: ResourceKey, revision: Revision, *, timeout_seconds: float) -> None:
        if self._failing.exists():
            raise DeadlineExceeded(f"programming {endpoint}", timeout_seconds)
        found = await self._store.get(endpoint)
        name = found.spec.interface_name
        for switch in ("ipv4/conf/{}/proxy_arp", "ipv4/conf/{}/forwarding", "ipv6/conf/{}/forwarding"):
            with contextlib.suppress(KernelError):
                sysctl.write("net/" + switch.format(name), "1")
        with contextlib.suppress(KernelError):
            sysctl.write(f"net/ipv4/neigh/{name}/proxy_delay", "0")
        index = socket.if_nametoindex(name)
        for text in found.spec.ip_networks:
            prefix = Prefix.parse(text)
            self._routes.replace_route(Route(prefix=prefix, ifindex=index, scope="link", metric=1024))


def pause(marker: Path) -> None:
    """Say that we are there, by a file, and go on when it has been removed; then never stop again."""
    if marker.with_name("pass-on").exists():
        return
    marker.touch()
    while marker.exists():
        time.sleep(0.002)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True)
    parser.add_argument("--datastore", required=True)
    parser.add_argument("--socket", required=True, type=Path)
    options = parser.parse_args()
    log.configure(level="info")
    if paused := os.environ.get("TORTIE_TEST_PAUSE"):
        name, _, marker = paused.partition("=")
        checkpoints.observe(lambda passed: pause(Path(marker)) if passed == name else None)
    store = open_store(options.datastore)
    means = Means(
        node=options.node,
        store=store,
        allocator=Allocator(store, options.node),
        register=StoreRegister(store),
        profiles=Profiles(store),
        live=LiveFacts(store, options.node),
        realised=PlainRealised(store, options.socket.with_name("fail-realised")),
        links=LinuxPodLinks(),
    )
    workloads = Workloads(means)
    server = CNIServer(options.socket, workloads)
    await supervise({"ipam": means.allocator.run, "workloads": workloads.run, "cni": server.run})


if __name__ == "__main__":
    asyncio.run(main())
