"""Policy in the kernel over time: the difference only, at once or not at all, repaired, adopted, and closed where it fails."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable

import pytest

from tests.kernel.dataplane_world import RETURN, UNPOLICED, World, applied, started
from tests.kernel.policy_world import UDP, Packet, PolicyWorld, gone_set, ipset
from tests.kernel.test_policy_order import key, on, row, tier
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.dataplane.linux.rules import names
from tortie.desired.policies import AppliedPolicies, EntityMatch, PolicyRow, RuleRow
from tortie.desired.table import DesiredKey
from tortie.host.nft import ChainKey, CounterKey, Hook, Meta, Rule, Set, SetKey, Table, VerdictLookup
from tortie.kernel import netns as kernel_netns
from tortie.kernel.nft import Batch, NftSocket
from tortie.net.addresses import Prefix

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")


NETS = (Prefix.parse("203.0.113.0/24"), Prefix.parse("198.51.100.0/26"))
_RECEIVE_BUFFER_BY_FORCE = 33


def to(port: int, version: int = 4) -> Packet:
    return Packet(UDP, (40004, port), version)


def walk(*policies: str) -> AppliedPolicies:
    return AppliedPolicies(tiers=(tier("t", *policies),))


async def test_an_unchanged_state_writes_nothing(policy: PolicyWorld) -> None:
    sets = ipset("s:x", policy.client.v4, policy.client.v6)
    rows = {key("a"): row("t", RuleRow(action="Allow", source=EntityMatch(sets=("s:x",))))}
    await policy.enforce(walk("a"), policies=rows, sets=sets)
    before = policy.plane.kernel_writes
    await policy.enforce(walk("a"), policies=rows, sets=sets)
    assert policy.plane.kernel_writes == before
    assert not (await policy.plane.resync()).failed
    assert policy.plane.kernel_writes == before
    written = PolicyRow(
        tier="t", ingress=(RuleRow(action="Allow", source=EntityMatch(sets=("s:x",)), line=7),), file="f.yaml"
    )
    await policy.enforce(walk("a"), policies={key("a"): written})
    assert policy.plane.kernel_writes == before, "what is for people alone is nothing to the kernel"
    await policy.enforce(walk("a"), sets=ipset("s:x", policy.server.v4))
    assert policy.plane.kernel_writes == before + 1


async def test_what_nobody_needs_is_gone(policy: PolicyWorld) -> None:
    before = sorted_rules(policy)
    rows = {
        key("a"): row(
            "t", RuleRow(action="Log", protocol=UDP, destination=EntityMatch(sets=("s:x",), nets=NETS))
        ),
        key("b"): row("t", on("Pass")),
    }
    await policy.enforce(walk("a", "b"), walk("b"), policies=rows, sets=ipset("s:x", policy.client.v4))
    assert sorted_rules(policy) != before
    await policy.enforce(gone_policies=list(rows), sets=gone_set("s:x", policy.client.v4))
    assert sorted_rules(policy) == before


async def test_counters_survive_the_edit_of_other_rules(policy: PolicyWorld) -> None:
    await policy.enforce(walk("one"), policies={key("one"): row("t", on("Allow", 80, 0), on("Deny", 81, 1))})
    assert await policy.passes(to(80))
    assert not await policy.passes(to(81))
    edited = row("t", on("Allow", 79, 0), on("Deny", 81, 1), on("Allow", 80, 2), on("Allow", 80, 3))
    await policy.enforce(walk("one"), policies={key("one"): edited})
    assert [await policy.counted(rule) for rule in range(4)] == [0, 1, 1, 0]
    told = await policy.plane.policy_counts(every_rule=False)
    assert [row.rule for row in told if row.name == "one"] == [1, 2]
    await policy.plane.close()
    policy.plane = await started(policy.world)
    ingress = {policy.server.key: policy.server.row(ingress=walk("one"))}
    again = policy.world.flush(
        policy.client, policy.server, endpoints=ingress, policies={key("one"): edited}, settings=RETURN
    )
    await applied(policy.plane, again)
    assert [await policy.counted(rule) for rule in range(4)] == [0, 1, 1, 0], "also a new agent"
    ends = [count for count in await policy.plane.policy_counts() if count.decided_by == "tier-end"]
    assert not await policy.passes(to(99))
    assert [(each.tier, each.packets) for each in ends] == [("t", 0)]
    ends = [count for count in await policy.plane.policy_counts() if count.decided_by == "tier-end"]
    assert [(each.tier, each.packets) for each in ends] == [("t", 1)]


async def test_a_policy_that_the_kernel_refuses_closes_its_own_endpoints_and_no_other(
    policy: PolicyWorld,
) -> None:
    good = {key("good"): row("t", on("Allow", 80)), key("was-good"): row("t", on("Allow", 80))}
    await policy.enforce(walk("was-good"), policies=good)
    assert await policy.passes(to(80))
    missing = RuleRow(action="Deny", source=EntityMatch(sets=("s:no-such-set",)))
    refused = row("t", missing, on("Allow", 80))
    endpoints = {policy.client.key: policy.client.row(ingress=walk("good"))}
    flush = policy.world.flush(endpoints=endpoints, policies={key("was-good"): refused})
    failed = (await policy.plane.apply(flush)).failed
    assert {each.key for each in failed} == {key("was-good"), policy.server.key}
    assert "s-no-such-set" in str(failed[DesiredKey("policies", key("was-good"))]) or "was-good" in str(
        failed[DesiredKey("policies", key("was-good"))]
    )
    assert not await policy.passes(to(80)), "closed"
    assert not await policy.passes(to(80, 6))
    assert await policy.passes(to(80), policy.server, policy.client)
    assert not await policy.passes(to(81), policy.server, policy.client)
    assert (await policy.plane.resync()).failed, "it is tried again, and stays reported"
    await policy.enforce(walk("was-good"), sets=ipset("s:no-such-set", "203.0.113.1/32"))
    assert await policy.passes(to(80)), "and opens when the set is there"


async def test_it_closes_also_when_several_of_its_rules_are_refused(policy: PolicyWorld) -> None:
    good = {key("was-good"): row("t", on("Allow", 80)), key("new"): row("t", on("Allow", 82))}
    await policy.enforce(walk("was-good"), policies=good)
    assert await policy.passes(to(80))
    missing = RuleRow(action="Deny", source=EntityMatch(sets=("s:no-such-set",)))
    refused = row("t", missing, missing, on("Allow", 80))
    beside = {policy.client.key: policy.client.row(ingress=walk("new", "refused-from-the-start"))}
    rows = {key("was-good"): refused, key("refused-from-the-start"): refused}
    failed = (await policy.plane.apply(policy.world.flush(endpoints=beside, policies=rows))).failed
    assert {each.key for each in failed} == {*rows, policy.server.key, policy.client.key}
    assert not await policy.passes(to(80)), "what stood there before is closed"
    assert await policy.passes(to(82), policy.server, policy.client), (
        "what comes before one that is new stands"
    )
    assert not await policy.passes(to(80), policy.server, policy.client)


async def test_in_a_long_tier_it_closes_but_what_comes_after_it(policy: PolicyWorld) -> None:
    """Its rules stood among others': it is told from them at the next try."""
    policies = [f"p{number:02}" for number in range(20)]
    rows = {key(name): row("t", on("Allow", 1000 + place)) for place, name in enumerate(policies)}
    missing = RuleRow(action="Deny", source=EntityMatch(sets=("s:no-such-set",)))
    rows[key("p10")] = row("t", missing)
    endpoints = {policy.server.key: policy.server.row(ingress=walk(*policies))}
    first = (await policy.plane.apply(policy.world.flush(endpoints=endpoints, policies=rows))).failed
    assert {each.key for each in first} >= {key("p10"), policy.server.key}
    assert not await policy.passes(to(1019))
    again = (await policy.plane.resync()).failed
    assert {each.key for each in again} == {key("p10"), policy.server.key}
    assert await policy.passes(to(1000))
    assert await policy.passes(to(1009))
    assert not await policy.passes(to(1011))
    await policy.enforce(walk(*policies), sets=ipset("s:no-such-set", "203.0.113.1/32"))
    assert await policy.passes(to(1019))


