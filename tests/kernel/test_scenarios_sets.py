"""Scenarios 13, 14, 56, 57 and 62: network sets and their churn, sets that others change in the kernel, what big ones cost."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from tests.kernel.dataplane_world import OUTSIDE_V4, OUTSIDE_V6
from tests.kernel.policy_cluster import (
    PolicyCluster,
    global_policy,
    network_policy,
    policy_cluster,
    rule,
    to,
    v3,
)

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
SERVER = "role == 'server'"
OUT = {4: f"{OUTSIDE_V4}/32", 6: f"{OUTSIDE_V6}/128"}


@pytest.fixture
async def cluster(netns: Callable[[], str]) -> AsyncIterator[PolicyCluster]:
    async with policy_cluster(netns) as made:
        yield made


def network_set(
    name: str, *nets: str, labels: dict[str, str] | None = None, namespace: str = ""
) -> dict[str, Any]:
    kind = "NetworkSet" if namespace else "GlobalNetworkSet"
    found = v3(kind, name, namespace, nets=list(nets))
    found["metadata"]["labels"] = {"set": "x"} if labels is None else labels
    return found


FROM_SETS = global_policy(
    "p", selector=SERVER, ingress=[{"action": "Allow", "source": {"selector": "set == 'x'"}}]
)


async def test_network_sets_come_go_overlap_and_hold_everything(cluster: PolicyCluster) -> None:
    async def expect(outside: bool, client: bool) -> None:
        await cluster.expect({80: outside}, cluster.outside, cluster.server)
        await cluster.expect({80: client}, cluster.client, cluster.server)

    await cluster.apply(FROM_SETS)
    await expect(outside=False, client=False)
    await cluster.apply(network_set("one", OUT[4], OUT[6]))
    await expect(outside=True, client=False)
    # The same addresses again, in another set, within larger nets, and twice in one.
    await cluster.apply(
        network_set("two", OUT[4], OUT[6], "192.0.2.0/24", "192.0.2.0/25", "2001:db8::/64", OUT[4])
    )
    await expect(outside=True, client=False)
    await cluster.delete("globalnetworkset", "one")
    await expect(outside=True, client=False)
    await cluster.apply(network_set("two", "192.0.2.0/25", "2001:db8::/127"))
    await cluster.expect({80: True}, cluster.outside, cluster.server, versions=[4])
    await cluster.expect({80: False}, cluster.outside, cluster.server, versions=[6])
    await cluster.apply(network_set("two", "0.0.0.0/0", "::/0", "192.0.2.0/25"))
    await expect(outside=True, client=True)
    await cluster.apply(network_set("two", "128.0.0.0/1", "0.0.0.0/1", "::/1", "8000::/1"))
    await expect(outside=True, client=True)
    await cluster.apply(network_set("two", "10.65.0.0/30", "fd65::/126", labels={"set": "y"}))
    await expect(outside=False, client=False)
    await cluster.apply(network_set("two", "10.65.0.0/30", "fd65::/126"))
    await expect(outside=False, client=True)
    await cluster.delete("globalnetworkset", "two")
    await expect(outside=False, client=False)


async def test_network_sets_of_a_namespace_are_its_own(cluster: PolicyCluster) -> None:
    mine = {"action": "Allow", "source": {"selector": "set == 'x'"}}
    await cluster.apply(
        network_policy("p", selector=SERVER, ingress=[mine]),
        network_set("a", OUT[4], OUT[6], namespace="elsewhere"),
        network_set("g", OUT[4], OUT[6]),
    )
    await cluster.expect({80: False}, cluster.outside, cluster.server)
    await cluster.apply(network_set("a", OUT[4], OUT[6], namespace="default"))
    await cluster.expect({80: True}, cluster.outside, cluster.server)
    await cluster.delete("networkset", "a", namespace="default")
    everyones = {"action": "Allow", "source": {"selector": "set == 'x'", "namespaceSelector": "global()"}}
    await cluster.apply(network_policy("p", selector=SERVER, ingress=[everyones]))
    await cluster.expect({80: True}, cluster.outside, cluster.server)
    await cluster.delete("globalnetworkset", "g")
    await cluster.expect({80: False}, cluster.outside, cluster.server)


@pytest.mark.parametrize("seed", range(3))
async def test_churn_ends_where_the_sets_say(cluster: PolicyCluster, seed: int) -> None:
    """Nets that hold the packet's source and nets that do not, in sets that come, go and change their labels."""
    dice = random.Random(seed)
    holding = {4: ["192.0.2.0/24", OUT[4], "192.0.0.0/8", "0.0.0.0/0"], 6: ["2001:db8::/64", OUT[6], "::/0"]}
    others = {4: ["198.51.100.0/24", "192.0.2.128/25", "10.0.0.0/8"], 6: ["2001:db9::/32", "2001:db8::4/126"]}
    sets: dict[str, tuple[Sequence[str], str]] = {}
    await cluster.apply(FROM_SETS)
    for _ in range(30):
        for _ in range(dice.randint(1, 5)):
            name = f"s{dice.randint(1, 6)}"
            if dice.random() < 0.3:
                if sets.pop(name, None) is not None:
                    await cluster.delete("globalnetworkset", name)
                continue
            known = [
                net for version in (4, 6) for net in (*others[version], *others[version], *holding[version])
            ]
            nets, label = dice.sample(known, dice.randint(0, 4)), dice.choice("xxy")
            sets[name] = (nets, label)
            await cluster.apply(network_set(name, *nets, labels={"set": label}))
        meant = [net for nets, label in sets.values() if label == "x" for net in nets]
        version = dice.choice((4, 6))
        wanted = any(net in holding[version] for net in meant)
        seen = await cluster.passes(to(80, version), cluster.outside, cluster.server)
        assert seen == wanted, (version, sets)
    assert not (await cluster.plane.resync()).failed


