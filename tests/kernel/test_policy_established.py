"""A new deny cuts connections that run, where a policy or the settings ask for it; without that they go on."""

from __future__ import annotations

import dataclasses
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.kernel.dataplane_world import RETURN
from tests.kernel.policy_world import UDP, Packet, Place, PolicyWorld, ipset
from tests.kernel.test_policy_order import key, tier
from tortie.desired.policies import AppliedPolicies, EntityMatch, PolicyRow, PortRange, RuleRow
from tortie.kernel import netns as kernel_netns

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
ALLOWED = (RuleRow(action="Allow"),)
CUTTING = dataclasses.replace(RETURN, applies_to_established=True)


def walk() -> AppliedPolicies:
    return AppliedPolicies(tiers=(tier("t", "a"),))


def deny(port: int) -> tuple[RuleRow, ...]:
    return RuleRow(
        action="Deny", protocol=6, destination=EntityMatch(ports=(PortRange(port, port),))
    ), *ALLOWED


@contextmanager
def connection(
    policy: PolicyWorld, source: Place, version: int, port: int
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection to the server that runs: the client's end and the server's."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    address = str(policy.server.address(version))

    def listen() -> socket.socket:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        listener.settimeout(5)
        return listener

    def connect() -> socket.socket:
        client = socket.socket(family)
        client.settimeout(5)
        client.connect((address, port))
        return client

    with kernel_netns.run(policy.server.namespace, listen) as listener:
        client = kernel_netns.run(source.namespace, connect)
        server = listener.accept()[0]
    with client, server:
        server.settimeout(5)
        yield client, server


def runs(ends: tuple[socket.socket, socket.socket]) -> bool:
    """Whether bytes still go both ways, the server's first."""
    client, server = ends
    try:
        server.sendall(b"from the server")
        if not _has_something(client, server) or client.recv(100) != b"from the server":
            return False
        client.sendall(b"from the client")
        return _has_something(server, client) and server.recv(100) == b"from the client"
    except ConnectionError:
        return False


def _has_something(reader: socket.socket, writer: socket.socket) -> bool:
    """False as soon as the writer is told that its connection is no more."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if select.select([reader], [], [], 0.02)[0]:
            return True
        if writer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
    raise AssertionError("the connection hangs: neither data nor a reset")


def client_of(policy: PolicyWorld) -> Place:
    return Place(policy.client.namespace, policy.client.v4, policy.client.v6)


@pytest.mark.parametrize("version", [4, 6])
async def test_a_policy_that_asks_for_it_cuts_what_it_denies_and_no_more(
    policy: PolicyWorld, version: int
) -> None:
    allowing = PolicyRow(tier="t", ingress=ALLOWED, applies_to_established=True)
    await policy.enforce(walk(), policies={key("a"): allowing})
    with (
        connection(policy, client_of(policy), version, 80) as cut,
        connection(policy, client_of(policy), version, 81) as other,
        connection(policy, policy.outside, version, 80) as outside,
        connection(policy, policy.node, version, 80) as from_the_node,
    ):
        everything = (cut, other, outside, from_the_node)
        assert all(runs(each) for each in everything)
        only_the_client = RuleRow(
            action="Deny",
            protocol=6,
            source=EntityMatch(sets=("s:client",)),
            destination=EntityMatch(ports=(PortRange(80, 80),)),
        )
        denying = dataclasses.replace(allowing, ingress=(only_the_client, *ALLOWED))
        sets = ipset("s:client", policy.client.v4, str(policy.client.v6.prefix.supernet(127)))
        before = policy.plane.flows_cut
        await policy.enforce(walk(), policies={key("a"): denying}, sets=sets)
        assert policy.plane.flows_cut == before + 1
        assert not runs(cut)
        assert runs(other)
        assert runs(outside)
        assert runs(from_the_node), "what the node sends to its pods is never policed"
        with pytest.raises((TimeoutError, OSError)):
            kernel_netns.run(policy.client.namespace, lambda: _connect_quickly(policy, version))
    with connection(policy, policy.outside, version, 80) as fresh:
        assert runs(fresh)


def _connect_quickly(policy: PolicyWorld, version: int) -> None:
    with socket.create_connection((str(policy.server.address(version)), 80), timeout=0.3):
        pass


@pytest.mark.parametrize("how", ["member", "tier-end", "settings", "egress", "no-profile"])
async def test_whatever_makes_the_deny(policy: PolicyWorld, how: str) -> None:
    cuts = how != "settings"
    by_set = RuleRow(action="Deny", source=EntityMatch(sets=("s:bad",)))
    row = PolicyRow(tier="t", ingress=(by_set, *ALLOWED), egress=ALLOWED, applies_to_established=cuts)
    sets = ipset("s:bad", "203.0.113.1/32")
    settings = RETURN if cuts else CUTTING
    await policy.enforce(walk(), walk(), policies={key("a"): row}, sets=sets, settings=settings)
    with connection(policy, client_of(policy), 4, 80) as running:
        assert runs(running)
        if how == "member":
            await policy.enforce(walk(), walk(), sets=ipset("s:bad", policy.client.v4))
        elif how == "tier-end":
            await policy.enforce(walk(), walk(), policies={key("a"): dataclasses.replace(row, ingress=())})
        elif how == "egress":
            await policy.enforce(
                walk(), walk(), policies={key("a"): dataclasses.replace(row, egress=deny(80))}
            )
        elif how == "no-profile":
            closed = dataclasses.replace(walk().tiers[0], default_action="Pass")
            passing = dataclasses.replace(row, ingress=())
            await policy.enforce(AppliedPolicies(tiers=(closed,)), walk(), policies={key("a"): passing})
        else:
            await policy.enforce(AppliedPolicies(), walk())
        assert not runs(running)


async def test_without_that_a_connection_goes_on(policy: PolicyWorld) -> None:
    row = PolicyRow(tier="t", ingress=ALLOWED)
    other = PolicyRow(tier="u", ingress=ALLOWED, applies_to_established=True)
    both = AppliedPolicies(tiers=(tier("t", "a"), tier("u", "b")))
    await policy.enforce(both, policies={key("a"): row, key("b"): other})
    with connection(policy, client_of(policy), 4, 80) as running:
        await policy.enforce(both, policies={key("a"): dataclasses.replace(row, ingress=deny(80))})
        assert runs(running), "the policy that denies does not ask for it"
    assert policy.plane.flows_cut == 0


async def test_datagrams_are_asked_about_again(policy: PolicyWorld) -> None:
    request, answer = Packet(UDP, (6000, 80)), Packet(UDP, (80, 6000))
    row = PolicyRow(tier="t", ingress=ALLOWED, applies_to_established=True)
    await policy.enforce(walk(), policies={key("a"): row})
    assert await policy.passes(request)
    assert await policy.passes(answer, policy.server, policy.client, new_flow=False)
    await policy.enforce(walk(), policies={key("a"): dataclasses.replace(row, ingress=())})
    assert not await policy.passes(request, new_flow=False)
