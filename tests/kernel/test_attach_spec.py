"""The specification's versions and commands: chains of plugins, delegated IPAM, CHECK, GC."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cni_node import Node, address_of, inside
from tests.cni_runtime import PluginError, Runtime


@pytest.fixture
def node(run_dir: Path, netns: Callable[[], str]) -> Iterator[Node]:
    made = Node(run_dir, netns)
    made.prepare("10.65.0.0/24")
    made.start()
    yield made
    made.close()


@pytest.fixture
def runtime(node: Node) -> Runtime:
    return node.runtime()


def test_check_finds_what_was_changed(node: Node, runtime: Runtime) -> None:
    container = node.container("p")
    runtime.add(container)
    runtime.check(container)
    inside(container, "ip", "route", "del", "default")
    with pytest.raises(PluginError) as raised:
        runtime.check(container)
    assert raised.value.code == 110
    assert "no route to 0.0.0.0/0 via 169.254.1.1" in raised.value.message
    inside(container, "ip", "link", "set", "eth0", "down")
    with pytest.raises(PluginError, match="eth0 is down"):
        runtime.check(container)


def test_gc_removes_what_the_runtime_no_longer_knows(node: Node) -> None:
    runtime = node.runtime("1.1.0")
    kept, lost, foreign = node.container("a"), node.container("b"), node.container("c")
    runtime.add(kept)
    runtime.add(lost)
    other = node.runtime("1.1.0")
    other.conflist["name"] = "othernet"
    other.add(foreign)
    runtime.collect([kept])
    found = {endpoint.spec.container_id for endpoint in node.endpoints().values()}
    assert found == {kept.id, foreign.id}
    node.assert_clean(*node.endpoints())
    runtime.check(kept)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_every_version_of_the_specification(node: Node, version: str) -> None:
    chained = ("portmap", "bandwidth") if version != "1.1.0" else ()
    runtime = node.runtime(version, chained)
    assert "1.1.0" in runtime.versions("tortie")
    container = node.container(
        "p",
        capabilities={
            "portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 1_000_000},
        },
    )
    result = runtime.add(container)
    assert result["cniVersion"] == version
    assert ("version" in result["ips"][0]) == (version < "1.0.0")
    assert ("mtu" in result["interfaces"][1]) == (
        version >= "1.1.0" and bool(result["interfaces"][1].get("mtu"))
    )
    if chained:
        rules = subprocess.run(
            ["ip", "netns", "exec", node.name, "iptables-save", "-t", "nat"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "18080" in rules
    if version >= "0.4.0":
        # Debian's portmap looks for rules of the other family in CHECK and fails for a pod of one family.
        runtime.check(container, without=("portmap",))
    if version >= "1.1.0":
        runtime.status()
        runtime.collect([container])
        runtime.check(container)
    runtime.delete(container)
    runtime.delete(container)
    node.assert_clean()


def test_a_chained_previous_result_stays(node: Node, runtime: Runtime) -> None:
    plugin = runtime.conflist["plugins"][0]
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "before0"}],
        "ips": [{"address": "192.0.2.1/32", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    result = runtime.call(plugin, node.container("p"), "ADD", previous=previous)
    assert result is not None
    assert [i["name"] for i in result["interfaces"]][::2] == ["before0", "eth0"]
    assert [ip["interface"] for ip in result["ips"]] == [0, 2]
    assert result["dns"] == {"nameservers": ["192.0.2.53"]}


def test_delegated_ipam(node: Node) -> None:
    data = str(node.directory / "host-local")
    ranges = [[{"subnet": "10.77.0.0/29"}]]
    runtime = node.runtime(ipam={"type": "host-local", "ranges": ranges, "dataDir": data})
    held = Path(data) / "testnet"
    container = node.container("p")
    result = runtime.add(container)
    assert address_of(result).startswith("10.77.0.")
    assert (held / address_of(result)).exists()
    runtime.check(container)
    assert address_of(runtime.add(container)).startswith("10.77.0.")
    runtime.delete(container)
    runtime.delete(container)
    assert not list(held.glob("10.*"))
    # Five addresses, then none: the plugin's own words, and nothing of ours left.
    some = [node.container(f"p{n}") for n in range(5)]
    for one in some:
        runtime.add(one)
    before = node.endpoints()
    with pytest.raises(PluginError, match="no IP addresses available"):
        runtime.add(node.container("late"))
    node.assert_clean(*before)
    assert len(list(held.glob("10.*"))) == 5