SETS = 1000


async def test_thousands_of_sets_that_others_change_are_repaired(cluster: PolicyCluster) -> None:
    rules = [
        {"action": "Allow", "source": {"selector": f"set == 's{number}'"}, "protocol": "UDP"}
        for number in range(SETS)
    ]
    sets = [
        network_set(f"n{number}", f"172.16.{number // 250}.{number % 250}/32", labels={"set": f"s{number}"})
        for number in range(SETS - 1)
    ]
    await cluster.apply(global_policy("p", selector=SERVER, ingress=rules), *sets)
    last = network_set("last", OUT[4], OUT[6], labels={"set": f"s{SETS - 1}"})
    await cluster.apply(last)
    await cluster.expect({80: True}, cluster.outside, cluster.server)
    before = _elements(cluster)
    assert len(before) >= SETS
    held = next(name for name, elements in before.items() if str(OUTSIDE_V4) in elements)
    emptied = [name for name, elements in before.items() if "172.16.1." in elements]
    assert len(emptied) == 250
    damage = [f"flush set ip tortie {name}" for name in [held, *emptied]]
    damage += [f"add element ip tortie {name} {{ 203.0.113.7 }}" for name in emptied[:100]]
    cluster.world.run("nft", "; ".join(damage))
    await cluster.expect({80: False}, cluster.outside, cluster.server, versions=[4])
    assert not (await cluster.plane.resync()).failed
    assert _elements(cluster) == before
    await cluster.expect({80: True}, cluster.outside, cluster.server)
    # Flapping: all of them lose their members and have them again.
    for label in ("gone", ""):
        flapped = [
            network_set(
                f"n{number}",
                f"172.16.{number // 250}.{number % 250}/32",
                labels={"set": label or f"s{number}"},
            )
            for number in range(SETS - 1)
        ]
        await cluster.apply(*flapped)
        await cluster.expect({80: True}, cluster.outside, cluster.server, versions=[4])
    assert _elements(cluster) == before


def _elements(cluster: PolicyCluster) -> dict[str, str]:
    """Of each IPv4 set of the table, as text."""
    found = cluster.world.run("nft", "list", "sets", "ip").split("\tset ")[1:]
    return {part.split()[0]: "".join(re.findall(r"elements = \{([^}]*)\}", part)) for part in found}


async def test_foreign_tables_and_rules_stay(cluster: PolicyCluster) -> None:
    """Whoever made them: the other family's, those of iptables-nft and those of a kube-proxy. A resync leaves them, too."""
    text = """
        table ip filter { chain FORWARD { type filter hook forward priority 0; policy accept;
            ip daddr 203.0.113.9 counter drop
        }
        set cali40all { type ipv4_addr
            elements = { 203.0.113.1 }
        }
        }
        table inet kube-proxy { chain filter-input { type filter hook input priority -110; policy accept;
            tcp dport 10256 counter accept
        }
        }
        table ip6 nat { chain cali-POSTROUTING { counter
        }
        }"""
    cluster.world.run("nft", text)
    theirs = [
        f"{family} {name}" for family, name in (("ip", "filter"), ("inet", "kube-proxy"), ("ip6", "nat"))
    ]
    before = [cluster.world.run("nft", "list", "table", *each.split()) for each in theirs]
    await cluster.apply(network_policy("p", selector=SERVER, ingress=[rule("Allow", 80)]))
    assert not (await cluster.plane.resync()).failed
    await cluster.expect({80: True, 81: False})
    assert [cluster.world.run("nft", "list", "table", *each.split()) for each in theirs] == before


@pytest.mark.parametrize("of", ["all()", "a set of 10,000"])
async def test_round_trips_with_a_big_set_are_short(cluster: PolicyCluster, of: str) -> None:
    """Scenario 62: less than 10 ms; the shortest of three, for others use this machine, too."""
    nets = [f"172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}/32" for number in range(10_000)]
    selector = "all()" if of == "all()" else "set == 'x'"
    client = [f"{cluster.client.v4}/32", f"{cluster.client.v6}/128"]
    allow = {"action": "Allow", "source": {"selector": selector}}
    await cluster.apply(
        network_set("big", *nets, *([] if of == "all()" else client)),
        global_policy("p", selector=SERVER, ingress=[allow]),
    )
    assert not await cluster.passes(to(80), cluster.outside, cluster.server)
    for address in (cluster.server.v4, cluster.server.v6):
        mean = min(_mean_ms(cluster, str(address)) for _ in range(3))
        assert mean < 10, f"{mean} ms to {address}"


def _mean_ms(cluster: PolicyCluster, address: str) -> float:
    """Each echo is a flow of its own: one that goes on would pass without a look at the set."""
    said = cluster.world.run(
        "sh", "-c", f"for _ in $(seq 20); do ping -c1 -W5 {address}; done", where=cluster.client.namespace
    )
    times = [float(text) for text in re.findall(r"time=([0-9.]+) ms", said)]
    assert len(times) == 20, said
    return sum(times) / len(times)
