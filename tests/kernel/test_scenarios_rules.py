"""Scenarios 10 to 12 and 15 to 18: what a rule matches, services, logging, annotations. From documents to packets."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.kernel.agent_process import until
from tests.kernel.dataplane_world import RETURN, applied
from tests.kernel.policy_cluster import (
    PolicyCluster,
    endpoint,
    global_policy,
    network_policy,
    policy_cluster,
    rule,
    to,
    v3,
)

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
SERVER = "role == 'server'"
CLIENT = "role == 'client'"
OTHER_PROTOCOL = {"TCP": "UDP", "UDP": "SCTP", "SCTP": "TCP"}
LOG_GROUP = 77


@pytest.fixture
async def cluster(netns: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    async with policy_cluster(netns) as made:
        yield made


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize("side", ["source", "destination"])
async def test_named_ports(
    cluster: PolicyCluster, side: Literal["source", "destination"], protocol: str
) -> None:
    """Beside none, one and sixteen numbers (more than one multiport match of iptables holds); and what is negated."""
    holder = cluster.client if side == "source" else cluster.server
    role = "client" if side == "source" else "server"
    ports = [("named", protocol, 80), ("named", OTHER_PROTOCOL[protocol], 81), ("another", protocol, 82)]
    await cluster.apply(endpoint(holder, {"role": role}, ports=ports))

    async def passes(port: int, version: int) -> bool:
        source, destination = (port, 7000) if side == "source" else (40000, port)
        return await cluster.passes(to(destination, version, protocol, source))

    for numbers in ([], [90], list(range(90, 122, 2))):
        for field in ("ports", "notPorts"):
            entity = {field: ["named", *numbers]}
            await cluster.apply(
                network_policy(
                    "p", selector=SERVER, ingress=[{"action": "Allow", "protocol": protocol, side: entity}]
                )
            )
            for version in (4, 6):
                for port in (80, 81, 82, 91, *numbers[:1], *numbers[15:]):
                    listed = port == 80 or port in numbers
                    wanted = listed if field == "ports" else not listed
                    assert await passes(port, version) == wanted, (entity, port, version)


async def test_a_named_port_is_that_of_the_endpoint_that_is_meant(cluster: PolicyCluster) -> None:
    """Not another's that has the name for another number, nor one that the selector does not mean."""
    await cluster.apply(
        endpoint(cluster.server, {"role": "server"}, ports=[("http", "UDP", 80)]),
        endpoint(cluster.other, {"role": "other"}, ports=[("http", "UDP", 81)]),
        global_policy("p", selector="role in {'server', 'other'}", ingress=[rule("Allow", "http")]),
    )
    await cluster.expect({80: True, 81: False}, cluster.client, cluster.server)
    await cluster.expect({80: False, 81: True}, cluster.client, cluster.other)
    meant = {"selector": SERVER, "ports": ["http"]}
    await cluster.apply(
        global_policy(
            "p", selector=CLIENT, egress=[{"action": "Allow", "protocol": "UDP", "destination": meant}]
        ),
    )
    await cluster.expect({80: True, 81: False}, cluster.client, cluster.server)
    await cluster.expect({80: False, 81: False}, cluster.client, cluster.other)
    await cluster.apply(endpoint(cluster.server, {"role": "server"}, ports=[("http", "UDP", 88)]))
    await cluster.expect({80: False, 88: True}, cluster.client, cluster.server)


async def test_the_same_number_of_another_protocol(cluster: PolicyCluster) -> None:
    for protocol, other in OTHER_PROTOCOL.items():
        rules = [rule("Allow", 80, protocol), rule("Allow", 81, other), rule("Deny", 81, protocol)]
        await cluster.apply(network_policy("p", selector=SERVER, ingress=rules))
        await cluster.expect({80: True, 81: False}, protocol=protocol)
        await cluster.expect({80: False, 81: True}, protocol=other)