async def test_a_staged_policy_that_the_kernel_refuses_closes_nothing(policy: PolicyWorld) -> None:
    missing = RuleRow(action="Deny", source=EntityMatch(sets=("s:no-such-set",)))
    rows = {key("staged"): row("t", missing, staged=True), key("real"): row("t", on("Allow", 80))}
    ingress = {policy.server.key: policy.server.row(ingress=walk("staged", "real"))}
    failed = (await policy.plane.apply(policy.world.flush(endpoints=ingress, policies=rows))).failed
    assert DesiredKey("policies", key("staged")) in failed
    assert await policy.passes(to(80))


@pytest.mark.parametrize(
    "damage",
    [
        "flush chain ip tortie ingress/GlobalNetworkPolicy/a",
        "insert rule ip tortie ingress/GlobalNetworkPolicy/a accept",
        "delete element ip tortie s-x { 10.65.0.1 }",
        "add element ip tortie s-x { 203.0.113.9 }",
        "delete element ip tortie to-workload-map { cali2 }",
        "add counter ip tortie mine",
        "delete table ip tortie",
        "flush ruleset",
    ],
)
async def test_drift_is_repaired(policy: PolicyWorld, damage: str) -> None:
    rows = {
        key("a"): row("t", RuleRow(action="Allow", source=EntityMatch(sets=("s:x",)))),
        key("b"): row("t", on("Deny", 9)),
    }
    sets = ipset("s:x", policy.client.v4, policy.client.v6)
    await policy.enforce(walk("a", "b"), policies=rows, sets=sets)
    before = sorted_rules(policy)
    policy.world.run("nft", damage)
    assert sorted_rules(policy) != before
    assert not (await policy.plane.resync()).failed
    assert sorted_rules(policy) == before
    assert await policy.passes(to(80))
    assert not await policy.passes(to(9), policy.outside)


