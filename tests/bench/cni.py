"""ADD and DEL through the plugin, process start included, against Debian's ``ptp`` with ``host-local``.

Both run in the same node's namespace, on fresh pod namespaces, in alternated pairs. What is timed is what a runtime waits
for: from the start of the plugin's process to its end; for eight at once, until the last one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, interval
from tests.cni_node import Node, SocketEtcd
from tortie.datastore.store import Store
from tortie.kernel import netns
from tortie.resources.namespace import NAMESPACE, NamespaceSpec
from tortie.resources.resource import Resource, ResourceKey

PAIRS = 40
PAIRS_AT_ONCE = 20
AT_ONCE = 8
WARM = 2
DEBIAN = "/usr/lib/cni"


class Plugin:
    """One plugin with its configuration. Calls come from a thread that stands in the node's namespace."""

    def __init__(self, program: str, config: dict[str, Any], path: str) -> None:
        self._program = program
        self._path = path
        self._config = os.memfd_create("config")
        os.write(self._config, json.dumps({"cniVersion": "1.0.0", **config}).encode())

    def start(self, command: str, namespace: str) -> tuple[int, int]:
        """Begin; returns the child and a descriptor that holds its output."""
        out = os.memfd_create("out")
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": namespace,
            "CNI_NETNS": f"/run/netns/{namespace}",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={namespace}",
            "CNI_PATH": self._path,
            "PATH": os.environ["PATH"],
        }
        descriptor = os.open(f"/proc/self/fd/{self._config}", os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, 0), (os.POSIX_SPAWN_DUP2, out, 1)]
        child = os.posix_spawn(self._program, [self._program], environment, file_actions=actions)
        os.close(descriptor)
        return child, out

    @staticmethod
    def finish(child: int, out: int) -> None:
        _, status = os.waitpid(child, 0)
        if status:
            said = os.pread(out, 4096, 0).decode(errors="replace")
            raise RuntimeError(f"a plugin ended with status {status}: {said}")
        os.close(out)

    def call(self, command: str, namespaces: list[str]) -> float:
        """All at once; milliseconds until the last has ended."""
        begun = time.perf_counter()
        running = [self.start(command, namespace) for namespace in namespaces]
        for child, _ in running:
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        took = (time.perf_counter() - begun) * 1000
        for child, out in running:
            self.finish(child, out)
        return took


class Pair:
    """The two, measured in turn."""

    def __init__(self, node: Node, directory: Path) -> None:
        ours = {
            "name": "bench",
            "type": "tortie",
            "socket": str(node.socket),
            "ipam": {"type": "tortie-ipam"},
        }
        ipam = {"type": "host-local", "subnet": "10.88.0.0/16", "dataDir": str(directory / "host-local")}
        self._ours = Plugin(str(node.bin_dir / "tortie"), ours, f"{node.bin_dir}:{DEBIAN}")
        self._theirs = Plugin(f"{DEBIAN}/ptp", {"name": "ptp", "type": "ptp", "ipam": ipam}, DEBIAN)

    def settle(self, namespaces: _Namespaces) -> None:
        """One pod that stays, as on any node that runs some: the first of a namespace brings its profiles' chains too."""
        self._ours.call("ADD", [namespaces.make()])

    def round(
        self, namespaces: _Namespaces, count: int, *, ours_first: bool
    ) -> dict[str, tuple[float, float]]:
        """``count`` pods at once, each in a namespace made just before: for ADD and DEL, our milliseconds and theirs."""
        mine: dict[str, float] = {}
        other: dict[str, float] = {}
        turns = [(self._ours, mine), (self._theirs, other)]
        for plugin, times in turns if ours_first else turns[::-1]:
            names = [namespaces.make() for _ in range(count)]
            for command in ("ADD", "DEL"):
                times[command] = plugin.call(command, names)
        return {command: (mine[command], other[command]) for command in ("ADD", "DEL")}


class _Namespaces:
    """Network namespaces, removed together at the end: while the kernel clears some away, everything else waits."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def make(self) -> str:
        name = f"tt-bench-{secrets.token_hex(6)}"
        netns.create(name)
        self._made.append(name)
        return name

    def remove(self) -> None:
        for name in self._made:
            netns.delete(name)
        self._made.clear()


def measure(node: Node, directory: Path, datastore: str) -> list[Figure]:
    pair = Pair(node, directory)
    figures: list[Figure] = []
    for count, pairs in ((1, PAIRS), (AT_ONCE, PAIRS_AT_ONCE)):
        namespaces = _Namespaces()
        try:
            pair.settle(namespaces)
            rounds = [
                pair.round(namespaces, count, ours_first=bool(number % 2)) for number in range(WARM + pairs)
            ][WARM:]
        finally:
            namespaces.remove()
        for command, target in (("ADD", 0.6), ("DEL", 0.3)):
            ratio = interval([a / b for a, b in (found[command] for found in rounds)])
            mine = statistics.median(found[command][0] for found in rounds)
            other = statistics.median(found[command][1] for found in rounds)
            many = "alone" if count == 1 else f"{count} at once"
            figures.append(
                Figure(
                    subject="cni",
                    what=f"{command} {many}, {datastore}: ratio to ptp with host-local",
                    value=f"{ratio.text()} ({mine:.1f} ms against {other:.1f} ms)",
                    target=f"≤ {target}",
                    met=ratio.low <= target,
                    runs=f"{pairs} pairs",
                )
            )
    return figures


async def _namespace_document(store: Store) -> None:
    """Every pod of a cluster is in a namespace that its datastore knows."""
    await store.create(Resource(key=ResourceKey(NAMESPACE, "default"), spec=NamespaceSpec()))


async def run() -> list[Figure]:
    """Every figure of the plugin, on both datastores."""
    figures: list[Figure] = []
    for datastore in ("sqlite", "etcd"):
        with ThreadPoolExecutor(1) as thread:
            figures += await asyncio.get_running_loop().run_in_executor(thread, _one, datastore)
    return figures


def _one(datastore: str) -> list[Figure]:
    directory = Path(tempfile.mkdtemp(prefix="tt-"))
    namespaces = _Namespaces()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(namespaces.remove)
        url = ""
        if datastore == "etcd":
            server = SocketEtcd(directory)
            stack.callback(server.kill)
            server.start()
            url = server.url
        node = Node(directory, namespaces.make, datastore=url, whole=True)
        stack.callback(node.close)
        node.prepare("10.65.0.0/16")
        node.ask(_namespace_document)
        node.start()
        node.start_bird()
        netns.enter_for_good(node.name)
        return measure(node, directory, datastore)
