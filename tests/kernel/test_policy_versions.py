"""Policy where not everybody has addresses of both IP versions: it stands in a table with the first and goes with the last."""

from __future__ import annotations

import dataclasses

import pytest

from tests.kernel.dataplane_world import RETURN, applied, started
from tests.kernel.policy_world import UDP, Packet, Place, PolicyWorld
from tests.kernel.test_policy_order import key, on, row, tier
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.policies import AppliedPolicies, PolicyKey, PolicyRow
from tortie.net.addresses import Address

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")

SOME = AppliedPolicies(tiers=(tier("t", "some"),))
"""Port 80, not 81; the tier's end denies the rest."""
POLICIES: dict[PolicyKey, PolicyRow] = {key("some"): row("t", on("Allow", 80), on("Deny", 81, 1))}


def to(port: int, version: int) -> Packet:
    return Packet(UDP, (40002, port), version)


def tables(policy: PolicyWorld, chain: str) -> list[str]:
    """The IP versions' tables in which the chain stands."""
    return [
        family
        for family in ("ip", "ip6")
        if f"chain {chain} {{" in policy.world.run("nft", "list", "table", family, "tortie")
    ]


async def test_a_pod_gains_and_loses_addresses_of_a_version(policy: PolicyWorld) -> None:
    world, server = policy.world, policy.server
    chain = "ingress/GlobalNetworkPolicy/some"

    async def holds(*addresses: Address) -> None:
        rows = {server.key: server.row(addresses=addresses, ingress=SOME)}
        await applied(policy.plane, world.flush(endpoints=rows, policies=POLICIES))
        for version, address in ((4, server.v4), (6, server.v6)):
            for port in (80, 81, 82):
                passes = port == 80 and address in addresses
                assert await policy.passes(to(port, version)) == passes, (port, version)

    await holds(server.v4)
    assert tables(policy, chain) == ["ip"]
    await holds(server.v4, server.v6)
    assert tables(policy, chain) == ["ip", "ip6"]
    counted = [
        (row.name, row.decided_by, row.rule, row.packets) for row in await policy.plane.policy_counts()
    ]
    assert ("some", "rule", 0, 3) in counted, "both versions together, once"
    assert ("", "tier-end", None, 3) in counted

    await policy.plane.close()
    policy.plane = await started(world)
    everything = world.flush(
        policy.client,
        settings=RETURN,
        endpoints={server.key: server.row(ingress=SOME)},
        routes=server.routes(),
        policies=POLICIES,
    )
    await applied(policy.plane, everything)
    assert policy.plane.kernel_writes == 0, "a new agent finds all as it wants it"

    await holds(server.v6)
    assert tables(policy, chain) == ["ip6"]
    await holds()
    assert not tables(policy, chain)
    await holds(server.v4)
    assert tables(policy, chain) == ["ip"]


async def test_sources_of_a_version_of_which_a_pod_has_no_address_meet_its_policy(
    policy: PolicyWorld,
) -> None:
    world, client, server = policy.world, policy.client, policy.server
    own, other = Address.parse("2001:db8:5::1"), Address.parse("2001:db8:6::1")
    row = client.row(addresses=(client.v4,), allowed_sources=(own.prefix.supernet(64),), egress=SOME)
    settings = dataclasses.replace(RETURN, source_spoofing="Any")
    await applied(
        policy.plane, world.flush(settings=settings, endpoints={client.key: row}, policies=POLICIES)
    )
    for source, port, passes in ((own, 80, True), (own, 81, False), (other, 80, False)):
        sender = Place(client.namespace, client.v4, source)
        assert await policy.passes(to(port, 6), sender, server) == passes, (source, port)
    await applied(policy.plane, world.flush(settings=RETURN))
    assert not await policy.passes(to(80, 6), Place(client.namespace, client.v4, own), server)
    assert tables(policy, "egress/GlobalNetworkPolicy/some") == ["ip"]


async def test_a_node_is_guarded_in_both_versions_whatever_its_pods_have(policy: PolicyWorld) -> None:
    world = policy.world
    pods = (policy.client, policy.server)
    rows = {pod.key: pod.row(addresses=(pod.v4,)) for pod in pods}
    none = AppliedPolicies(tiers=(tier("t", "none", default="Pass"),))
    guarded = HostEndpointRow(
        interface="eth0",
        ingress=SOME,
        egress=SOME,
        forward_ingress=SOME,
        untracked_ingress=none,
        pre_dnat=none,
    )
    policies = {**POLICIES, key("none"): row("t", on("Deny", 83))}
    await applied(policy.plane, world.flush(endpoints=rows, policies=policies, hosts={"eth0": guarded}))
    for version in (4, 6):
        for port in (80, 81, 82, 83):
            passes = port == 80
            assert await policy.passes(to(port, version), policy.outside, policy.node) == passes
            assert await policy.passes(to(port, version), policy.node, policy.outside) == passes
    for port in (80, 81):
        assert await policy.passes(to(port, 4), policy.outside, policy.server) == (port == 80)
    await applied(policy.plane, world.flush(hosts={}, gone_hosts=["eth0"], gone_policies=[*policies]))
    assert not tables(policy, "ingress/GlobalNetworkPolicy/some")
