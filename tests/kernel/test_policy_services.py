"""Services: a cluster IP that is translated to a pod, as kube-proxy does it, by a table of rules that is none of ours.

Policy is asked after the translation, on the pod's address and port, at the source as well as at the destination; only policy
of HostEndpoints that is preDNAT is asked before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.kernel.policy_cluster import (
    NODE,
    PolicyCluster,
    Written,
    global_policy,
    network_policy,
    policy_cluster,
    profile,
    rule,
    to,
    v3,
)
from tests.kernel.policy_world import Place
from tortie.net.addresses import Address

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
SERVICE = Place("", Address.parse("10.96.0.10"), Address.parse("fd96::a"))
ABROAD = Place("", Address.parse("10.96.0.11"), Address.parse("fd96::b"))
"""One whose backend is no pod, but the host outside."""
HOST = "role == 'host'"


@pytest.fixture
async def cluster(netns: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    async with policy_cluster(netns) as made:
        for version, family in ((4, "ip"), (6, "ip6")):
            lead = "\n".join(
                f"{family} daddr {service.address(version)} udp dport 80 dnat to {_written(backend.address(version))}:8080"
                for service, backend in ((SERVICE, made.server), (ABROAD, made.outside))
            )
            chains = "\n".join(
                f"chain {hook} {{ type nat hook {hook} priority -100; policy accept;\n{lead}\n}}"
                for hook in ("prerouting", "output")
            )
            made.world.run("nft", f"table {family} services {{\n{chains}\n}}")
            for service in (SERVICE, ABROAD):
                route = (
                    "route",
                    "add",
                    str(service.address(version)),
                    "via",
                    str(made.node.address(version)),
                )
                made.world.run("ip", f"-{version}", *route, where=made.outside.namespace)
        yield made


def _written(address: Address) -> str:
    return str(address) if address.version == 4 else f"[{address}]"


async def reached(
    cluster: PolicyCluster, wanted: bool, source: Any = None, service: Place = SERVICE, backend: Any = None
) -> None:
    """Whether the service's port leads to its backend."""
    for version in (4, 6):
        at = backend or cluster.server
        seen = await cluster.passes(to(80, version), source, service, at=at)
        assert seen == wanted, f"IPv{version}: {'passes' if seen else 'is dropped'}"


def nets(action: str, port: int, place: Any) -> list[Written]:
    """Rules for one port of one place by its addresses."""
    return [
        {"action": action, "protocol": "UDP", "destination": {"nets": [str(address.prefix)], "ports": [port]}}
        for address in (place.v4, place.v6)
    ]


async def test_at_the_source_policy_sees_the_pod_and_its_port(cluster: PolicyCluster) -> None:
    await reached(cluster, True)

    async def egress(wanted: bool, *rules: Written) -> None:
        await cluster.apply(
            network_policy("out", selector="role == 'client'", types=["Egress"], egress=list(rules))
        )
        await reached(cluster, wanted)

    await egress(False)
    await egress(True, *nets("Allow", 8080, cluster.server))
    await egress(False, *nets("Allow", 80, SERVICE), *nets("Allow", 80, cluster.server))
    await egress(True, *nets("Deny", 80, SERVICE), rule("Allow"))
    await egress(False, *nets("Deny", 8080, cluster.server), rule("Allow"))
    by_label = {"selector": "role == 'server'", "ports": [8080]}
    await egress(True, {"action": "Allow", "protocol": "UDP", "destination": by_label})


async def test_a_rule_by_service_holds_for_its_cluster_ip(cluster: PolicyCluster) -> None:
    """The rule names the service; what is compared are its backends with their ports."""
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"web-{version}",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [str(cluster.server.address(version))]}],
            "ports": [{"name": "dns", "protocol": "UDP", "port": 8080}],
        }
        for version in (4, 6)
    ]
    by_service = {"action": "Allow", "destination": {"services": {"name": "web", "namespace": "default"}}}
    await cluster.apply(
        network_policy("out", selector="role == 'client'", types=["Egress"], egress=[by_service])
    )
    await reached(cluster, False)
    await cluster.apply(*slices)
    await reached(cluster, True)
    await cluster.expect({8080: True, 80: False})


async def test_at_the_destination_too(cluster: PolicyCluster) -> None:
    """Who asks is seen as who it is: the source is not translated."""
    client = {"selector": "role == 'client'"}

    async def ingress(port: int) -> None:
        allowed = rule("Allow", port, source=client)
        await cluster.apply(network_policy("in", selector="role == 'server'", ingress=[allowed]))

    await ingress(80)
    await reached(cluster, False)
    await ingress(8080)
    await reached(cluster, True)
    await reached(cluster, False, cluster.other)
    await reached(cluster, False, cluster.outside)
    await reached(cluster, True, cluster.node)


async def test_policy_of_the_nodes_interfaces_comes_before_it_where_it_says_so(
    cluster: PolicyCluster,
) -> None:
    guard = v3("HostEndpoint", "guard", node=NODE, interfaceName="eth0", profiles=["open"])
    guard["metadata"]["labels"] = {"role": "host"}
    await cluster.apply(profile("open"), guard)
    await reached(cluster, True, cluster.outside)

    async def host(wanted: bool, denied: list[Written], **spec: Any) -> None:
        await cluster.apply(
            global_policy(
                "h",
                selector=HOST,
                applyOnForward=True,
                types=["Ingress"],
                ingress=[*denied, rule("Allow")],
                **spec,
            )
        )
        await reached(cluster, wanted, cluster.outside)
        await reached(cluster, True)  # between pods: no interface of the node's own

    # Before the translation it is the service that is asked for, after it the pod.
    await host(False, nets("Deny", 80, SERVICE), preDNAT=True)
    await host(True, nets("Deny", 8080, cluster.server), preDNAT=True)
    await host(True, nets("Deny", 80, SERVICE))
    await host(False, nets("Deny", 8080, cluster.server))


async def test_what_the_node_itself_asks_of_a_service(cluster: PolicyCluster) -> None:
    """It leaves by the node's interface as what it has become."""
    guard = v3("HostEndpoint", "guard", node=NODE, interfaceName="eth0", profiles=["open"])
    guard["metadata"]["labels"] = {"role": "host"}
    await cluster.apply(profile("open"), guard)

    async def egress(wanted: bool, denied: list[Written]) -> None:
        await cluster.apply(
            global_policy("h", selector=HOST, types=["Egress"], egress=[*denied, rule("Allow")])
        )
        await reached(cluster, wanted, cluster.node, ABROAD, cluster.outside)

    await egress(True, nets("Deny", 80, ABROAD))
    await egress(False, nets("Deny", 8080, cluster.outside))
