"""What a user or a runtime does wrong: an error that names it, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cni_runtime import Container, PluginError, Runtime
from tests.lab.lab_command import TORTIE, LabCommand, lab, wait_until

pytestmark = pytest.mark.needs("netns", "bird")


@pytest.fixture(scope="module")
def shared() -> Iterator[LabCommand]:
    """One node with one pod."""
    with lab(f"tt-{os.getpid()}-refuse", "--nodes", "1") as made:
        made.add_pod("base", "node1")
        yield made
        # Addresses that leaked stay leaked: looked for once, after all tests.
        assert made.tortie("ipam", "check").returncode == 0


@pytest.fixture(scope="module")
def before(shared: LabCommand) -> dict[str, Any]:
    return _state(shared)


@pytest.fixture
def unchanged(shared: LabCommand, before: dict[str, Any]) -> Iterator[LabCommand]:
    """After the test everything is as before the first one: interfaces, routes, rules, endpoints, pods."""
    yield shared
    wait_until(lambda: _state(shared) == before, f"as before: {before}")


def _state(made: LabCommand) -> dict[str, Any]:
    links = json.loads(made.here("node1", "ip", "-j", "link"))
    return {
        "links": sorted(link["ifname"] for link in links),
        "routes": sorted(made.here("node1", "ip", "route").splitlines()),
        "known": made.here("node1", "nft", "list", "map", "ip", "tortie", "from-workload-map"),
        "endpoints": sorted(
            item["metadata"]["name"] for item in made.get("workloadendpoints", "-A")["items"]
        ),
        "pods": [(pod["name"], pod["ips"]) for pod in made.node("node1")["pods"]],
        "netns": sorted(path.name for path in Path("/run/netns").glob(f"{made.name}.*")),
    }


def _runtime(made: LabCommand, **changes: Any) -> Runtime:
    exports = made.exports("--node", "node1")
    (path,) = Path(exports["NETCONFPATH"]).glob("*.conflist")
    conflist = json.loads(path.read_text())
    conflist["plugins"] = [{**conflist["plugins"][0], **changes}]
    return Runtime(conflist, [Path(exports["CNI_PATH"])], node=made.namespace("node1"), seconds=60)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mtu": "wide"}, "mtu"),
        ({"mtu": -5}, "mtu"),
        ({"ipam": {"type": "no-such-plugin"}}, "no-such-plugin"),
        ({"ipam": {"type": "calico-ipam", "ipv4_pools": "not-a-list"}}, "ipv4_pools"),
        ({"ipam": {"type": "calico-ipam", "ipv4_pools": ["no-such-pool"]}}, "no-such-pool"),
        ({"ipam": "flat"}, "ipam"),
        ({"container_settings": {"allow_ip_forwarding": "perhaps"}}, "allow_ip_forwarding"),
    ],
)
def test_a_malformed_network_configuration(
    unchanged: LabCommand, netns: Callable[[], str], changes: dict[str, Any], said: str
) -> None:
    runtime = _runtime(unchanged, **changes)
    with pytest.raises(PluginError) as refused:
        runtime.add(Container(netns=f"/run/netns/{netns()}", pod="bad"))
    assert said in f"{refused.value.message} {refused.value.details}"


def test_a_namespace_that_vanished(unchanged: LabCommand) -> None:
    with pytest.raises(PluginError) as refused:
        _runtime(unchanged).add(Container(netns="/run/netns/tt-vanished", pod="bad"))
    assert "/run/netns/tt-vanished" in f"{refused.value.message} {refused.value.details}"


def test_an_interface_name_that_is_too_long(unchanged: LabCommand, netns: Callable[[], str]) -> None:
    with pytest.raises(PluginError) as refused:
        _runtime(unchanged).add(
            Container(netns=f"/run/netns/{netns()}", pod="bad", ifname="a-name-of-16-byt")
        )
    assert "a-name-of-16-byt" in f"{refused.value.message} {refused.value.details}"


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("cni.projectcalico.org/ipv4pools=[unquoted]", "ipv4pools"),
        ('cni.projectcalico.org/ipAddrs=["192.168.999.1"]', "192.168.999.1"),
        ('cni.projectcalico.org/ipAddrs=["203.0.113.7"]', "203.0.113.7"),
        ('cni.projectcalico.org/ipAddrs=["192.168.0.1","192.168.0.2"]', "192.168.0.2"),
        ("cni.projectcalico.org/hwAddr=not-a-mac", "not-a-mac"),
    ],
)
def test_a_malformed_annotation(unchanged: LabCommand, annotation: str, said: str) -> None:
    refused = unchanged.run(
        "lab", "pod", "add", "bad", "--node", "node1", "--annotations", annotation, check=False
    )
    assert refused.returncode != 0
    assert said in refused.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("n" * 254, "--node", "node1"), "metadata.name"),
        (("n" * 253, "--node", "node1"), "too long"),
        (("Upper_Case", "--node", "node1"), "Upper_Case"),
        (("../escape", "--node", "node1"), "escape"),
        (("ok", "--node", "node1", "--namespace", "n" * 64), "metadata.namespace"),
        (("ok", "--node", "node7"), "node7"),
        (("ok", "--node", "node1", "--labels", "a b=c"), "a b"),
        (("ok", "--node", "node1", "--labels", "lonely"), "lonely"),
        (("ok", "--node", "node1", "--ports", "web:tcp:70000"), "70000"),
        (("ok", "--node", "node1", "--ports", "web"), "web"),
        (("base", "--node", "node1"), "exists already"),
    ],
)
def test_a_pod_that_cannot_be(unchanged: LabCommand, argv: tuple[str, ...], said: str) -> None:
    refused = unchanged.run("lab", "pod", "add", *argv, check=False)
    assert refused.returncode != 0
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_address_that_is_taken_names_who_has_it(unchanged: LabCommand) -> None:
    taken = unchanged.node("node1")["pods"][0]["ips"][0]
    refused = unchanged.run(
        *("lab", "pod", "add", "thief", "--node", "node1"),
        *("--annotations", f'cni.projectcalico.org/ipAddrs=["{taken}"]'),
        check=False,
    )
    assert refused.returncode != 0
    assert taken in refused.stderr
    assert "default/base" in refused.stderr


def test_a_second_agent_is_refused_and_the_first_goes_on(unchanged: LabCommand) -> None:
    first = unchanged.node("node1")["agent_pid"]
    exports = unchanged.exports("--node", "node1")
    second = subprocess.run(
        ["nsenter", f"--net=/run/netns/{unchanged.namespace('node1')}", *TORTIE, "agent", "run"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, **exports},
    )
    assert second.returncode != 0
    assert str(first) in second.stderr
    assert unchanged.fetch("node1", 9099, "/readiness") == (200, "ok\n")
    assert unchanged.node("node1")["agent_pid"] == first


def test_one_of_many_that_add_the_same_pod_succeeds(unchanged: LabCommand) -> None:
    def add(_: int) -> int:
        return unchanged.run("lab", "pod", "add", "same", "--node", "node1", check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(add, range(4)))
    assert sorted(code == 0 for code in outcomes) == [False, False, False, True]
    assert "192.168." in unchanged.inside("default/same", "ip", "addr", "show", "eth0")
    unchanged.run("lab", "pod", "rm", "same")
    assert unchanged.run("lab", "pod", "rm", "same", check=False).returncode != 0


def test_an_add_that_is_killed_leaves_a_whole_pod_or_none(unchanged: LabCommand) -> None:
    """Ctrl-C or kill of ``lab pod add`` at any moment: the name is free again after ``pod rm`` or at once."""
    for milliseconds in (60, 120, 160, 200):
        child = subprocess.Popen(
            [*TORTIE, "lab", "pod", "add", "cut", "--lab", unchanged.name, "--node", "node1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            child.wait(timeout=milliseconds / 1000)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if any(pod["name"] == "cut" for pod in unchanged.node("node1")["pods"]):
            unchanged.run("lab", "pod", "rm", "cut")
        unchanged.add_pod("cut", "node1")
        unchanged.run("lab", "pod", "rm", "cut")


def test_down_in_the_middle_of_up(unique_name: Callable[[], str]) -> None:
    name = unique_name()
    made = LabCommand(name)
    begun = subprocess.Popen(
        [*TORTIE, "lab", "up", "--lab", name, "--nodes", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until((Path("/run/netns") / f"{name}.node2").exists, "the second node's namespace")
        made.run("lab", "down")
        _, said = begun.communicate(timeout=90)
        assert begun.returncode != 0
        assert "Traceback" not in said, said
    finally:
        begun.kill()
        begun.wait()
        made.run("lab", "down")
    assert not list(Path("/run/netns").glob(f"{name}.*"))
    assert not (Path("/run/tortie/labs") / name).exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pool", "172.30.0.0/16"), "overlaps 172.30.0.0/24"),
        (("--pool", "127.0.0.0/8"), "loopback"),
        (("--pool", "169.254.0.0/20"), "link-local"),
        (("--pool", "10.0.0.5/16"), "host bits"),
        (("--pool", "fd00::/64"), "--dual-stack"),
        (("--nodes", "0"), "0 is not in the range"),
        (("--lab", "Upper"), "'Upper'"),
    ],
)
def test_a_lab_that_cannot_be_is_refused_at_once(
    unique_name: Callable[[], str], options: tuple[str, ...], said: str
) -> None:
    made = LabCommand(unique_name())
    refused = made.run("lab", "up", *options, check=False, timeout=10)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert made.run("lab", "status", check=False).returncode == 2


def test_a_pool_of_two_addresses(unique_name: Callable[[], str]) -> None:
    """One block for all nodes: who comes second borrows."""
    with lab(unique_name(), "--nodes", "2", "--pool", "10.99.0.0/31") as made:
        one, two = (made.add_pod(f"p{number}", f"node{number}")["ips"][0] for number in (1, 2))
        assert {one, two} == {"10.99.0.0", "10.99.0.1"}
        wait_until(lambda: made.reaches("p1", two), "the borrowed address is reached")
        refused = made.run("lab", "pod", "add", "p3", "--node", "node1", check=False)
        assert refused.returncode != 0
        assert "10.99.0.0/31" in refused.stderr