async def test_nets_without_nets_and_selectors_at_once(cluster: PolicyCluster) -> None:
    client, other = cluster.client, cluster.other
    nets = {4: ("10.65.0.0/24", f"{client.v4}/32", "0.0.0.0/0"), 6: ("fd65::/64", f"{client.v6}/128", "::/0")}

    async def expect(*, of_client: bool, of_other: bool, of_outside: bool, **source: Any) -> None:
        """``{pods}``, ``{client}`` and ``{all}`` stand for nets of either IP version: a rule takes one of them alone."""
        rules: list[dict[str, Any]] = []
        for version, (pods, alone, everything) in nets.items():
            text = json.dumps(source)
            for word, net in (("{pods}", pods), ("{client}", alone), ("{all}", everything)):
                text = text.replace(word, net)
            rules.append({"action": "Allow", "ipVersion": version, "source": json.loads(text)})
        await cluster.apply(network_policy("p", selector=SERVER, ingress=rules))
        for place, wanted in ((client, of_client), (other, of_other), (cluster.outside, of_outside)):
            for version in (4, 6):
                seen = await cluster.passes(to(80, version), place, cluster.server)
                assert seen == wanted, (source, place, version)

    pods, alone, known = ["{pods}"], ["{client}"], "has(role)"
    await expect(nets=pods, of_client=True, of_other=True, of_outside=False)
    await expect(nets=pods, notNets=alone, of_client=False, of_other=True, of_outside=False)
    await expect(notNets=pods, of_client=False, of_other=False, of_outside=True)
    await expect(nets=["{all}"], selector=CLIENT, of_client=True, of_other=False, of_outside=False)
    await expect(
        nets=pods, selector=known, notSelector=CLIENT, of_client=False, of_other=True, of_outside=False
    )
    # A policy of a namespace that selects means its own namespace; a global one means everywhere.
    await expect(notSelector=CLIENT, of_client=False, of_other=True, of_outside=False)
    await expect(selector=known, notNets=alone, of_client=False, of_other=True, of_outside=False)
    await expect(nets=alone, selector="role == 'other'", of_client=False, of_other=False, of_outside=False)
    await expect(notNets=["{all}"], of_client=False, of_other=False, of_outside=False)
    await cluster.delete("networkpolicy", "p", namespace="default")
    not_client = {"action": "Allow", "source": {"notSelector": CLIENT}}
    await cluster.apply(global_policy("g", selector=SERVER, ingress=[not_client]))
    for place, wanted in ((client, False), (other, True), (cluster.outside, True)):
        await cluster.expect({80: wanted}, place, cluster.server)


def slices(
    service: str, *addresses: tuple[int, str], port: int, protocol: str = "UDP"
) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service}-v{version}",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "main", "port": port, "protocol": protocol}],
        }
        for version, address in addresses
    ]


@pytest.mark.parametrize("action", ["Allow", "Deny"])
async def test_services_in_a_tier_of_their_own(
    cluster: PolicyCluster, action: Literal["Allow", "Deny"]
) -> None:
    allow = action == "Allow"
    web = {"name": "web", "namespace": "default"}
    of = {place: ((4, str(place.v4)), (6, str(place.v6))) for place in (cluster.server, cluster.client)}
    egress = {"action": action, "destination": {"services": web}}
    await cluster.apply(
        v3("Tier", "services", order=1, defaultAction="Deny" if allow else "Pass"),
        network_policy("services.p", tier="services", selector=CLIENT, types=["Egress"], egress=[egress]),
    )
    await cluster.expect({80: not allow})
    await cluster.apply(
        *slices("web", *of[cluster.server], port=80), *slices("db", *of[cluster.server], port=81)
    )
    await cluster.expect({80: allow, 81: not allow})
    await cluster.expect({80: not allow}, protocol="TCP")
    await cluster.expect({80: not allow}, cluster.client, cluster.other)
    await cluster.apply(*slices("web", *of[cluster.server], port=82))
    await cluster.expect({80: not allow, 82: allow})
    await cluster.delete("endpointslice", "web-v4", namespace="default")
    await cluster.expect({82: not allow}, versions=[4])
    await cluster.expect({82: allow}, versions=[6])
    # As a source only the addresses count.
    ingress = {"action": action, "source": {"services": web}}
    await cluster.apply(
        network_policy("services.p", tier="services", selector=SERVER, types=["Ingress"], ingress=[ingress]),
        *slices("web", *of[cluster.client], port=80),
    )
    await cluster.expect({7000: allow})
    await cluster.expect({7000: not allow}, cluster.other, cluster.server)
    await cluster.expect({7000: not allow}, cluster.outside, cluster.server)


