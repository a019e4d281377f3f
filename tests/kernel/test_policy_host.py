"""HostEndpoints: what guards the node itself and what is routed through it, at every place of a packet's way."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from tests.kernel.dataplane_world import NODE_V4, RETURN, UNPOLICED, applied, eventually
from tests.kernel.policy_world import ICMP, ICMPV6, TCP, UDP, Packet, PolicyWorld
from tests.kernel.test_policy_order import key, on, row, tier
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.policies import AppliedPolicies
from tortie.desired.settings import FailsafePort
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Address, Interface, Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
V4_AND_V6 = (4, 6)


def to(port: int, version: int = 4, protocol: int = UDP) -> Packet:
    return Packet(protocol, (40002, port), version)


def walk(*policies: str, default: Any = "Deny") -> AppliedPolicies:
    return AppliedPolicies(tiers=(tier("t", *policies, default=default),))


async def guard(policy: PolicyWorld, rows: dict[str, HostEndpointRow], **more: Any) -> None:
    await applied(policy.plane, policy.world.flush(hosts=rows, **more))


async def test_a_named_interface_without_policy_blocks_all_but_fail_safe_ports(policy: PolicyWorld) -> None:
    await guard(policy, {"eth0": HostEndpointRow(interface="eth0")})
    for version in V4_AND_V6:
        assert not await policy.passes(to(80, version), policy.outside, policy.node)
        assert await policy.passes(to(22, version, TCP), policy.outside, policy.node)
        assert not await policy.passes(to(22, version), policy.outside, policy.node), "UDP is not TCP"
        assert not await policy.passes(to(80, version), policy.node, policy.outside)
        assert await policy.passes(to(53, version), policy.node, policy.outside)
        # What is routed through is not its business, and the node's own pods neither.
        assert await policy.passes(to(80, version), policy.outside, policy.server)
        assert await policy.passes(to(80, version), policy.client, policy.outside)
        assert await policy.passes(to(80, version), policy.node, policy.server)
        assert await policy.passes(to(80, version), policy.client, policy.node)
    await guard(policy, {}, gone_hosts=["eth0"])
    assert await policy.passes(to(80), policy.outside, policy.node)


async def test_fail_safe_ports_can_be_named(policy: PolicyWorld) -> None:
    net = FailsafePort(UDP, 81, Prefix.parse("192.0.2.2/32"))
    far = FailsafePort(UDP, 82, Prefix.parse("203.0.113.0/24"))
    settings = dataclasses.replace(
        RETURN, failsafe_inbound=(FailsafePort(UDP, 80), net, far), failsafe_outbound=()
    )
    await guard(policy, {"eth0": HostEndpointRow(interface="eth0")}, settings=settings)
    for port, passes in ((80, True), (81, True), (82, False)):
        assert await policy.passes(to(port), policy.outside, policy.node) == passes, port
    assert await policy.passes(to(80, 6), policy.outside, policy.node)
    assert not await policy.passes(to(81, 6), policy.outside, policy.node)
    assert not await policy.passes(to(22, 4, TCP), policy.outside, policy.node)
    assert not await policy.passes(to(53), policy.node, policy.outside)


async def test_policies_and_profiles_of_the_node_itself(policy: PolicyWorld) -> None:
    rows = {key("in"): row("t", on("Allow", 80), on("Deny", 81)), key("out"): row("t", on("Allow", 90))}
    guarded = HostEndpointRow(interface="eth0", ingress=walk("in"), egress=walk("out"))
    await guard(policy, {"eth0": guarded}, policies=rows)
    for version in V4_AND_V6:
        for port, passes in ((80, True), (81, False), (82, False)):
            assert await policy.passes(to(port, version), policy.outside, policy.node) == passes
        assert await policy.passes(to(90, version), policy.node, policy.outside)
        assert not await policy.passes(to(91, version), policy.node, policy.outside)
        echo = Packet(ICMP if version == 4 else ICMPV6, (8 if version == 4 else 128, 0), version)
        assert not await policy.passes(echo, policy.outside, policy.node)
    await guard(policy, {"eth0": HostEndpointRow(interface="eth0", ingress=UNPOLICED, egress=UNPOLICED)})
    assert await policy.passes(to(82), policy.outside, policy.node)
    assert await policy.passes(to(91), policy.node, policy.outside)


async def test_neighbours_are_found_whatever_policy_says(policy: PolicyWorld) -> None:
    guarded = HostEndpointRow(
        interface="eth0", ingress=walk("no"), egress=walk("no"), untracked_ingress=walk("no"),
        untracked_egress=walk("no"), pre_dnat=walk("no"),
    )  # fmt: skip
    await guard(policy, {"eth0": guarded}, policies={key("no"): row("t", on("Deny"))})
    policy.world.run("ip", "-6", "neigh", "flush", "dev", "eth0", where=policy.world.outside)
    policy.world.run("ip", "-6", "neigh", "flush", "dev", "eth0")
    assert await policy.passes(to(22, 6, TCP), policy.outside, policy.node)


async def test_all_interfaces_but_workloads_and_those_that_are_named(policy: PolicyWorld) -> None:
    _second_uplink(policy)
    rows = {key("in"): row("t", on("Allow", 80)), key("other"): row("t", on("Allow", 81))}
    all_of_them = HostEndpointRow(interface="*", ingress=walk("in"), egress=walk("in"))
    await guard(policy, {"all": all_of_them}, policies=rows)
    second = dataclasses.replace(policy.node, v4=Address.parse("198.51.100.1"), v6=policy.node.v6)
    far = dataclasses.replace(policy.outside, v4=Address.parse("198.51.100.2"), v6=policy.outside.v6)
    for there, here in ((policy.outside, policy.node), (far, second)):
        assert await policy.passes(to(80), there, here)
        assert not await policy.passes(to(81), there, here)
    assert await policy.passes(to(81), policy.client, policy.node), "from a workload"
    assert await policy.passes(to(81), policy.node, policy.server), "to a workload"
    named = HostEndpointRow(interface="eth1", ingress=walk("other"))
    await guard(policy, {"named": named}, policies=rows)
    assert await policy.passes(to(81), far, second)
    assert not await policy.passes(to(80), far, second)
    assert await policy.passes(to(80), policy.outside, policy.node)


async def test_an_interface_is_known_by_the_addresses_that_it_carries(policy: PolicyWorld) -> None:
    drift: list[str] = []
    policy.plane.on_drift = drift.append
    _second_uplink(policy)
    rows = {key("in"): row("t", on("Allow", 80))}
    expecting = HostEndpointRow(interface="", expected=(NODE_V4,), ingress=walk("in"))
    await guard(policy, {"by-address": expecting}, policies=rows)
    second = dataclasses.replace(policy.node, v4=Address.parse("198.51.100.1"))
    far = dataclasses.replace(policy.outside, v4=Address.parse("198.51.100.2"))
    assert not await policy.passes(to(81), policy.outside, policy.node)
    assert await policy.passes(to(81), far, second)
    drift.clear()
    with RouteSocket(policy.world.node) as routes:
        eth0, eth1 = routes.need_link("eth0").index, routes.need_link("eth1").index
        routes.add_address(eth1, Interface(NODE_V4, 32))
        await eventually(lambda: drift, wait=asyncio.sleep)
        assert not (await policy.plane.resync()).failed
        assert not await policy.passes(to(81), far, second)
        routes.delete_address(eth1, Interface(NODE_V4, 32))
        assert eth0
    assert not (await policy.plane.resync()).failed
    assert await policy.passes(to(81), far, second)


async def test_policy_that_applies_on_forward(policy: PolicyWorld) -> None:
    rows = {
        key("in"): row("t", on("Deny", 80), on("Pass", 81)),
        key("out"): row("t", on("Deny", 90), on("Allow", 91)),
    }
    guarded = HostEndpointRow(
        interface="eth0",
        ingress=UNPOLICED,
        egress=UNPOLICED,
        forward_ingress=walk("in"),
        forward_egress=walk("out", default="Pass"),
    )
    await guard(policy, {"eth0": guarded}, policies=rows)
    for version in V4_AND_V6:
        for port, passes in ((80, False), (81, True), (82, False)):
            assert await policy.passes(to(port, version), policy.outside, policy.server) == passes
        for port, passes in ((90, False), (91, True), (92, True)):
            assert await policy.passes(to(port, version), policy.client, policy.outside) == passes
        assert not await policy.passes(to(22, version, TCP), policy.outside, policy.server), (
            "no fail-safe ports"
        )
        assert await policy.passes(to(80, version), policy.outside, policy.node), "the node's own"
        assert await policy.passes(to(90, version), policy.client, policy.server), "between pods"
        closed = AppliedPolicies()
        endpoints = {policy.server.key: policy.server.row(ingress=closed)}
        await applied(policy.plane, policy.world.flush(endpoints=endpoints))
        assert not await policy.passes(to(81, version), policy.outside, policy.server), (
            "the pod's own policy holds"
        )
        await applied(policy.plane, policy.world.flush(policy.server))


async def test_policy_before_the_destination_is_translated(policy: PolicyWorld) -> None:
    policy.world.run(
        "nft", "table ip services { chain prerouting { type nat hook prerouting priority -100; policy accept;\n"
        f" udp dport 30080 dnat to {policy.server.v4}:80\n }} \n}}",
    )  # fmt: skip
    rows = {
        key("pinhole"): row("t", on("Allow", 30080), on("Allow", 70)),
        key("rest"): row("t", on("Deny", 30080), on("Deny", 71)),
        key("none"): row("t"),
    }
    closed = HostEndpointRow(interface="eth0", ingress=UNPOLICED, pre_dnat=walk("rest"))
    await guard(policy, {"eth0": closed}, policies=rows)
    service = to(30080)
    assert not await policy.passes(service, policy.outside, policy.node, at=policy.server)
    assert not await policy.passes(to(71), policy.outside, policy.node)
    assert not await policy.passes(to(71), policy.outside, policy.server)
    assert await policy.passes(to(72), policy.outside, policy.server), "no tier denies at its end here"
    opened = dataclasses.replace(closed, pre_dnat=walk("pinhole", "rest"), ingress=walk("none"))
    await guard(policy, {"eth0": opened})
    assert await policy.passes(service, policy.outside, policy.node, at=policy.server)
    assert await policy.passes(to(70), policy.outside, policy.node), "what it allows is allowed for good"
    assert not await policy.passes(to(72), policy.outside, policy.node), "the rest is the node's own policy's"
    assert await policy.passes(to(22, 4, TCP), policy.outside, policy.node)


@pytest.mark.parametrize("interface", ["eth0", "*"])
async def test_policy_without_conntrack(policy: PolicyWorld, interface: str) -> None:
    """At all interfaces, too, where Calico leaves it out."""
    rows = {
        key("in"): row("t", on("Allow", 80), on("Deny", 81)),
        key("out"): row("t", on("Allow", 90), on("Deny", 22)),
        key("none"): row("t"),
    }
    guarded = HostEndpointRow(
        interface=interface,
        ingress=walk("none"),
        egress=walk("none"),
        untracked_ingress=walk("in"),
        untracked_egress=walk("out"),
    )
    await guard(policy, {"guard": guarded}, policies=rows)
    for version in V4_AND_V6:
        policy.flows.flush({policy.node.address(version)})
        assert await policy.passes(to(80, version), policy.outside, policy.node)
        assert not policy.flows.flows(version, policy.node.address(version)), "it is not tracked"
        assert not await policy.passes(to(81, version), policy.outside, policy.node)
        assert not await policy.passes(to(82, version), policy.outside, policy.node), (
            "then the node's own policy"
        )
        assert await policy.passes(to(90, version), policy.node, policy.outside)
        assert not await policy.passes(to(91, version), policy.node, policy.outside)
        # Fail-safe ports, and their answers, pass untracked policy by.
        assert await policy.passes(to(22, version, TCP), policy.outside, policy.node)
        assert not await policy.passes(to(22, version), policy.node, policy.outside)
        answer = Packet(TCP, (22, 40003), version)
        assert not await policy.passes(answer, policy.node, policy.outside), (
            "the node's own policy still stands"
        )


async def test_workload_to_host_is_the_endpoint_to_host_actions(policy: PolicyWorld) -> None:
    """Whatever HostEndpoints say."""
    guarded = HostEndpointRow(interface="*", ingress=walk("no"))
    rows = {key("no"): row("t", on("Deny"))}
    await guard(policy, {"all": guarded}, policies=rows)
    assert await policy.passes(to(80), policy.client, policy.node)
    await applied(
        policy.plane, policy.world.flush(settings=dataclasses.replace(RETURN, endpoint_to_host_action="Drop"))
    )
    for version in V4_AND_V6:
        assert not await policy.passes(to(80, version), policy.client, policy.node)
    await applied(
        policy.plane,
        policy.world.flush(settings=dataclasses.replace(RETURN, endpoint_to_host_action="Accept")),
    )
    assert await policy.passes(to(80), policy.client, policy.node)
    endpoints = {policy.client.key: policy.client.row(egress=walk("no"))}
    await applied(policy.plane, policy.world.flush(endpoints=endpoints))
    assert not await policy.passes(to(80), policy.client, policy.node)


def _second_uplink(policy: PolicyWorld) -> None:
    world = policy.world
    world.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", world.outside)
    for where, address in ((world.node, "198.51.100.1/24"), (world.outside, "198.51.100.2/24")):
        world.run("ip", "addr", "add", address, "dev", "eth1", where=where)
        world.run("ip", "link", "set", "eth1", "up", where=where)
