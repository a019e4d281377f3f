"""What stands between two ends: pods, nodes, HostEndpoints with each of their hooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.verdict.rows import (
    ALLOW,
    CLIENT,
    DENY,
    SERVER,
    A,
    B,
    applied,
    endpoint,
    packet,
    policy,
    ports,
    rule,
    state,
    tier,
)
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.policies import ProfileRow
from tortie.desired.settings import FailsafePort, SettingsRow
from tortie.net.addresses import Address, Prefix
from tortie.verdict.journey import Journey, Traveller, Whereabouts
from tortie.verdict.packet import TCP, UDP, Packet

ONE, TWO, WORLD = (Address.parse(text) for text in ("172.30.0.1", "172.30.0.2", "198.51.100.7"))
OPEN = applied(profiles=("kns.shop",))
SHUT = applied(tier("deny"))
POLICIES = {
    "deny": policy(DENY, egress=(DENY,)),
    "allow": policy(ALLOW, egress=(ALLOW,)),
    "443": policy(rule(destination=ports(443)), egress=(rule(destination=ports(443)),)),
}
PROFILES = {"kns.shop": ProfileRow(ingress=(ALLOW,), egress=(ALLOW,))}


def journey(
    asked: Packet,
    *,
    client: Any = OPEN,
    server: Any = OPEN,
    server_on: str = "two",
    settings: SettingsRow | None = None,
    one: HostEndpointRow | None = None,
    two: HostEndpointRow | None = None,
    sets: dict[str, list[str]] | None = None,
    established: bool = False,
) -> Journey:
    hosts = {name: row for name, row in (("one-hep", one), ("two-hep", two)) if row is not None}
    rows = state(
        policies=POLICIES,
        profiles=PROFILES,
        endpoints={
            CLIENT: endpoint(A, ingress=client, egress=client),
            SERVER: endpoint(B, ingress=server, egress=server),
        },
        hosts=hosts,
        sets=sets,
        settings=settings,
    )
    where = Whereabouts(
        pods={CLIENT: "one", SERVER: server_on},
        host_endpoints={"one-hep": "one", "two-hep": "two"},
        nodes={"one": (ONE,), "two": (TWO,)},
    )
    return Traveller(rows, where, established=established).journey(asked)


def ends(found: Journey) -> tuple[Any, ...]:
    return (
        found.verdict,
        (found.egress.verdict, found.egress.decided_by),
        (found.ingress.verdict, found.ingress.decided_by),
    )


BY_PROFILE, NOBODY = ("allow", "profile"), (None, None)


def test_pod_to_pod() -> None:
    assert ends(journey(packet())) == ("allow", BY_PROFILE, BY_PROFILE)
    assert ends(journey(packet(), client=SHUT)) == ("deny", ("deny", "rule"), BY_PROFILE)
    assert ends(journey(packet(), server=SHUT)) == ("deny", BY_PROFILE, ("deny", "rule"))
    assert ends(journey(packet(), server=applied())) == ("deny", BY_PROFILE, ("deny", "no-profile"))
    found = journey(packet())
    assert (found.egress.endpoint, found.ingress.endpoint) == ("shop/client", "shop/server")


def test_a_pod_reaches_itself() -> None:
    found = journey(packet(A, A), client=SHUT)
    assert ends(found) == ("allow", NOBODY, NOBODY)
    assert "itself" in found.egress.reason


def test_outside_nobody_polices() -> None:
    assert ends(journey(packet(A, WORLD))) == ("allow", BY_PROFILE, NOBODY)
    assert ends(journey(packet(WORLD, B), server=SHUT)) == ("deny", NOBODY, ("deny", "rule"))
    assert ends(journey(packet(WORLD, WORLD))) == ("allow", NOBODY, NOBODY)


@pytest.mark.parametrize("action", ["Drop", "Return", "Accept"])
def test_a_pod_to_its_own_node(action: Any) -> None:
    settings = SettingsRow(endpoint_to_host_action=action)
    guarded = HostEndpointRow(interface="*", ingress=SHUT)
    found = journey(packet(A, ONE), settings=settings, one=guarded)
    verdict = "deny" if action == "Drop" else "allow"
    assert ends(found) == (verdict, BY_PROFILE, (verdict, "host"))
    assert action in found.ingress.reason
    assert ends(journey(packet(A, ONE), client=SHUT, settings=settings))[1] == ("deny", "rule")


def test_a_node_always_reaches_its_own_pods() -> None:
    guarded = HostEndpointRow(interface="*", ingress=SHUT, egress=SHUT, forward_egress=SHUT)
    assert ends(journey(packet(ONE, A), client=SHUT, one=guarded)) == ("allow", NOBODY, ("allow", "host"))
    found = journey(packet(ONE, B), server=SHUT)
    assert ends(found) == ("deny", NOBODY, ("deny", "rule"))


def test_a_host_endpoint_without_policy_closes_all_but_the_failsafe_ports() -> None:
    guarded = HostEndpointRow(interface="eth0")
    assert ends(journey(packet(WORLD, TWO), two=guarded)) == ("deny", NOBODY, ("deny", "no-profile"))
    assert ends(journey(packet(WORLD, TWO, 22), two=guarded)) == ("allow", NOBODY, ("allow", "failsafe"))
    assert ends(journey(packet(ONE, WORLD, 443), one=guarded))[1] == ("deny", "no-profile")
    assert ends(journey(packet(ONE, WORLD, 2379), one=guarded))[1] == ("allow", "failsafe")
    dns = packet(ONE, WORLD, 53, protocol=UDP)
    assert ends(journey(dns, one=guarded))[1] == ("allow", "failsafe")
    assert journey(packet(WORLD, TWO), two=guarded).ingress.endpoint == "HostEndpoint two-hep"


def test_failsafe_ports_may_be_those_of_one_net() -> None:
    settings = SettingsRow(
        failsafe_inbound=(FailsafePort(TCP, 22, Prefix.parse("172.30.0.0/24")),), failsafe_outbound=()
    )
    guarded = HostEndpointRow(interface="eth0", ingress=SHUT)
    assert journey(packet(WORLD, TWO, 22), two=guarded, settings=settings).verdict == "deny"
    assert journey(packet(ONE, TWO, 22), two=guarded, settings=settings).verdict == "allow"


def test_what_is_forwarded_passes_without_a_policy_for_it() -> None:
    guarded = HostEndpointRow(interface="*", ingress=SHUT, egress=SHUT)
    found = journey(packet(), one=guarded, two=guarded)
    assert ends(found) == ("allow", BY_PROFILE, BY_PROFILE)


def test_forward_policy_is_asked_after_the_pods_and_before_the_pods() -> None:
    shut = HostEndpointRow(interface="*", forward_egress=SHUT, forward_ingress=SHUT)
    found = journey(packet(), one=shut)
    assert ends(found) == ("deny", ("deny", "rule"), BY_PROFILE)
    assert found.egress.endpoint == "HostEndpoint one-hep"
    assert [step.endpoint for step in found.egress.steps] == ["shop/client", "HostEndpoint one-hep"]
    assert ends(journey(packet(), two=shut)) == ("deny", BY_PROFILE, ("deny", "rule"))
    assert ends(journey(packet(), two=shut, server_on="one")) == ("allow", BY_PROFILE, BY_PROFILE)
    passing = HostEndpointRow(interface="*", forward_egress=applied(tier("443", default="Pass")))
    assert ends(journey(packet(), one=passing)) == ("allow", BY_PROFILE, BY_PROFILE)
    ending = HostEndpointRow(interface="*", forward_egress=applied(tier("443")))
    assert ends(journey(packet(port=22), one=ending))[1] == ("deny", "tier-end")


@pytest.mark.parametrize("hook", ["untracked_ingress", "pre_dnat"])
def test_untracked_and_prednat_policy_come_first_and_drop_nothing_at_a_tiers_end(hook: str) -> None:
    def guarded(hook_policies: Any) -> HostEndpointRow:
        return replace(HostEndpointRow(interface="eth0", ingress=SHUT), **{hook: hook_policies})

    to_node = packet(WORLD, TWO, 443)
    assert ends(journey(to_node, two=guarded(applied(tier("443")))))[2] == ("allow", "rule")
    assert ends(journey(packet(WORLD, TWO, 80), two=guarded(applied(tier("443")))))[2] == ("deny", "rule")
    opened = replace(guarded(applied(tier("443"))), ingress=OPEN)
    assert ends(journey(packet(WORLD, TWO, 80), two=opened))[2] == BY_PROFILE
    assert ends(journey(packet(WORLD, B, 443), two=guarded(SHUT)))[2] == ("deny", "rule")
    assert ends(journey(packet(WORLD, TWO, 22), two=guarded(SHUT)))[2] == ("allow", "failsafe")


def test_a_pod_that_is_masqueraded_is_its_node_to_other_nodes() -> None:
    only_nodes = policy(rule(source=replace(ports(), nets=(ONE.prefix,))))
    POLICIES["nodes"] = only_nodes
    guarded = HostEndpointRow(interface="eth0", ingress=applied(tier("nodes")))
    pools = {"masq-ipam-pools": ["10.0.0.0/24"], "all-ipam-pools": ["10.0.0.0/24"]}
    assert journey(packet(A, TWO), two=guarded).verdict == "deny"
    found = journey(packet(A, TWO), two=guarded, sets=pools)
    assert ends(found) == ("allow", BY_PROFILE, ("allow", "rule"))
    assert found.notes == (f"the pod's address is masqueraded as {ONE}, its node's",)


def test_of_several_host_endpoints_the_one_with_the_address_counts() -> None:
    rows = state(
        policies=POLICIES,
        profiles=PROFILES,
        hosts={
            "a-star": HostEndpointRow(interface="*", ingress=SHUT),
            "b-named": HostEndpointRow(interface="eth1", ingress=SHUT),
            "c-expected": HostEndpointRow(interface="", expected=(TWO,), ingress=OPEN),
        },
    )
    where = Whereabouts(host_endpoints=dict.fromkeys(rows.host_endpoints, "two"), nodes={"two": (TWO, WORLD)})
    traveller = Traveller(rows, where)
    assert traveller.journey(packet(A, TWO)).ingress.endpoint == "HostEndpoint c-expected"
    found = traveller.journey(packet(A, WORLD))
    assert found.ingress.endpoint == "HostEndpoint b-named"
    assert "several HostEndpoints" in found.notes[0]


def test_one_for_a_single_interface_comes_before_one_for_all_that_expects_the_address() -> None:
    rows = state(
        policies=POLICIES,
        profiles=PROFILES,
        hosts={
            "a-star": HostEndpointRow(interface="*", expected=(TWO, WORLD), ingress=SHUT),
            "b-named": HostEndpointRow(interface="eth0", ingress=OPEN),
            "c-other": HostEndpointRow(interface="eth1", expected=(ONE,), ingress=SHUT),
        },
    )
    where = Whereabouts(host_endpoints=dict.fromkeys(rows.host_endpoints, "two"), nodes={"two": (TWO,)})
    assert Traveller(rows, where).journey(packet(A, TWO)).ingress.endpoint == "HostEndpoint b-named"
    del rows.host_endpoints["b-named"]
    # It is not by the interface that has another address.
    assert Traveller(rows, where).journey(packet(A, TWO)).ingress.endpoint == "HostEndpoint a-star"


def test_established_connections_go_on() -> None:
    found = journey(packet(), client=SHUT, server=SHUT, established=True)
    assert ends(found) == ("allow", ("allow", "established"), ("allow", "established"))
    assert journey(packet(A, ONE), established=True).verdict == "allow"


def test_a_pods_own_tunnels_are_dropped_whatever_policy_says() -> None:
    vxlan, ipip = packet(port=4789, protocol=UDP), packet(protocol=4, port=None, source_port=None)
    for tunnel in (vxlan, ipip):
        assert ends(journey(tunnel)) == ("deny", ("deny", "host"), BY_PROFILE)
        allowed = SettingsRow(vxlan_from_workloads=True, ipip_from_workloads=True)
        assert journey(tunnel, settings=allowed).verdict == "allow"
        assert journey(tunnel, established=True).verdict == "allow"
    assert journey(packet(port=4790, protocol=UDP)).verdict == "allow"


def test_nodes_tunnels_pass_a_host_endpoint() -> None:
    guarded = HostEndpointRow(interface="eth0", ingress=SHUT)
    vxlan = packet(ONE, TWO, 4789, protocol=UDP)
    hosts = {"all-hosts": [str(ONE.prefix), str(TWO.prefix)]}
    assert ends(journey(vxlan, two=guarded, sets=hosts))[2] == ("allow", "host")
    assert ends(journey(vxlan._replace(source=WORLD), two=guarded, sets=hosts))[2] == ("deny", "rule")


@pytest.mark.parametrize(("kind", "verdict"), [(135, "allow"), (128, "deny"), (137, "deny")])
def test_neighbours_talk_to_the_node_unasked(kind: int, verdict: str) -> None:
    six, host = Address.parse("fd00::1"), Address.parse("fd01::1")
    rows = state(policies=POLICIES, endpoints={CLIENT: endpoint(six, egress=SHUT, ingress=SHUT)})
    where = Whereabouts(pods={CLIENT: "one"}, nodes={"one": (host,)})
    asked = Packet(six, host, 58, icmp_type=kind, icmp_code=0)
    assert Traveller(rows, where).journey(asked).verdict == verdict
