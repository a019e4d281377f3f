"""Scenarios 21 to 30: the node itself, what is routed through it, and its own pods. From documents to packets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.kernel.dataplane_world import NODE_V4, NODE_V6
from tests.kernel.policy_cluster import (
    NODE,
    PolicyCluster,
    echo,
    global_policy,
    network_policy,
    policy_cluster,
    profile,
    rule,
    to,
    v3,
)

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
HOST = "role == 'host'"
BOTH = ["Ingress", "Egress"]
NODE_PORT = 30080


@pytest.fixture
async def cluster(netns: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    async with policy_cluster(netns) as made:
        yield made


def host_endpoint(interface: str = "eth0", **more: Any) -> dict[str, Any]:
    found = v3(
        "HostEndpoint", "guard", node=NODE, **({"interfaceName": interface} if interface else {}), **more
    )
    found["metadata"]["labels"] = {"role": "host"}
    return found


def open_endpoint(interface: str = "eth0") -> tuple[dict[str, Any], dict[str, Any]]:
    """One that a profile opens where no policy decides."""
    return profile("open"), host_endpoint(interface, profiles=["open"])


@pytest.mark.parametrize("action", ["Drop", "Return", "Accept"])
async def test_a_pod_and_its_node(cluster: PolicyCluster, action: str) -> None:
    """Whatever guards the node's interfaces, of a pod's packets to it the action alone decides, after the pod's own policy."""
    await cluster.apply(v3("FelixConfiguration", "default", defaultEndpointToHostAction=action))
    open_ = action != "Drop"
    await cluster.expect({80: open_}, cluster.client, cluster.node)
    policies = (
        global_policy("h", selector=HOST, ingress=[rule("Allow")]),
        global_policy("h", selector=HOST, ingress=[rule("Deny")]),
    )
    for interface in ("eth0", "*"):
        await cluster.apply(host_endpoint(interface))
        await cluster.expect({80: open_}, cluster.client, cluster.node)
        await cluster.expect({80: False}, cluster.outside, cluster.node)
        for policy, allowed in zip(policies, (True, False), strict=True):
            await cluster.apply(policy)
            await cluster.expect({80: open_}, cluster.client, cluster.node)
            await cluster.expect({80: allowed}, cluster.outside, cluster.node)
        await cluster.delete("globalnetworkpolicy", "h")
        await cluster.delete("hostendpoint", "guard")
    await cluster.apply(
        network_policy("out", selector="role == 'client'", types=["Egress"], egress=[rule("Allow", 80)])
    )
    await cluster.expect({80: open_, 81: False}, cluster.client, cluster.node)
    await cluster.expect({81: open_}, cluster.other, cluster.node)


@pytest.mark.parametrize("interface", ["eth0", "*", ""])
async def test_without_policy_all_but_fail_safe_ports_is_blocked(
    cluster: PolicyCluster, interface: str
) -> None:
    """By the interface's name, by all of them, and by the address that it carries; what is routed through passes."""
    more = {} if interface else {"expectedIPs": [str(NODE_V4), str(NODE_V6)]}
    await cluster.apply(host_endpoint(interface, **more))
    await cluster.expect({80: False, 68: True}, cluster.outside, cluster.node)
    await cluster.expect({22: True, 6443: True, 80: False}, cluster.outside, cluster.node, protocol="TCP")
    await cluster.expect({53: True, 67: True, 80: False}, cluster.node, cluster.outside)
    await cluster.expect({2379: True, 22: False}, cluster.node, cluster.outside, protocol="TCP")
    for version in (4, 6):
        assert not await cluster.passes(echo(version), cluster.outside, cluster.node)
    await cluster.expect({80: True}, cluster.outside, cluster.server)
    await cluster.expect({80: True}, cluster.client, cluster.outside)
    await cluster.expect({80: True}, cluster.client, cluster.node)
    await cluster.apply(
        v3(
            "FelixConfiguration",
            "default",
            defaultEndpointToHostAction="Return",
            failsafeInboundHostPorts=[{"protocol": "udp", "port": 80, "net": "192.0.2.0/24"}],
            failsafeOutboundHostPorts=[],
        )
    )
    await cluster.expect({80: True, 68: False}, cluster.outside, cluster.node, versions=[4])
    await cluster.expect({80: False}, cluster.outside, cluster.node, versions=[6])
    await cluster.expect({22: False}, cluster.outside, cluster.node, protocol="TCP")
    await cluster.expect({53: False}, cluster.node, cluster.outside)
    await cluster.delete("hostendpoint", "guard")
    await cluster.expect({81: True}, cluster.outside, cluster.node)
    await cluster.expect({81: True}, cluster.node, cluster.outside)