async def test_the_kernel_enforces_while_no_agent_is_there_and_the_next_adopts_it(
    policy: PolicyWorld,
) -> None:
    rows = {key("a"): row("t", on("Allow", 80))}
    await policy.enforce(walk("a"), policies=rows)
    start = sorted_rules(policy)
    await policy.plane.close()
    with NftSocket(policy.world.node) as rules:
        dropped = CounterKey("ip", "ingress/tier-end/t")
        assert _arrives(policy, 80)
        before = rules.counters()[dropped].packets
        assert not _arrives(policy, 81)
        assert rules.counters()[dropped].packets > before
    plane = policy.plane = LinuxDataplane(namespace=policy.world.node)
    await plane.start()
    endpoints = {policy.server.key: policy.server.row(ingress=walk("a"))}
    first = policy.world.flush(
        policy.client, policy.server, endpoints=endpoints, policies=rows, settings=RETURN, in_sync=False
    )
    assert (await plane.apply(first)).failed
    await applied(plane, policy.world.flush())
    assert sorted_rules(policy) == start
    assert not plane.kernel_writes, "all of it stood already"


async def test_tables_of_an_older_release_are_replaced_at_once(netns: Callable[[], str]) -> None:
    world = World(netns)
    with NftSocket(world.node) as socket:
        batch = Batch("tortie")
        batch.put_table(Table("ip", "tortie", schema=1))
        spec = Set(("ifname",), verdicts=True)
        batch.put_set(SetKey("ip", names.FROM_MAP), spec)
        forward = ChainKey("ip", "filter-forward")
        batch.put_chain(forward, Hook("filter", "forward", 0))
        batch.add_rule(forward, Rule((Meta("iifname"), VerdictLookup(names.FROM_MAP))))
        assert socket.commit(batch) is None
    policy = PolicyWorld(world, await started(world))
    await policy.start()
    await policy.enforce(walk("a"), policies={key("a"): row("t", on("Allow", 80))})
    assert await policy.passes(to(80))
    assert not await policy.passes(to(81))
    assert "filter-forward " not in world.ruleset()
    await policy.plane.close()
    policy.close()


