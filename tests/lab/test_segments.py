"""Wires of pods are cut as their node's uplinks are: the sizes, and packets of more than 64 KiB through all rules."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tortie.datastore.open import open_store
from tortie.host.links import COMMON_SEGMENTS, SegmentSizes
from tortie.kernel import netns, process
from tortie.kernel.rtnetlink import RouteSocket
from tortie.lab import lab
from tortie.lab.pods import LabPod, PodRequest, add_pod
from tortie.lab.topology import Topology, topology

pytestmark = pytest.mark.needs("netns", "bird")

SENT = 64 * 1024 * 1024
LARGE = 3 * COMMON_SEGMENTS
COUNT_LARGE = """
table ip probe {
    chain forward {
        type filter hook forward priority 10;
        meta length > 65535 counter
    }
}
"""


@asynccontextmanager
async def pods_on_two_nodes(segments: int) -> AsyncIterator[tuple[Topology, LabPod, LabPod]]:
    made = topology(name=f"tt-{os.getpid()}-segments", nodes=2, dual_stack=True, segments=segments)
    try:
        await lab.up(made, lambda _: None)
        store = open_store(made.store_url)
        try:
            first, second = [
                await add_pod(made, store, PodRequest(name=node, node=node)) for node in ("node1", "node2")
            ]
        finally:
            await store.close()
        yield made, first, second
    finally:
        await lab.down(made.name, lambda _: None)


def sizes(namespace: str, interface: str) -> SegmentSizes:
    with RouteSocket(namespace) as routes:
        return routes.need_link(interface).segments


def stream(source: LabPod, target: LabPod, address: str) -> int:
    """Send `SENT` bytes over one TCP connection; how many arrived."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = netns.run(target.netns, lambda: socket.create_server((address, 0), family=family))
    client = netns.run(source.netns, lambda: socket.socket(family))
    with server, client:
        server.settimeout(30)
        client.settimeout(30)
        client.connect((address, server.getsockname()[1]))
        taken, _ = server.accept()
        with taken:
            taken.settimeout(30)
            sender = threading.Thread(target=_send, args=(client,), daemon=True)
            sender.start()
            arrived = 0
            while heard := len(taken.recv(1 << 20)):
                arrived += heard
            sender.join()
    return arrived


def _send(client: socket.socket) -> None:
    client.sendall(bytes(SENT))
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("segments", [0, COMMON_SEGMENTS // 2, LARGE])
async def test_a_pods_wire_is_cut_as_its_uplink_is(segments: int) -> None:
    async with pods_on_two_nodes(segments) as (made, client, server):
        node = made.node("node1").netns
        uplink = sizes(node, "eth0")
        assert sizes(client.netns, "eth0") == uplink
        assert sizes(node, client.interface) == uplink
        if uplink.ipv4 == segments or not segments:  # a kernel before 6.3 does not know of IPv4's own
            assert uplink == SegmentSizes(segments or COMMON_SEGMENTS, COMMON_SEGMENTS)
        await process.run(["ip", "netns", "exec", node, "nft", "-f", "-"], stdin=COUNT_LARGE.encode())
        for address in server.ips:
            assert await asyncio.to_thread(stream, client, server, address) == SENT
        counted = await process.run(["ip", "netns", "exec", node, "nft", "list", "table", "ip", "probe"])
        assert (b"packets 0 " not in counted.stdout) == (uplink.ipv4 > COMMON_SEGMENTS), counted.stdout