@pytest.mark.parametrize("interface", ["eth0", "*"])
async def test_a_profile_opens_what_no_policy_decides(cluster: PolicyCluster, interface: str) -> None:
    await cluster.apply(*open_endpoint(interface))
    await cluster.expect({80: True}, cluster.outside, cluster.node)
    await cluster.expect({80: True}, cluster.node, cluster.outside)
    await cluster.apply(global_policy("h", selector=HOST, types=["Ingress"], ingress=[rule("Allow", 81)]))
    await cluster.expect({80: False, 81: True}, cluster.outside, cluster.node)
    await cluster.expect({80: True}, cluster.node, cluster.outside)
    # Deny alone needs a tier that lets the rest go on to the profile.
    await cluster.apply(
        v3("Tier", "first", order=1, defaultAction="Pass"),
        global_policy(
            "first.h",
            tier="first",
            selector=HOST,
            types=BOTH,
            ingress=[rule("Deny", 80)],
            egress=[rule("Deny", 90)],
        ),
    )
    await cluster.delete("globalnetworkpolicy", "h")
    await cluster.expect({80: False, 81: True}, cluster.outside, cluster.node)
    await cluster.expect({90: False, 91: True}, cluster.node, cluster.outside)


@pytest.mark.parametrize("interface", ["eth0", "*"])
async def test_what_is_routed_through_is_denied_where_policy_applies_on_forward(
    cluster: PolicyCluster, interface: str
) -> None:
    forward = global_policy(
        "f", selector=HOST, types=BOTH, applyOnForward=True,
        ingress=[rule("Deny", 80), rule("Allow")], egress=[rule("Deny", 90), rule("Allow")],
    )  # fmt: skip
    await cluster.apply(*open_endpoint(interface), forward)
    await cluster.expect({80: False, 81: True}, cluster.outside, cluster.server)
    await cluster.expect({90: False, 91: True}, cluster.client, cluster.outside)
    await cluster.expect(
        {80: True, 90: True}, cluster.client, cluster.server
    )  # touches no interface of the node's own
    await cluster.expect({80: False, 81: True}, cluster.outside, cluster.node)
    await cluster.expect({90: False}, cluster.node, cluster.outside)
    # Without the flag it is the node's own traffic alone.
    await cluster.apply(global_policy("f", selector=HOST, ingress=[rule("Deny", 80), rule("Allow")]))
    await cluster.expect({80: True}, cluster.outside, cluster.server)
    await cluster.expect({80: False}, cluster.outside, cluster.node)
    # The pod's own policy holds as well: both have to allow.
    await cluster.apply(
        global_policy(
            "f", selector=HOST, applyOnForward=True, ingress=[rule("Allow", 80), rule("Allow", 81)]
        ),
        network_policy("pod", selector="role == 'server'", ingress=[rule("Allow", 81), rule("Allow", 82)]),
    )
    await cluster.expect({80: False, 81: True, 82: False}, cluster.outside, cluster.server)


async def test_before_translation_deny_then_a_pinhole(cluster: PolicyCluster) -> None:
    """For who comes from outside; a pod that uses the same node port meets no interface of the node's."""
    for family, address in (("ip", cluster.server.v4), ("ip6", f"[{cluster.server.v6}]")):
        cluster.world.run(
            "nft",
            f"table {family} services {{ chain pre {{ type nat hook prerouting priority -100; policy accept;\n"
            f"udp dport {NODE_PORT} dnat to {address}:80\n}}\n}}",
        )

    async def node_port(*, outside: bool, client: bool) -> None:
        for version in (4, 6):
            for source, wanted in ((cluster.outside, outside), (cluster.client, client)):
                seen = await cluster.passes(to(NODE_PORT, version), source, cluster.node, at=cluster.server)
                assert seen == wanted, (source, version)

    await cluster.apply(*open_endpoint("*"))
    await node_port(outside=True, client=True)
    deny = global_policy(
        "deny",
        order=20,
        selector=HOST,
        preDNAT=True,
        applyOnForward=True,
        types=["Ingress"],
        ingress=[rule("Deny")],
    )
    await cluster.apply(deny)
    await node_port(outside=False, client=True)
    await cluster.expect({80: False}, cluster.outside, cluster.server)
    await cluster.expect({22: True}, cluster.outside, cluster.node, protocol="TCP")
    pinhole = global_policy(
        "pinhole", order=10, selector=HOST, preDNAT=True, applyOnForward=True, types=["Ingress"],
        ingress=[rule("Allow", NODE_PORT)],
    )  # fmt: skip
    await cluster.apply(pinhole)
    await node_port(outside=True, client=True)
    await cluster.expect({80: False}, cluster.outside, cluster.server)
    # The pod's policy sees the packet as it is after translation.
    await cluster.apply(
        network_policy("pod", selector="role == 'server'", ingress=[rule("Allow", NODE_PORT)])
    )
    await node_port(outside=False, client=False)
    await cluster.apply(network_policy("pod", selector="role == 'server'", ingress=[rule("Allow", 80)]))
    await node_port(outside=True, client=True)


