"""ADD and DEL through the shim, an agent's parts that are real, and the kernel."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cni_node import Node, SocketEtcd, address_of, inside, until
from tests.cni_runtime import Container, PluginError, Runtime
from tortie.datastore.store import Store
from tortie.resources.cluster_information import CLUSTER_INFORMATION, ClusterInformationSpec
from tortie.resources.namespace import NAMESPACE, NamespaceSpec
from tortie.resources.pod import POD, ContainerPort, PodSpec
from tortie.resources.pod import Container as PodContainer
from tortie.resources.profile import PROFILE
from tortie.resources.resource import Metadata, Resource, ResourceKey

P = "cni.projectcalico.org/"


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


def store_pod(node: Node, name: str, *, annotations: dict[str, str] | None = None, **more: Any) -> None:
    async def write(store: Store) -> None:
        await store.create(
            Resource(
                key=ResourceKey(POD, name, "default"),
                metadata=Metadata(labels={"app": name}, annotations=annotations or {}),
                spec=PodSpec(node_name=node.name, **more),
            )
        )

    node.ask(write)


def test_an_add_brings_a_wire_an_address_and_an_endpoint(node: Node, runtime: Runtime) -> None:
    port = ContainerPort(name="http", container_port=80)
    store_pod(
        node, "web-0", service_account_name="cart", containers=(PodContainer(name="web", ports=(port,)),)
    )
    container = node.container("web-0")
    result = runtime.add(container)
    address = address_of(result)
    host, pod = result["interfaces"]
    assert host["name"].startswith("cali")
    assert host["mac"] == "ee:ee:ee:ee:ee:ee"
    assert (pod["name"], pod["sandbox"]) == ("eth0", container.netns)
    assert result["ips"] == [{"address": f"{address}/32", "interface": 1}]

    link = json.loads(inside(container, "ip", "-j", "link", "show", "eth0"))[0]
    assert link["address"] == pod["mac"]
    assert "UP" in link["flags"]
    routes = {r["dst"]: r for r in json.loads(inside(container, "ip", "-j", "route"))}
    assert routes["default"]["gateway"] == "169.254.1.1"
    assert routes["169.254.1.1"]["scope"] == "link"
    assert inside(container, "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    inside(container, "fping", "-c1", "-t1000", "172.30.0.1")

    [(name, endpoint)] = node.endpoints().items()
    doubled = node.name.replace("-", "--")
    assert name == f"{doubled}-k8s-web--0-eth0"
    spec = endpoint.spec
    assert spec.orchestrator == "k8s"
    assert (spec.pod, spec.node, spec.endpoint) == ("web-0", node.name, "eth0")
    assert spec.container_id == container.id
    assert spec.ip_networks == (f"{address}/32",)
    assert spec.profiles == ("kns.default", "ksa.default.cart")
    assert spec.interface_name == host["name"]
    assert spec.mac == pod["mac"]
    assert [(p.name, p.protocol, p.port) for p in spec.ports] == [("http", "TCP", 80)]
    assert endpoint.metadata.labels == {
        "app": "web-0",
        "projectcalico.org/namespace": "default",
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": "cart",
    }

    runtime.delete(container)
    node.assert_clean()
    assert "eth0" not in inside(container, "ip", "link")


@pytest.mark.parametrize("asked", ["10.65.0.77", None])
def test_a_pod_that_changes_while_its_addresses_are_written(
    run_dir: Path, netns: Callable[[], str], asked: str | None
) -> None:
    """What the agent remembers of the pod is out of date at the write: nothing of it may count."""
    node = Node(run_dir, netns)
    try:
        node.prepare("10.65.0.0/24")
        store_pod(node, "p", annotations={} if asked else {P + "ipAddrs": '["10.65.0.77"]'})
        node.start(pause="ipam.block")
        runtime, container = node.runtime(), node.container("p")

        async def change(store: Store) -> None:
            pod = await store.get(ResourceKey(POD, "p", "default"))
            annotations = {P + "ipAddrs": f'["{asked}"]'} if asked else {}
            labels = {"app": "changed"}
            await store.update(
                replace(pod, metadata=replace(pod.metadata, labels=labels, annotations=annotations))
            )

        with ThreadPoolExecutor(1) as pool:
            adding = pool.submit(runtime.add, container)
            until(node.marker.exists, 10, "the agent did not come to its write", node.log)
            node.ask(change)
            node.unpause()
            result = adding.result(30)
        [endpoint] = node.endpoints().values()
        assert endpoint.metadata.labels["app"] == "changed"
        assert endpoint.spec.ip_networks == (f"{address_of(result)}/32",)
        assert (address_of(result) == "10.65.0.77") is (asked is not None)
        assert f" {address_of(result)}/32" in inside(container, "ip", "addr", "show", "eth0")
        runtime.delete(container)
        node.assert_clean()
    finally:
        node.close()


def test_profiles_are_made_that_allow_all(node: Node, runtime: Runtime) -> None:
    store_pod(node, "p", service_account_name="cart")
    runtime.add(node.container("p"))

    async def read(store: Store) -> list[Any]:
        return [await store.get(ResourceKey(PROFILE, name)) for name in ("kns.default", "ksa.default.cart")]

    for profile in node.ask(read):
        assert [rule.action for rule in profile.spec.ingress] == ["Allow"]
        assert [rule.action for rule in profile.spec.egress] == ["Allow"]


def test_a_container_without_a_pod(node: Node, runtime: Runtime) -> None:
    container = node.container()
    result = runtime.add(container)
    doubled = node.name.replace("-", "--")
    endpoint = node.endpoints()[f"{doubled}-cni-{container.id}-eth0"]
    assert endpoint.spec.orchestrator == "cni"
    assert endpoint.spec.profiles == ("testnet",)
    assert result["interfaces"][0]["name"] == "cali" + container.id[:11]
    runtime.delete(container)
    node.assert_clean()


def test_two_families(run_dir: Path, netns: Callable[[], str]) -> None:
    node = Node(run_dir, netns)
    try:
        node.prepare("10.65.0.0/24", "fd00:65::/112")
        node.start()
        runtime = node.runtime()
        container = node.container("p")
        result = runtime.add(container)
        assert [ip["address"].partition("/")[2] for ip in result["ips"]] == ["32", "128"]
        address = result["ips"][1]["address"].partition("/")[0]
        routes = json.loads(inside(container, "ip", "-6", "-j", "route"))
        default = next(r for r in routes if r["dst"] == "default")
        assert default["gateway"] == "fe80::ecee:eeff:feee:eeee"
        shown = inside(container, "ip", "-6", "addr", "show", "eth0")
        assert address in shown
        assert "tentative" not in shown
        # The gateway answers at once: its link-local address waited for no duplicate address detection, which takes a second.
        # One of these is enough: a new veth on a busy machine may lose a packet.
        inside(container, "fping", "-6", "-c8", "-p50", "-t200", "fe80::ecee:eeff:feee:eeee%eth0")
        subprocess.run(
            ["ip", "netns", "exec", node.name, "fping", "-6", "-c1", "-t1000", address],
            check=True,
            capture_output=True,
        )
        runtime.delete(container)
        node.assert_clean()
    finally:
        node.close()


def test_a_repeated_add_keeps_the_address(node: Node, runtime: Runtime) -> None:
    container = node.container("p")
    first, second = runtime.add(container), runtime.add(container)
    assert first["ips"] == second["ips"]
    node.assert_clean(*node.endpoints())
    inside(container, "fping", "-c1", "-t1000", "172.30.0.1")
    runtime.delete(container)
    node.assert_clean()


def test_a_new_sandbox_takes_the_place_and_the_old_ones_del_harms_nobody(
    node: Node, runtime: Runtime
) -> None:
    old, new = node.container("p"), node.container("p")
    runtime.add(old)
    result = runtime.add(new)
    runtime.delete(old)
    [name] = node.endpoints()
    assert node.endpoints()[name].spec.container_id == new.id
    node.assert_clean(name)
    inside(new, "fping", "-c1", "-t1000", "172.30.0.1")
    assert node.routes() == {address_of(result)}
    runtime.delete(new)
    node.assert_clean()


def test_del_is_idempotent_and_needs_no_add(node: Node, runtime: Runtime) -> None:
    container = node.container("p")
    runtime.delete(container)
    runtime.add(container)
    runtime.delete(container)
    runtime.delete(container)
    node.assert_clean()


@pytest.mark.parametrize("netns_path", ["", "/run/netns/no-such-namespace"])
def test_del_without_a_namespace(node: Node, runtime: Runtime, netns_path: str) -> None:
    container = node.container("p")
    runtime.add(container)
    gone = Container(netns=netns_path, id=container.id, pod="p")
    if netns_path:
        subprocess.run(["ip", "netns", "del", Path(container.netns).name], check=True)
    runtime.delete(gone)
    node.assert_clean()


def test_add_without_a_namespace_names_it(node: Node, runtime: Runtime) -> None:
    with pytest.raises(PluginError) as raised:
        runtime.add(Container(netns="/run/netns/no-such-namespace", pod="p"))
    assert raised.value.code == 4
    assert "/run/netns/no-such-namespace" in raised.value.message
    node.assert_clean()


def test_the_nodes_own_namespace_is_no_pods(node: Node, runtime: Runtime) -> None:
    """Or its default route would lead to a gateway that is itself, and it would forward no more."""
    own = f"/run/netns/{node.name}"
    routes = subprocess.run(["ip", "-n", node.name, "route"], capture_output=True, check=True).stdout
    with pytest.raises(PluginError) as raised:
        runtime.add(Container(netns=own, pod="p", ifname="net0"))  # and its DEL
    assert raised.value.code == 4
    assert f"{own} is the node's own network namespace" in raised.value.message
    assert subprocess.run(["ip", "-n", node.name, "route"], capture_output=True, check=True).stdout == routes
    node.assert_clean()


def test_a_foreign_interface_in_the_pod_survives(node: Node, runtime: Runtime) -> None:
    container = node.container("p")
    inside(container, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(PluginError) as raised:
        runtime.add(container)  # and its DEL
    assert "eth0" in raised.value.message
    assert "exists" in raised.value.message
    assert "eth0" in inside(container, "ip", "link")
    node.assert_clean()


def test_annotations(node: Node, runtime: Runtime) -> None:
    wanted = {
        P + "ipAddrs": '["10.65.0.77"]',
        P + "hwAddr": "02:00:00:00:00:77",
        P + "allowedSourcePrefixes": '["192.0.2.0/24"]',
    }
    store_pod(node, "p", annotations=wanted)
    container = node.container("p")
    result = runtime.add(container)
    assert address_of(result) == "10.65.0.77"
    assert result["interfaces"][1]["mac"] == "02:00:00:00:00:77"
    [endpoint] = node.endpoints().values()
    assert endpoint.spec.allow_spoofed_source_prefixes == ("192.0.2.0/24",)
    store_pod(node, "q", annotations={P + "ipAddrs": '["10.65.0.77"]'})
    with pytest.raises(PluginError, match=r"10\.65\.0\.77"):
        runtime.add(node.container("q"))
    runtime.delete(container)
    node.assert_clean()


def test_a_namespaces_pool_and_its_pods_pool(node: Node, runtime: Runtime) -> None:
    async def write(store: Store) -> None:
        metadata = Metadata(annotations={P + "ipv4pools": '["no-such-pool"]'})
        await store.create(
            Resource(key=ResourceKey(NAMESPACE, "default"), metadata=metadata, spec=NamespaceSpec())
        )

    node.ask(write)
    with pytest.raises(PluginError, match="no-such-pool"):
        runtime.add(node.container("p"))
    store_pod(node, "q", annotations={P + "ipv4pools": '["pool-0"]'})
    runtime.add(node.container("q"))
    node.assert_clean(*node.endpoints())


def test_arguments_of_the_runtime(node: Node, runtime: Runtime) -> None:
    one = node.container("a", capabilities={"ips": ["10.65.0.5/24"], "mac": "02:00:00:00:00:05"})
    result = runtime.add(one)
    assert address_of(result) == "10.65.0.5"
    assert result["interfaces"][1]["mac"] == "02:00:00:00:00:05"
    other = node.container("b", arguments={"IP": "10.65.0.6", "MAC": "02-00-00-00-00-06"})
    result = runtime.add(other)
    assert address_of(result) == "10.65.0.6"
    assert result["interfaces"][1]["mac"] == "02:00:00:00:00:06"


def test_mtu_and_forwarding_of_the_configuration(node: Node) -> None:
    runtime = node.runtime(mtu=1410, container_settings={"allow_ip_forwarding": True})
    container = node.container("p")
    result = runtime.add(container)
    assert json.loads(inside(container, "ip", "-j", "link", "show", "eth0"))[0]["mtu"] == 1410
    shown = subprocess.run(
        ["ip", "-n", node.name, "-j", "link", "show", result["interfaces"][0]["name"]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(shown)[0]["mtu"] == 1410
    assert inside(container, "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"


def test_a_full_pool_says_so_and_leaves_nothing(run_dir: Path, netns: Callable[[], str]) -> None:
    node = Node(run_dir, netns)
    try:
        node.prepare("10.65.0.0/31", block_size=31)
        node.start()
        runtime = node.runtime()
        for name in ("a", "b"):
            runtime.add(node.container(name))
        before = node.endpoints()
        with pytest.raises(PluginError) as raised:
            runtime.add(node.container("c"))
        assert raised.value.code == 101
        assert "pool-0" in raised.value.message
        node.assert_clean(*before)
    finally:
        node.close()


def test_no_pool_at_all(run_dir: Path, netns: Callable[[], str]) -> None:
    node = Node(run_dir, netns)
    try:
        node.prepare()
        node.start()
        runtime = node.runtime("1.1.0")
        with pytest.raises(PluginError) as raised:
            runtime.add(node.container("c"))
        assert raised.value.code == 101
        assert "pool" in raised.value.message
        with pytest.raises(PluginError) as raised:
            runtime.status()
        assert raised.value.code == 50
        node.assert_clean()
    finally:
        node.close()


def test_a_locked_datastore_refuses(node: Node, runtime: Runtime) -> None:
    async def lock(store: Store) -> None:
        spec = ClusterInformationSpec(datastore_ready=False)
        await store.create(Resource(key=ResourceKey(CLUSTER_INFORMATION, "default"), spec=spec))

    node.ask(lock)
    with pytest.raises(PluginError, match="datastoreReady") as raised:
        runtime.add(node.container("p"))
    assert raised.value.code == 11


@pytest.mark.parametrize(
    ("pod", "namespace", "says"),
    [
        ("p" * 254, "default", "K8S_POD_NAME"),
        ("UPPER", "default", "K8S_POD_NAME"),
        ("a/b", "default", "K8S_POD_NAME"),
        ("p", "n" * 64, "K8S_POD_NAMESPACE"),
        ("p", "n.s", "K8S_POD_NAMESPACE"),
    ],
)
def test_impossible_names_are_named(
    node: Node, runtime: Runtime, pod: str, namespace: str, says: str
) -> None:
    container = node.container(pod, namespace=namespace)
    with pytest.raises(PluginError) as raised:
        runtime.add(container)
    assert says in raised.value.message
    runtime.delete(container)  # or the runtime could never be rid of the sandbox
    node.assert_clean()


def test_the_longest_names_work(node: Node, runtime: Runtime) -> None:
    container = node.container("p" * 253, namespace="n" * 63)
    runtime.add(container)
    runtime.delete(container)
    node.assert_clean()


def test_a_dead_agent_is_a_clear_error_and_soon_over(node: Node, runtime: Runtime) -> None:
    container = node.container("p")
    runtime.add(container)
    node.kill()
    started = time.monotonic()
    for call in (runtime.add, runtime.delete):
        with pytest.raises(PluginError) as raised:
            call(container)
        assert raised.value.code == 11
        assert str(node.socket) in raised.value.message
    assert time.monotonic() - started < 10
    node.start()
    runtime.delete(container)
    node.assert_clean()


def test_a_del_overtakes_the_add_of_the_same_container(node: Node, runtime: Runtime) -> None:
    """Again and again a DEL while the ADD runs: whichever comes first, nothing is left."""
    plugin = runtime.conflist["plugins"][0]
    config = runtime.config(plugin)
    for delay in range(12):
        container = node.container("p")
        adding = runtime.start("tortie", container.environment("ADD", runtime.path), config)
        time.sleep(delay * 0.001)
        runtime.call(plugin, container, "DEL")
        adding.communicate(timeout=20)
        if adding.returncode == 0:  # the ADD came second: as a runtime we know of it, and delete
            runtime.call(plugin, container, "DEL")
        node.assert_clean()


def test_eight_at_once(node: Node, runtime: Runtime) -> None:
    containers = [node.container(f"p{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(runtime.add, containers))
        assert len({address_of(result) for result in results}) == 8
        node.assert_clean(*node.endpoints())
        list(pool.map(runtime.delete, containers))
    node.assert_clean()


def test_a_killed_shim_leaves_a_whole_add_or_none(node: Node, runtime: Runtime) -> None:
    plugin = runtime.conflist["plugins"][0]
    for delay in range(0, 12, 2):
        container = node.container("p")
        child = runtime.start("tortie", container.environment("ADD", runtime.path), runtime.config(plugin))
        time.sleep(delay * 0.001)
        child.kill()
        child.communicate()
        runtime.call(plugin, container, "DEL")
        until(lambda: not node.endpoints(), 5, "an endpoint is left", node.log)
        node.assert_clean()


def test_a_datastore_that_is_away_is_a_clear_error(run_dir: Path, netns: Callable[[], str]) -> None:
    etcd = SocketEtcd(run_dir)
    etcd.start()
    node = Node(run_dir, netns, datastore=etcd.url)
    try:
        node.prepare("10.65.0.0/24")
        node.start()
        runtime = node.runtime()
        plugin = runtime.conflist["plugins"][0]
        container, late = node.container("p"), node.container("q")
        runtime.add(container)
        etcd.kill()
        for command, about in (("ADD", late), ("DEL", container)):
            with pytest.raises(PluginError, match="etcd") as raised:
                runtime.call(plugin, about, command)
            assert raised.value.code == 11
        # The wire of the deleted pod is gone all the same; what the datastore holds goes with the runtime's next DEL.
        assert node.interfaces() == set()
        etcd.start()
        runtime.delete(container)
        runtime.delete(late)
        node.assert_clean()
    finally:
        node.close()
        etcd.kill()
