from __future__ import annotations

import dataclasses

import pytest

from tortie.host.links import Link, LinkAddress
from tortie.host.routes import Route
from tortie.kernel.pod_link import HOST_MAC, PodLink, SeenLink
from tortie.net.addresses import Address, Interface, Prefix
from tortie.workloads.check import differences

V4, V6 = Address.parse("10.65.0.1"), Address.parse("fd00:65::1")
WANTED = PodLink(host_name="cali1", pod_name="eth0", mac="02:00:00:00:00:01", addresses=(V4, V6), mtu=1450)


def carried(text: str, scope: int = 0) -> LinkAddress:
    return LinkAddress(index=2, interface=Interface.parse(text), scope=scope)


GOOD = SeenLink(
    host=Link(name="cali1", index=7, kind="veth", mac=HOST_MAC, mtu=1450, up=True),
    pod=Link(name="eth0", index=2, kind="veth", mac=WANTED.mac, mtu=1450, up=True, peer=7),
    addresses=(carried("10.65.0.1/32"), carried("fd00:65::1/128"), carried("fe80::1/64", scope=253)),
    routes=WANTED.routes(),
    switches=WANTED.switches(),
    host_routes=(Route(prefix=V4.prefix, interface="cali1"), Route(prefix=V6.prefix, interface="cali1")),
)


def test_what_is_as_promised_has_no_difference() -> None:
    assert list(differences(WANTED, GOOD)) == []


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (dataclasses.replace(GOOD, host=None), "there is no interface cali1 on the node"),
        (dataclasses.replace(GOOD, pod=None), "there is no interface eth0 in /run/netns/x"),
        (dataclasses.replace(GOOD, addresses=GOOD.addresses[1:]), "eth0 does not have the address 10.65.0.1"),
        (
            dataclasses.replace(GOOD, addresses=(*GOOD.addresses, carried("10.0.0.9/24"))),
            "eth0 has the address 10.0.0.9, which ADD did not give",
        ),
        (
            dataclasses.replace(
                GOOD, routes=tuple(r for r in GOOD.routes if r.prefix != Prefix.parse("0.0.0.0/0"))
            ),
            "the pod has no route to 0.0.0.0/0 via 169.254.1.1",
        ),
        (
            dataclasses.replace(GOOD, switches={**GOOD.switches, "net/ipv4/ip_forward": "1"}),
            "net/ipv4/ip_forward in the pod is 1 instead of 0",
        ),
        (dataclasses.replace(GOOD, host_routes=()), "the node has no route to 10.65.0.1 by cali1"),
        (
            dataclasses.replace(
                GOOD, host=Link(name="cali1", index=7, kind="veth", mac=HOST_MAC, mtu=1500, up=True)
            ),
            "cali1 has the MTU 1500 instead of 1450",
        ),
        (
            dataclasses.replace(GOOD, host=Link(name="cali1", index=7, kind="veth", mac=HOST_MAC, mtu=1450)),
            "cali1 is down",
        ),
        (
            dataclasses.replace(
                GOOD, host=Link(name="cali1", index=8, kind="veth", mac=HOST_MAC, mtu=1450, up=True)
            ),
            "eth0 is not wired to cali1",
        ),
    ],
)
def test_each_difference_is_told(seen: SeenLink, says: str) -> None:
    assert says in list(differences(WANTED, seen, "/run/netns/x"))