async def test_what_is_not_tracked_in_both_directions(cluster: PolicyCluster) -> None:
    """An answer needs a rule of its own, for no connection is known."""

    def untracked(ingress: list[dict[str, Any]], egress: list[dict[str, Any]]) -> dict[str, Any]:
        return global_policy(
            "u",
            selector=HOST,
            doNotTrack=True,
            applyOnForward=True,
            types=BOTH,
            ingress=ingress,
            egress=egress,
        )

    answer = {"action": "Allow", "protocol": "UDP", "source": {"ports": [80]}}
    await cluster.apply(host_endpoint(), untracked([rule("Allow", 80), rule("Deny", 22, "TCP")], []))
    for version in (4, 6):
        request, reply = to(80, version, source=41000), to(41000, version, source=80)
        assert await cluster.passes(request, cluster.outside, cluster.node)
        assert not cluster.flows.flows(version, cluster.node.address(version)), "it is not tracked"
        assert not await cluster.passes(reply, cluster.node, cluster.outside, new_flow=False)
    await cluster.apply(untracked([rule("Allow", 80)], [answer, rule("Allow", 90)]))
    for version in (4, 6):
        request, reply = to(80, version, source=41000), to(41000, version, source=80)
        assert await cluster.passes(request, cluster.outside, cluster.node)
        assert await cluster.passes(reply, cluster.node, cluster.outside, new_flow=False)
        assert not cluster.flows.flows(version, cluster.node.address(version)), "it is not tracked"
        assert await cluster.passes(to(90, version), cluster.node, cluster.outside)
        assert not await cluster.passes(to(91, version), cluster.node, cluster.outside)
    await cluster.expect({81: False}, cluster.outside, cluster.node)
    await cluster.expect({22: True}, cluster.outside, cluster.node, protocol="TCP")  # fail-safe


async def test_a_node_always_reaches_its_own_pods(cluster: PolicyCluster) -> None:
    closed = global_policy("closed", selector="all()", types=BOTH, order=1)
    await cluster.apply(host_endpoint("*"), closed)
    await cluster.expect({80: True}, cluster.node, cluster.server)
    await cluster.expect({80: True}, cluster.node, cluster.client, protocol="TCP")
    for version in (4, 6):
        assert await cluster.passes(echo(version), cluster.node, cluster.server)
        request, reply = to(80, version, source=42000), to(42000, version, source=80)
        assert await cluster.passes(request, cluster.node, cluster.server)
        assert await cluster.passes(reply, cluster.server, cluster.node, new_flow=False), (
            "and hears the answer"
        )
    await cluster.expect({80: False}, cluster.client, cluster.server)
    await cluster.expect({80: False}, cluster.outside, cluster.server)


async def test_a_foreign_chain_that_drops_keeps_the_last_word(cluster: PolicyCluster) -> None:
    """Scenario 29, as nftables has it: to accept ends our own chains alone. We open nothing that the machine's owner closed,
    and touch no rule of theirs."""
    foreign = "table ip firewall { chain forward { type filter hook forward priority 10; policy drop;\n }\n }"
    await cluster.apply(network_policy("p", selector="role == 'server'", ingress=[rule("Allow", 80)]))
    await cluster.expect({80: True, 81: False}, versions=[4])
    cluster.world.run("nft", foreign)
    before = cluster.world.run("nft", "list", "table", "ip", "firewall")
    assert not (await cluster.plane.resync()).failed
    sent = to(80)
    with pytest.raises(AssertionError, match="neither arrived nor was dropped by a rule that counts"):
        await cluster.passes(sent)
    assert await cluster.passes(to(80, 6))
    assert cluster.world.run("nft", "list", "table", "ip", "firewall") == before
    cluster.world.run("nft", "delete table ip firewall")
    await cluster.expect({80: True, 81: False}, versions=[4])


async def test_host_ports(cluster: PolicyCluster) -> None:
    """A port of the node that leads to a pod, as the plugin portmap makes it: the pod's policy decides, by the pod's port."""
    cluster.world.run(
        "nft", "table ip hostports { chain pre { type nat hook prerouting priority -100; policy accept;\n"
        f"udp dport 8080 fib daddr type local dnat to {cluster.server.v4}:80\n}}\n"
        "chain out { type nat hook output priority -100; policy accept;\n"
        f"udp dport 8080 fib daddr type local dnat to {cluster.server.v4}:80\n}}\n}}",
    )  # fmt: skip
    port = to(8080)

    async def reached(**expected: bool) -> None:
        for name, wanted in expected.items():
            source = getattr(cluster, name)
            assert await cluster.passes(port, source, cluster.node, at=cluster.server) == wanted, name

    await reached(outside=True, client=True, node=True)
    allowed = {"action": "Allow", "protocol": "UDP", "source": {"selector": "role == 'client'"}}
    await cluster.apply(
        network_policy(
            "p", selector="role == 'server'", ingress=[{**allowed, "destination": {"ports": [80]}}]
        )
    )
    await reached(outside=False, client=True, node=True)
    await cluster.apply(
        network_policy(
            "p", selector="role == 'server'", ingress=[{**allowed, "destination": {"ports": [8080]}}]
        )
    )
    await reached(outside=False, client=False, node=True)
    await cluster.apply(network_policy("p", selector="role == 'server'", ingress=[rule("Allow", 80)]))
    await reached(outside=True, client=True, node=True)
    # A HostEndpoint guards the node, not what is led on to a pod.
    await cluster.apply(host_endpoint())
    await reached(outside=True, client=True, node=True)
