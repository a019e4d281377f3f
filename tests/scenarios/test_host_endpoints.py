"""State lists for host endpoints: which policies guard the node's own interfaces, and for which traffic."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.build import document, endpoint, node, profile
from tests.scenarios.policies import HERE, OPEN, applied, gnp, in_tier, policy
from tests.scenarios.states import EMPTY, WAYS, Run, Way
from tortie.desired.host_endpoints import HOST_ENDPOINTS, HostEndpointRow
from tortie.desired.policies import POLICIES, PROFILES, AppliedPolicies, PolicyRow
from tortie.net.addresses import Address
from tortie.resources.resource import Resource

HEP = """
kind: HostEndpoint
metadata: {name: eth, labels: {role: edge}}
spec: {node: n1, interfaceName: eth0, expectedIPs: [172.30.0.11], profiles: [open]}
"""
GUARDED = EMPTY.then("a host endpoint", document(HEP), profile("open"), node("n1", "172.30.0.11/24"))
ON_HOST = ("open",)


def guarded(**columns: AppliedPolicies) -> dict[str, HostEndpointRow]:
    plain = applied(profiles=ON_HOST)
    row = HostEndpointRow(
        interface="eth0",
        expected=(Address.parse("172.30.0.11"),),
        **{"ingress": plain, "egress": plain, **columns},
    )
    return {"eth": row}


def g(spec: str, name: str = "a", kind: str = "GlobalNetworkPolicy") -> Resource[Any]:
    return policy(name, f"selector: role == 'edge', {spec}", kind)


hosts = [
    GUARDED.holds(HOST_ENDPOINTS, guarded()).holds(PROFILES, {"open": OPEN}),
    GUARDED.then("its own traffic", g("types: [Ingress, Egress]")).holds(
        HOST_ENDPOINTS,
        guarded(
            ingress=applied(in_tier("default", gnp("a")), profiles=ON_HOST),
            egress=applied(in_tier("default", gnp("a")), profiles=ON_HOST),
        ),
    ),
    GUARDED.then("and what it forwards", g("types: [Egress], applyOnForward: true")).holds(
        HOST_ENDPOINTS,
        guarded(
            egress=applied(in_tier("default", gnp("a")), profiles=ON_HOST),
            forward_egress=applied(in_tier("default", gnp("a")), profiles=()),
        ),
    ),
    GUARDED.then(
        "untracked, and before translation",
        g("types: [Ingress, Egress], applyOnForward: true, doNotTrack: true"),
        g("applyOnForward: true, preDNAT: true", "b"),
        g("", "s", "StagedGlobalNetworkPolicy"),
    ).holds(
        HOST_ENDPOINTS,
        guarded(
            ingress=applied(
                in_tier("default", gnp("s", "StagedGlobalNetworkPolicy"), end="Pass"), profiles=ON_HOST
            ),
            untracked_ingress=applied(in_tier("default", gnp("a"), end="Pass"), profiles=()),
            untracked_egress=applied(in_tier("default", gnp("a"), end="Pass"), profiles=()),
            pre_dnat=applied(in_tier("default", gnp("b"), end="Pass"), profiles=()),
        ),
    ),
    GUARDED.then("preDNAT for egress", g("preDNAT: true, types: [Egress]"))
    .holds(HOST_ENDPOINTS, guarded())
    .reports("GlobalNetworkPolicy a: spec.preDNAT"),
    GUARDED.then("another node's", document(HEP.replace("n1", "n2")))
    .holds(HOST_ENDPOINTS, {})
    .holds(PROFILES, {}),
    GUARDED.then(
        "every interface", document(HEP.replace("eth0", "'*'").replace("[172.30.0.11]", "[]"))
    ).holds(
        HOST_ENDPOINTS,
        {
            "eth": HostEndpointRow(
                interface="*", ingress=applied(profiles=ON_HOST), egress=applied(profiles=ON_HOST)
            )
        },
    ),
    GUARDED.then("nonsense", document(HEP.replace("172.30.0.11", "172.30.0.x")))
    .holds(HOST_ENDPOINTS, {})
    .reports("HostEndpoint eth: "),
    GUARDED.then("beside an unlabelled pod", endpoint("n1", "web", "10.77.0.1/32"), g("")).holds(
        POLICIES, {gnp("a"): PolicyRow(tier="default")}
    ),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_states(way: Way) -> None:
    way(Run(HERE), hosts)