async def test_a_policy_that_is_needed_on_every_node(cluster: PolicyCluster) -> None:
    """What it refers to stands in the kernel before anybody is selected; nothing else is different."""

    def policy(name: str, source: str, *hints: str) -> dict[str, Any]:
        ingress = [{"action": "Deny", "source": {"selector": source}}, rule("Allow")]
        return global_policy(name, selector="role == 'late'", ingress=ingress, performanceHints=list(hints))

    await cluster.apply(policy("idle", "role == 'other'"), policy("early", CLIENT, "AssumeNeededOnEveryNode"))
    ruleset = cluster.world.ruleset()
    assert f"elements = {{ {cluster.client.v4} }}" in ruleset
    assert f"elements = {{ {cluster.other.v4} }}" not in ruleset
    await cluster.expect({80: True})
    await cluster.delete("globalnetworkpolicy", "idle")
    await cluster.apply(endpoint(cluster.server, {"role": "late"}))
    await cluster.expect({80: False}, cluster.client, cluster.server)
    await cluster.expect({80: True}, cluster.other, cluster.server)


@contextmanager
def logged(cluster: PolicyCluster) -> Iterator[Callable[[], bytes]]:
    """What the node logs to the group while the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        said, capture = Path(folder, "said"), Path(folder, "log.pcap")
        argv = ["tcpdump", "-i", f"nflog:{LOG_GROUP}", "-U", "-w", str(capture), "--immediate-mode"]
        with said.open("wb") as errors:
            child = subprocess.Popen(["ip", "netns", "exec", cluster.world.node, *argv], stderr=errors)
        try:
            until(lambda: b"listening on" in said.read_bytes())
            yield capture.read_bytes
        finally:
            child.terminate()
            child.wait(10)


@pytest.mark.needs("tcpdump")
async def test_what_is_logged_bears_the_prefix_and_goes_on(cluster: PolicyCluster) -> None:
    rules = [{"action": "Log", "protocol": "UDP", "destination": {"ports": [80, 81]}}, rule("Allow", 80)]
    await cluster.apply(
        v3("FelixConfiguration", "default", defaultEndpointToHostAction="Return", logPrefix="why %k %p"),
        network_policy("told", selector=SERVER, ingress=rules),
    )
    assert 'log prefix "why NetworkPolicy default/told: "' in cluster.world.ruleset()
    # The kernel's own log is silent in a namespace of its own; a group is heard there.
    settings = dataclasses.replace(RETURN, log_prefix="why %k %p", log_group=LOG_GROUP)
    await applied(cluster.plane, cluster.world.flush(settings=settings))
    with logged(cluster) as log:
        await cluster.expect({80: True, 81: False, 82: False})
        until(lambda: log().count(b"why NetworkPolicy default/told: ") >= 4)
        assert log().count(b"why NetworkPolicy default/told: ") == 4


async def test_annotations_of_rules_may_be_anything(cluster: PolicyCluster) -> None:
    """They reach the kernel's comments at most in a shape that it takes."""
    for text in ("two\nlines", 'a "quoted" \\ word', "ünïcödé ✓ 猫", "x" * 2000, "\t\x7f", ""):
        metadata = {"annotations": {"example.com/why": text}}
        policy = network_policy(
            "p",
            selector=SERVER,
            ingress=[rule("Deny", 80, metadata=metadata), rule("Allow", metadata=metadata)],
        )
        policy["metadata"]["annotations"] = {"example.com/why": text}
        await cluster.apply(policy)
        await cluster.expect({80: False, 81: True})
        assert not (await cluster.plane.resync()).failed
