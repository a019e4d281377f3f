"""A node for tests of the plugin: a network namespace, an agent process in it, the plugin installed, and pods' namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tests.cni_runtime import Container, Runtime
from tortie.cni import install
from tortie.datastore.open import open_store
from tortie.datastore.store import Store
from tortie.ipam import leaks
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.node import NODE, NodeSpec
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT

T = TypeVar("T")
TESTS = Path(__file__).parent
STARTED_SECONDS = 15.0


class Node:
    """Made by the fixture ``cni_node``. ``name`` is the node's and its namespace's."""

    def __init__(
        self, directory: Path, netns: Callable[[], str], *, datastore: str = "", whole: bool = False
    ) -> None:
        self.whole = whole
        self.directory = directory
        self._netns = netns
        self.name = netns()
        self.datastore = datastore or f"sqlite://{directory}/tortie.db"
        self.socket = directory / "cni.sock"
        self.bin_dir = directory / "bin"
        self.log = directory / "agent.log"
        self.agent: subprocess.Popen[bytes] | None = None
        self.bird: subprocess.Popen[bytes] | None = None
        _ip("-n", self.name, "link", "add", "eth0", "type", "veth", "peer", "name", "fabric0")
        _ip("-n", self.name, "addr", "add", "172.30.0.1/24", "dev", "eth0")
        for name in ("eth0", "fabric0"):
            _ip("-n", self.name, "link", "set", name, "up")
        _ip("-n", self.name, "route", "add", "default", "via", "172.30.0.254")
        install.install(bin_dir=self.bin_dir, conf_dir=directory / "conf")

    def prepare(self, *pools: str, block_size: int | None = None) -> None:
        """A Node resource and pools."""

        async def write(store: Store) -> None:
            if not self.whole:
                await store.create(Resource(key=ResourceKey(NODE, self.name), spec=NodeSpec()))
            for place, cidr in enumerate(pools):
                spec = IPPoolSpec(cidr=cidr, block_size=block_size)
                await store.create(Resource(key=ResourceKey(IP_POOL, f"pool-{place}"), spec=spec))

        self.ask(write)

    @property
    def marker(self) -> Path:
        """A file that is there while an agent started with ``pause`` waits at its checkpoint."""
        return self.directory / "paused"

    def start(self, *, fault: str = "", pause: str = "") -> None:
        """The agent: the whole one, or only as much as ADD and DEL need (`cni_agent`). ``fault`` names the checkpoint
        at which it kills itself, ``pause`` one at which it waits until `marker` is removed."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(TESTS.parent),
            "NODENAME": self.name,
            "TORTIE_DATASTORE": self.datastore,
            "TORTIE_RUN_DIR": str(self.directory),
            "TORTIE_STATE_DIR": str(self.directory / "state"),
            "FELIX_HEALTHENABLED": "false",
            "NO_DEFAULT_POOLS": "true",
        }
        if pause:
            environment["TORTIE_TEST_PAUSE"] = f"{pause}={self.marker}"
        if fault:
            environment["TORTIE_FAULT"] = f"kill:{fault}"
        self.socket.unlink(missing_ok=True)
        inside = ["nsenter", f"--net=/run/netns/{self.name}", sys.executable, "-m"]
        part = ["tests.cni_agent", "--node", self.name, "--datastore", self.datastore]
        argv = ["tortie", "agent", "run"] if self.whole else [*part, "--socket", str(self.socket)]
        with self.log.open("ab") as out:
            self.agent = subprocess.Popen(
                [*inside, *argv],
                env=environment,
                stdout=out,
                stderr=out,
            )
        until(self.socket.exists, STARTED_SECONDS, "the agent does not listen", self.log)

    def start_bird(self) -> None:
        """The BIRD of a whole agent's node, which the agent looks for with every change until it is there."""
        config, log = self.directory / "bird.conf", self.directory / "bird.log"
        until(config.exists, STARTED_SECONDS, "the agent wrote no configuration for BIRD", self.log)
        control = self.directory / "bird.ctl"
        with log.open("ab") as out:
            self.bird = subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{self.name}",
                    "bird",
                    "-f",
                    "-R",
                    "-c",
                    str(config),
                    "-s",
                    str(control),
                ],
                stdout=out,
                stderr=out,
            )
        until(control.exists, STARTED_SECONDS, "BIRD does not start", log)

    def unpause(self) -> None:
        """Let the agent go on, and past every later checkpoint."""
        (self.directory / "pass-on").touch()
        self.marker.unlink()

    def kill(self) -> None:
        """As a crash would, and wait for the end."""
        if self.agent is not None:
            if self.agent.poll() is None:
                os.kill(self.agent.pid, signal.SIGKILL)
            self.agent.wait(10)
            self.agent = None

    def wait_killed(self, seconds: float = 20.0) -> bool:
        """Whether the agent ended by itself, as a fault makes it do."""
        assert self.agent is not None
        try:
            return self.agent.wait(seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def close(self) -> None:
        self.kill()
        if self.bird is not None:
            self.bird.kill()
            self.bird.wait(10)

    # ---- what a test does ----

    def runtime(self, version: str = "1.0.0", chained: tuple[str, ...] = (), **plugin: Any) -> Runtime:
        """A runtime that knows this node's plugin. ``agentWaitSeconds`` is short, so that a dead agent fails a test soon."""
        fields = {"agentWaitSeconds": 1, "agentTimeoutSeconds": 30, **plugin}
        conflist = install.conflist(
            network="testnet", socket=str(self.socket), chained=chained, version=version, plugin=fields
        )
        return Runtime(conflist, [self.bin_dir], node=self.name)

    def container(self, pod: str = "", **more: Any) -> Container:
        """One with a namespace of its own."""
        return Container(netns=f"/run/netns/{self._netns()}", pod=pod, **more)

    def ask(self, question: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Ask the datastore."""

        async def run() -> T:
            store = open_store(self.datastore)
            try:
                return await question(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def endpoints(self) -> dict[str, Resource[Any]]:
        """Every WorkloadEndpoint by name."""

        async def read(store: Store) -> dict[str, Resource[Any]]:
            return {
                update.key.name: update.resource
                async for page in store.list(WORKLOAD_ENDPOINT)
                for update in page.updates
                if isinstance(update, Put)
            }

        return self.ask(read)

    def interfaces(self) -> set[str]:
        """The host's ends of wires."""
        shown = json.loads(_ip("-n", self.name, "-j", "link", "show"))
        return {link["ifname"] for link in shown if link["ifname"].startswith("cali")}

    def routes(self) -> set[str]:
        shown = json.loads(_ip("-n", self.name, "-j", "route", "show"))
        return {route["dst"] for route in shown if route.get("dev", "").startswith("cali")}

    def assert_clean(self, *alive: str) -> None:
        """Nothing of any pod but of ``alive`` (by endpoint name) is left, and IPAM has no problem."""
        found = self.endpoints()
        assert set(found) == set(alive)
        wanted = {endpoint.spec.interface_name for endpoint in found.values()}
        until(
            lambda: self.interfaces() == wanted, 5, f"interfaces {self.interfaces()}, not {wanted}", self.log
        )
        problems = self.ask(ipam_problems)
        assert not problems, problems


class SocketEtcd:
    """Debian's etcd on a Unix socket: a node's namespace has no way to our loopback."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "etcd.sock:0"
        self.url = f"etcd+unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises `AssertionError` when it does not come."""
        arguments = {
            "data-dir": self._directory / "etcd",
            "logger": "zap",
            "log-level": "error",
            "listen-client-urls": f"unix://{self._socket.name}",
            "advertise-client-urls": f"unix://{self._socket.name}",
            "listen-peer-urls": "unix://peer.sock:0",
            "initial-advertise-peer-urls": "http://127.0.0.1:2380",
            "initial-cluster": "default=http://127.0.0.1:2380",
        }
        self._socket.unlink(missing_ok=True)
        log = self._directory / "etcd.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                ["etcd", *(f"--{name}={value}" for name, value in arguments.items())],
                stdout=out,
                stderr=out,
                cwd=self._directory,
            )
        until(self._serves, STARTED_SECONDS, "etcd does not serve", log)

    def _serves(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self._socket))
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
        except OSError:
            return False
        return b'"health":"true"' in answer

    def kill(self) -> None:
        """What it wrote stays for the next `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def inside(container: Container, *command: str) -> str:
    """What a command prints in the container's network namespace."""
    name = Path(container.netns).name
    return subprocess.run(
        ["ip", "netns", "exec", name, *command], capture_output=True, text=True, check=True
    ).stdout


def address_of(result: dict[str, Any]) -> str:
    """The first address of an ADD's result."""
    return str(result["ips"][0]["address"]).partition("/")[0]


async def ipam_problems(store: Store) -> list[str]:
    """What ``ipam check`` finds at one look: between two requests nothing may be amiss, not even for a moment."""
    return [problem.text for problem in leaks.problems(await leaks.look(store))]


def until(condition: Callable[[], bool], seconds: float, otherwise: str, log: Path | None = None) -> None:
    """Wait for the condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            said = log.read_text()[-3000:] if log is not None and log.exists() else ""
            raise AssertionError(f"{otherwise}\n{said}")
        time.sleep(0.005)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