async def test_no_packet_finds_a_state_in_between(policy: PolicyWorld) -> None:
    """Two states that agree on two ports: one is open in both, the other closed in both, however often they take turns."""
    states = (
        (
            walk("a", "b"),
            {key("a"): row("t", on("Deny", 80)), key("b"): row("t", on("Allow", 81), on("Allow", 82))},
        ),
        (
            walk("b", "c"),
            {key("b"): row("t", on("Allow", 83)), key("c"): row("t", on("Deny", 80), on("Allow"))},
        ),
    )
    await policy.enforce(states[0][0], policies=states[0][1])
    done = threading.Event()
    sent = {80: 0, 81: 0}

    with (
        kernel_netns.run(policy.server.namespace, lambda: bound(policy, 80)) as closed,
        kernel_netns.run(policy.server.namespace, lambda: bound(policy, 81)) as opened,
    ):

        def flood() -> None:
            while not done.is_set():
                for port in sent:
                    for _ in range(5):
                        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:  # a flow of its own
                            sender.sendto(b"x", (str(policy.server.v4), port))
                            sent[port] += 1

        flooding = asyncio.create_task(asyncio.to_thread(kernel_netns.visit, policy.client.namespace, flood))
        for turn in range(60):
            ingress, rows = states[turn % 2]
            await policy.enforce(ingress, policies=rows)
            await asyncio.sleep(0.01)
        done.set()
        await flooding
        assert min(sent.values()) > 100
        assert _received(closed) == 0
        assert _received(opened) == sent[81]


def sorted_rules(policy: PolicyWorld) -> list[str]:
    """The ruleset, whatever has been counted and in whatever order it stands."""
    return sorted(re.sub(r"packets \d+ bytes \d+", "counted", policy.world.ruleset()).splitlines())


def _arrives(policy: PolicyWorld, port: int) -> bool:
    """A datagram, sent again and again, without help of the dataplane."""
    with kernel_netns.run(policy.server.namespace, lambda: bound(policy, port)) as listener:
        for _ in range(10):
            with kernel_netns.run(
                policy.client.namespace, lambda: socket.socket(type=socket.SOCK_DGRAM)
            ) as sender:
                sender.sendto(b"x", (str(policy.server.v4), port))
            if _received(listener):
                return True
    return False


def bound(policy: PolicyWorld, port: int) -> socket.socket:
    listener = socket.socket(type=socket.SOCK_DGRAM)
    listener.bind((str(policy.server.v4), port))
    listener.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_BY_FORCE, 64 << 20)
    listener.setblocking(False)
    return listener


def _received(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.recv(10)
        except BlockingIOError:
            return count
        count += 1


async def test_many_endpoints_share_one_chain(policy: PolicyWorld) -> None:
    rows = {key("a"): row("t", on("Allow"))}
    endpoints = {
        pod.key: pod.row(ingress=walk("a"), egress=UNPOLICED) for pod in (policy.client, policy.server)
    }
    await applied(policy.plane, policy.world.flush(endpoints=endpoints, policies=rows))
    v4 = policy.world.run("nft", "list", "table", "ip", "tortie")
    assert v4.count("chain ingress/group/") == 1
    assert v4.count("chain ingress/GlobalNetworkPolicy/a ") == 1
    assert "chain egress/GlobalNetworkPolicy/a" not in v4, "nobody is selected by it in that direction"
