"""Rules with the action Log: what they tell, seen through NFLOG (the kernel's own log is silent in a namespace)."""

from __future__ import annotations

import dataclasses
import select
import socket
import struct

import pytest

from tests.kernel.dataplane_world import RETURN
from tests.kernel.policy_world import UDP, Packet, PolicyWorld
from tests.kernel.test_policy_order import key, on, row, tier
from tortie.desired.policies import AppliedPolicies, PolicyKey
from tortie.kernel import netlink as nl
from tortie.kernel import netns as kernel_netns

pytestmark = pytest.mark.needs("veth", "nftables", "conntrack")
GROUP = 7
_NETFILTER, _ULOG_CONFIG, _ULOG_PACKET = 12, 0x401, 0x400
_COMMAND, _MODE, _THRESHOLD, _PREFIX = 1, 2, 5, 10
_BIND, _COPY_META = 1, 1


def listen() -> socket.socket:
    """NFLOG's group in the namespace where this is called (``linux/netfilter/nfnetlink_log.h``)."""
    heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    for attribute in (
        nl.attr(_COMMAND, bytes([_BIND])),
        nl.attr(_MODE, struct.pack(">IBB", 0, _COPY_META, 0)) + nl.attr(_THRESHOLD, struct.pack(">I", 1)),
    ):
        body = struct.pack(">BBH", 0, 0, GROUP) + attribute
        heard.send(struct.pack("=IHHII", 16 + len(body), _ULOG_CONFIG, 5, 1, 0) + body)
        assert struct.unpack_from("=i", heard.recv(4096), 16) == (0,)
    return heard


def told(heard: socket.socket) -> list[str]:
    """The prefixes of what was logged."""
    found: list[str] = []
    while select.select([heard], [], [], 5.0 if not found else 0.2)[0]:
        data = heard.recv(65536)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _ULOG_PACKET:
                found.append(nl.as_text(nl.attributes(data[20:length])[_PREFIX]))
            data = data[(length + 3) & ~3 :]
    return found


@pytest.mark.parametrize("version", [4, 6])
async def test_a_rule_logs_and_the_next_decides(policy: PolicyWorld, version: int) -> None:
    web = PolicyKey("NetworkPolicy", "shop", "web")
    rows = {web: row("t", on("Log", 80), on("Allow", 80), on("Log")), key("end"): row("t", on("Log", 81))}
    settings = dataclasses.replace(RETURN, log_group=GROUP, log_prefix="%t %k %p")
    walk = AppliedPolicies(tiers=(tier("t", web, "end"),))
    await policy.enforce(walk, policies=rows, settings=settings)
    with kernel_netns.run(policy.world.node, listen) as heard:
        assert await policy.passes(Packet(UDP, (7000, 80), version))
        assert told(heard) == ["t NetworkPolicy shop/web: "]
        assert not await policy.passes(Packet(UDP, (7000, 81), version))
        assert told(heard) == ["t NetworkPolicy shop/web: ", "t GlobalNetworkPolicy end: "]
        staged = dataclasses.replace(rows[web], staged=True)
        await policy.enforce(walk, policies={web: staged, key("end"): row("t", on("Log"), on("Allow"))})
        assert await policy.passes(Packet(UDP, (7000, 80), version))
        assert told(heard) == ["t GlobalNetworkPolicy end: "], "what is staged tells nothing"


async def test_a_prefix_is_as_long_as_the_kernel_takes(policy: PolicyWorld) -> None:
    settings = dataclasses.replace(RETURN, log_group=GROUP, log_prefix="äöü" * 60)
    await policy.one(on("Log"), on("Allow"), settings=settings)
    with kernel_netns.run(policy.world.node, listen) as heard:
        assert await policy.passes(Packet(UDP, (7001, 80)))
        (prefix,) = told(heard)
    assert prefix.startswith("äöüäöü")
    assert len(prefix.encode()) <= 127
