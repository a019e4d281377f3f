"""Scenarios 1 to 9, 19, 20: directions and types, which policy comes first, tiers, namespaces. From documents to packets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.kernel.policy_cluster import (
    PolicyCluster,
    endpoint,
    global_policy,
    network_policy,
    policy_cluster,
    profile,
    rule,
    v3,
)

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
SERVER = "role == 'server'"
BOTH = ("Ingress", "Egress")


@pytest.fixture
async def cluster(netns: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    async with policy_cluster(netns) as made:
        yield made


async def test_ingress_only(cluster: PolicyCluster) -> None:
    await cluster.apply(network_policy("p", selector=SERVER, types=["Ingress"], ingress=[rule("Allow", 80)]))
    await cluster.expect({80: True, 81: False})
    await cluster.expect({81: True}, cluster.server, cluster.client)
    await cluster.expect({81: True}, cluster.client, cluster.other)


async def test_egress_only(cluster: PolicyCluster) -> None:
    await cluster.apply(network_policy("p", selector=SERVER, types=["Egress"], egress=[rule("Allow", 80)]))
    await cluster.expect({80: True, 81: False}, cluster.server, cluster.client)
    await cluster.expect({80: True, 81: False}, cluster.server, cluster.outside)
    await cluster.expect({81: True}, cluster.client, cluster.server)
    await cluster.expect({81: True}, cluster.outside, cluster.server)


@pytest.mark.parametrize("types", [["Ingress"], ["Egress"]])
async def test_types_make_rules_inert(cluster: PolicyCluster, types: list[str]) -> None:
    rules: dict[str, Any] = {
        "ingress": [rule("Deny", 80), rule("Allow")],
        "egress": [rule("Deny", 80), rule("Allow")],
    }
    await cluster.apply(network_policy("p", selector=SERVER, types=types, **rules))
    await cluster.expect({80: types == ["Egress"], 81: True}, cluster.client, cluster.server)
    await cluster.expect({80: types == ["Ingress"], 81: True}, cluster.server, cluster.client)


async def test_absent_types_follow_from_the_rules(cluster: PolicyCluster) -> None:
    await cluster.apply(network_policy("p", selector=SERVER, egress=[rule("Allow", 80)]))
    await cluster.expect({81: True}, cluster.client, cluster.server)
    await cluster.expect({80: True, 81: False}, cluster.server, cluster.client)
    await cluster.apply(
        network_policy("p", selector=SERVER, ingress=[rule("Allow", 80)], egress=[rule("Allow", 80)])
    )
    await cluster.expect({80: True, 81: False}, cluster.client, cluster.server)
    await cluster.expect({80: True, 81: False}, cluster.server, cluster.client)


@pytest.mark.parametrize("spec", [{}, {"types": ["Ingress"]}, {"types": ["Ingress"], "ingress": []}])
async def test_an_empty_ingress_denies_all(cluster: PolicyCluster, spec: dict[str, Any]) -> None:
    await cluster.apply(network_policy("p", selector=SERVER, **spec))
    for protocol in ("UDP", "TCP", "SCTP"):
        await cluster.expect({80: False}, protocol=protocol)
    await cluster.expect({80: False}, cluster.outside, cluster.server)
    await cluster.expect({80: True}, cluster.server, cluster.client)
    await cluster.expect({80: True}, cluster.node, cluster.server)
    await cluster.delete("networkpolicy", "p", namespace="default")
    await cluster.expect({80: True})


async def test_policies_by_order_and_those_without_last(cluster: PolicyCluster) -> None:
    """The later written, and the earlier by name, come later by their orders."""
    await cluster.apply(
        global_policy("a", selector=SERVER, ingress=[rule("Deny", 80), rule("Deny", 81), rule("Deny", 82)]),
        global_policy("c", selector=SERVER, order=-2.5, ingress=[rule("Allow", 80)]),
        global_policy("b", selector=SERVER, order=10, ingress=[rule("Deny", 80), rule("Allow", 81)]),
    )
    await cluster.expect({80: True, 81: True, 82: False, 83: False})
    await cluster.apply(
        global_policy("c", selector=SERVER, order=11, ingress=[rule("Allow", 80)]),
    )
    await cluster.expect({80: False, 81: True})


@pytest.mark.parametrize("order", [None, 7])
async def test_a_tie_is_broken_by_name_then_namespace_then_kind(
    cluster: PolicyCluster, order: int | None
) -> None:
    """``a`` before ``b`` whatever they are; of one name the global one, whose namespace is empty, first."""
    tie: dict[str, Any] = {} if order is None else {"order": order}
    await cluster.apply(
        network_policy("a", selector=SERVER, ingress=[rule("Deny", 80), rule("Allow", 81)], **tie),
        global_policy("b", selector=SERVER, ingress=[rule("Allow", 80), rule("Deny", 81)], **tie),
        global_policy("c", selector=SERVER, ingress=[rule("Allow", 82)], **tie),
        network_policy("c", selector=SERVER, ingress=[rule("Deny", 82)], **tie),
    )
    await cluster.expect({80: False, 81: True, 82: True})


async def test_tiers_by_order_then_name_and_those_without_last(cluster: PolicyCluster) -> None:
    def tier(name: str, **order: int) -> dict[str, Any]:
        return v3("Tier", name, defaultAction="Pass", **order)

    def one(tier: str, *rules: dict[str, Any]) -> dict[str, Any]:
        return global_policy(f"{tier}.p", tier=tier, selector=SERVER, ingress=list(rules))

    await cluster.apply(
        tier("a-last"),
        tier("z-first", order=1),
        tier("m-same", order=5),
        tier("n-same", order=5),
        one("a-last", rule("Deny", 80), rule("Allow", 82)),
        one("z-first", rule("Allow", 80)),
        one("n-same", rule("Deny", 81), rule("Deny", 82)),
        one("m-same", rule("Allow", 81)),
    )
    await cluster.expect({80: True, 81: True, 82: False, 83: True})
    await cluster.apply(tier("z-first", order=5), tier("a-last", order=0), tier("m-same", order=6))
    await cluster.expect({80: False, 81: False, 82: True})


async def test_pass_leads_to_the_next_tier(cluster: PolicyCluster) -> None:
    await cluster.apply(
        v3("Tier", "first", order=1),
        global_policy(
            "first.p", tier="first", order=1, selector=SERVER, ingress=[rule("Pass", 80), rule("Pass", 81)]
        ),
        global_policy(
            "first.q", tier="first", order=2, selector=SERVER, ingress=[rule("Deny", 80), rule("Allow", 82)]
        ),
        network_policy("next", selector=SERVER, ingress=[rule("Allow", 80)]),
    )
    await cluster.expect({80: True, 81: False, 82: True, 83: False})
    await cluster.delete("networkpolicy", "next", namespace="default")
    await cluster.expect({80: True, 81: True, 83: False})


async def test_a_tiers_default_action(cluster: PolicyCluster) -> None:
    tier_policy = global_policy("first.p", tier="first", selector=SERVER, ingress=[rule("Deny", 80)])
    await cluster.apply(v3("Tier", "first", order=1, defaultAction="Pass"), tier_policy)
    await cluster.expect({80: False, 81: True})
    await cluster.apply(
        network_policy("next", selector=SERVER, ingress=[rule("Allow", 80), rule("Allow", 82)])
    )
    await cluster.expect({80: False, 81: False, 82: True})
    await cluster.apply(v3("Tier", "first", order=1, defaultAction="Deny"))
    await cluster.expect({82: False})


async def test_a_tier_of_staged_policies_denies_nothing(cluster: PolicyCluster) -> None:
    staged = [
        v3("StagedGlobalNetworkPolicy", "first.s", tier="first", selector=SERVER, ingress=[rule("Deny", 80)]),
        v3(
            "StagedNetworkPolicy",
            "first.t",
            "default",
            tier="first",
            selector=SERVER,
            ingress=[rule("Deny", 80)],
        ),
        v3("StagedKubernetesNetworkPolicy", "u", "default", podSelector={}, policyTypes=["Ingress"]),
    ]
    await cluster.apply(v3("Tier", "first", order=1), *staged)
    await cluster.expect({80: True, 81: True})
    real = global_policy("first.r", tier="first", selector=SERVER, ingress=[rule("Allow", 80)])
    await cluster.apply(real)
    await cluster.expect({80: True, 81: False})


async def test_endpoints_that_share_some_policies_keep_their_own_order(cluster: PolicyCluster) -> None:
    """What is common is one chain in the kernel; what stands between must not move."""
    await cluster.apply(
        global_policy("p1", order=1, selector="has(role)", ingress=[rule("Deny", 80)]),
        global_policy("p2", order=2, selector=SERVER, ingress=[rule("Allow", 81), rule("Allow", 82)]),
        global_policy("p3", order=3, selector="has(role)", ingress=[rule("Deny", 81)]),
        global_policy("p4", order=4, selector="role == 'other'", ingress=[rule("Deny", 82)]),
        global_policy("p5", order=5, selector="has(role)", ingress=[rule("Allow")]),
    )
    await cluster.expect({80: False, 81: True, 82: True, 83: True}, cluster.client, cluster.server)
    await cluster.expect({80: False, 81: False, 82: False, 83: True}, cluster.client, cluster.other)
    await cluster.expect({80: False, 81: False, 82: True, 83: True}, cluster.server, cluster.client)
    await cluster.apply(endpoint(cluster.other, {"role": "server"}))
    await cluster.expect({81: True, 82: True}, cluster.client, cluster.other)
    await cluster.apply(global_policy("p2", order=3.5, selector=SERVER, ingress=[rule("Allow", 81)]))
    await cluster.expect({81: False, 82: True}, cluster.client, cluster.other)


async def test_admin_default_and_baseline_tiers(cluster: PolicyCluster) -> None:
    """An administrator's rules come before the namespaces' own, and a baseline after them where they do not decide."""
    deny_all = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "own", "namespace": "default"},
        "spec": {
            "podSelector": {"matchLabels": {"role": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"protocol": "UDP", "port": port} for port in (80, 83)]}],
        },
    }
    await cluster.apply(
        v3("Tier", "admin", order=1000, defaultAction="Pass"),
        v3("Tier", "baseline", order=10_000_000, defaultAction="Pass"),
        global_policy(
            "admin.p",
            tier="admin",
            selector=SERVER,
            ingress=[rule("Deny", 80), rule("Allow", 81), rule("Pass", 82)],
        ),
        global_policy(
            "baseline.p", tier="baseline", selector="has(role)", ingress=[rule("Deny", 82), rule("Deny", 84)]
        ),
    )
    await cluster.expect({80: False, 81: True, 82: False, 84: False, 85: True})
    await cluster.apply(deny_all)
    await cluster.expect({80: False, 81: True, 82: False, 83: True, 85: False})
    await cluster.expect({82: False, 85: True}, cluster.client, cluster.other)
    await cluster.delete("kubernetesnetworkpolicy", "own", namespace="default")
    await cluster.expect({82: False, 85: True})


async def test_namespaces_are_isolated_and_accounts_selected(cluster: PolicyCluster) -> None:
    await cluster.apply(
        profile("kns.blue", {"pcns.team": "b", "pcns.projectcalico.org/name": "blue"}),
        profile("ksa.blue.reader", {"pcsa.projectcalico.org/name": "reader", "pcsa.can": "read"}),
        endpoint(cluster.other, {"role": "other"}, namespace="blue", account="reader"),
    )
    await cluster.delete("workloadendpoint", "node1-k8s-pod3-eth0", namespace="default")
    await cluster.expect({80: True}, cluster.other, cluster.server)  # by default all is allowed
    own = {"action": "Allow", "source": {"selector": "all()"}}
    await cluster.apply(network_policy("own", ingress=[own]))
    await cluster.expect({80: True}, cluster.client, cluster.server)
    await cluster.expect({80: False}, cluster.other, cluster.server)
    await cluster.expect({80: False}, cluster.outside, cluster.server)
    await cluster.expect({80: True}, cluster.server, cluster.other)
    entities = (
        {"namespaceSelector": "team == 'b'"},
        {"namespaceSelector": "projectcalico.org/name == 'blue'", "selector": "role == 'other'"},
        {"namespaceSelector": "all()", "serviceAccounts": {"names": ["reader"]}},
        {"namespaceSelector": "all()", "serviceAccounts": {"selector": "can == 'read'"}},
    )
    for entity in entities:
        await cluster.apply(network_policy("own", ingress=[own, {"action": "Allow", "source": entity}]))
        await cluster.expect({80: True}, cluster.other, cluster.server)
        await cluster.expect({80: False}, cluster.outside, cluster.server)
    # An account of another namespace is another account.
    foreign = {"action": "Allow", "source": {"serviceAccounts": {"names": ["reader"]}}}
    await cluster.apply(network_policy("own", ingress=[own, foreign]))
    await cluster.expect({80: False}, cluster.other, cluster.server)
    # Policies of accounts and namespaces: who is selected.
    await cluster.delete("networkpolicy", "own", namespace="default")
    await cluster.apply(
        network_policy("by-account", namespace="blue", serviceAccountSelector="can == 'read'")
    )
    await cluster.expect({80: False}, cluster.client, cluster.other)
    await cluster.expect({80: True}, cluster.client, cluster.server)
    await cluster.delete("networkpolicy", "by-account", namespace="blue")
    await cluster.apply(global_policy("by-namespace", namespaceSelector="team == 'a'", types=list(BOTH)))
    await cluster.expect({80: False}, cluster.client, cluster.server)
    await cluster.expect({80: True}, cluster.outside, cluster.other)
