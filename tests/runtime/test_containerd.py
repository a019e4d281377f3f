"""A real container runtime from Debian runs real containers on the plugin, with the whole agent behind it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cni_node import Node, until
from tests.runtime.containerd import Containerd
from tortie.cni import install

pytestmark = pytest.mark.needs("netns", "containerd")


@pytest.fixture
def node(run_dir: Path, netns: Callable[[], str]) -> Iterator[Node]:
    made = Node(run_dir, netns, whole=True)
    made.prepare("10.65.0.0/24")
    made.start()
    yield made
    made.close()


@pytest.fixture
def containerd(node: Node, run_dir: Path) -> Iterator[Containerd]:
    conf_dir = run_dir / "net.d"
    configuration = install.conflist(socket=str(node.socket))
    install.install(bin_dir=node.bin_dir, conf_dir=conf_dir, configuration=configuration)
    made = Containerd(run_dir, node.name, node.bin_dir, conf_dir)
    made.start()
    yield made
    made.close()


def addresses(node: Node) -> dict[str, str]:
    """Each container's id, and its address."""
    return {
        endpoint.spec.container_id: endpoint.spec.ip_networks[0].removesuffix("/32")
        for endpoint in node.endpoints().values()
    }


def reaches(node: Node, address: str) -> bool:
    inside = ["ip", "netns", "exec", node.name, "fping", "-c1", "-t500", address]
    return subprocess.run(inside, capture_output=True, check=False).returncode == 0


def test_two_containers_reach_each_other_and_the_node(node: Node, containerd: Containerd) -> None:
    running = {name: containerd.run(name, "sleep", "600") for name in ("one", "two")}

    def have_network() -> bool:
        ended = {name: child.communicate()[0] for name, child in running.items() if child.poll() is not None}
        assert not ended, f"ended before they were asked to: {ended}"
        return len(addresses(node)) == 2

    try:
        until(have_network, 30, "the containers got no network", node.log)
        found = addresses(node)
        assert set(found) == {"default-one", "default-two"}
        for address in found.values():
            until(lambda: reaches(node, address), 10, f"{address} is not reached", node.log)  # noqa: B023
        containerd.inside("one", "ping", "-c", "1", "-W", "2", found["default-two"])
        containerd.inside("two", "ping", "-c", "1", "-W", "2", "172.30.0.1")
        assert found["default-one"] in containerd.inside("one", "ip", "addr", "show", "eth0")
    finally:
        for name, child in running.items():
            if child.poll() is None:
                containerd.kill(name)
                out, _ = child.communicate(timeout=30)
                print(name, out.decode())
    node.assert_clean()
