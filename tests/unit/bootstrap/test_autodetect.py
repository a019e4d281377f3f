"""Which address a node is known by."""

from __future__ import annotations

import pytest

from tortie.agent.autodetect import (
    DEFAULT_MTU,
    MTU_PATTERN,
    Found,
    HostInterface,
    choose,
    host_interface,
    link_mtu,
    link_segments,
    parse_method,
    why_none,
)
from tortie.errors import UsageError
from tortie.host.links import Link, LinkAddress, SegmentSizes
from tortie.net.addresses import Address, Interface


def nic(name: str, *addresses: str, up: bool = True, mtu: int = 1500) -> HostInterface:
    return HostInterface(name=name, up=up, mtu=mtu, addresses=tuple(map(Interface.parse, addresses)))


MACHINE = (
    nic("lo", "127.0.0.1/8", "::1/128"),
    nic("docker0", "172.17.0.1/16"),
    nic("eth9", "10.9.9.9/24", up=False),
    nic("tun0", "169.254.3.3/16", "fe80::3/64"),
    nic("eth0", "172.30.0.11/24", "fe80::1/64", "fd30::11/64"),
    nic("eth1", "203.0.113.11/24", "198.51.100.11/24", "2001:db8::11/64"),
    nic("cali0123456789a", "10.77.0.1/32"),
)


@pytest.mark.parametrize(
    ("method", "interface", "address"),
    [
        ("first-found", "eth0", "172.30.0.11/24"),
        ("interface=eth1", "eth1", "203.0.113.11/24"),
        ("interface=ens.*,eth[1-9]", "eth1", "203.0.113.11/24"),
        ("interface=docker0", "docker0", "172.17.0.1/16"),
        ("skip-interface=eth0,tun.*", "eth1", "203.0.113.11/24"),
        ("cidr=198.51.100.0/24,10.0.0.0/8", "eth1", "198.51.100.11/24"),
    ],
)
def test_methods_for_ipv4(method: str, interface: str, address: str) -> None:
    assert choose(parse_method(method), 4, MACHINE) == Found(interface, Interface.parse(address))
    assert str(parse_method(method)) == method


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("first-found", "fd30::11/64"),
        ("interface=eth1", "2001:db8::11/64"),
        ("skip-interface=eth0", "2001:db8::11/64"),
        ("cidr=2001:db8::/32", "2001:db8::11/64"),
    ],
)
def test_methods_for_ipv6(method: str, address: str) -> None:
    found = choose(parse_method(method), 6, MACHINE)
    assert found is not None
    assert found.address == Interface.parse(address)


def test_can_reach_takes_the_address_that_the_kernel_would_speak_from() -> None:
    method = parse_method("can-reach=203.0.113.1")
    found = choose(method, 4, MACHINE, Address.parse("203.0.113.11"))
    assert found == Found("eth1", Interface.parse("203.0.113.11/24"))
    assert choose(method, 4, MACHINE, None) is None


def test_nothing_found_is_explained() -> None:
    method = parse_method("cidr=192.168.0.0/16")
    assert choose(method, 4, MACHINE) is None
    said = why_none(method, 4, MACHINE)
    for part in (
        "docker0 is passed over",
        "eth9 is down",
        "tun0 has no IPv4 address",
        "eth0 has 172.30.0.11/24, which does not match",
    ):
        assert part in said
    assert why_none(method, 4, ()) == "there is no interface"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no autodetection method"),
        ("fastest", "use first-found, can-reach=ADDRESS"),
        ("first-found=eth0", "no autodetection method"),
        ("can-reach=", "no autodetection method"),
        ("interface=", "no autodetection method"),
        ("interface=eth(", "no regular expression"),
        ("cidr=10.0.0.0/33", "cidr=10.0.0.0/33"),
        ("kubernetes-internal-ip", "needs Kubernetes"),
    ],
)
def test_bad_methods_say_what_to_write(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why.replace("(", r"\(").replace("/", "/")):
        parse_method(text)


def test_tentative_and_narrow_addresses_are_not_the_nodes_own() -> None:
    link = Link(name="eth0", index=2, up=True, mtu=9000)
    addresses = [
        LinkAddress(index=2, interface=Interface.parse("fe80::1/64"), scope=253),
        LinkAddress(index=2, interface=Interface.parse("fd30::9/64"), tentative=True),
        LinkAddress(index=2, interface=Interface.parse("2001:db8::beef/64"), permanent=False),
        LinkAddress(index=2, interface=Interface.parse("2001:db8::1/64")),
    ]
    found = host_interface(link, addresses)
    assert [str(each) for each in found.addresses] == ["2001:db8::1/64", "2001:db8::beef/64"]
    assert (found.name, found.mtu) == ("eth0", 9000)


def test_scenario_49_the_smallest_mtu_that_counts() -> None:
    one = nic("eth0", mtu=1400)
    assert link_mtu(MTU_PATTERN, [one]) == 1400
    assert link_mtu(MTU_PATTERN, [one, nic("eth1", mtu=1300, up=False)]) == 1400, (
        "a NIC that is down does not count"
    )
    assert link_mtu(MTU_PATTERN, [one, nic("eth1", mtu=1300)]) == 1300, "a second NIC does"
    assert link_mtu(MTU_PATTERN, [one, nic("docker0", mtu=1300), nic("cali1", mtu=1200)]) == 1400
    assert link_mtu("^bond0$", [one]) == DEFAULT_MTU
    assert link_mtu("^eth0$", [one, nic("eth1", mtu=1300)]) == 1400
    for name in ("enp0s3", "ens3", "eno1", "wlp2s0", "wlan0", "enx001122334455"):
        assert link_mtu(MTU_PATTERN, [nic(name, mtu=1234)]) == 1234


def test_the_smallest_segment_sizes_that_count() -> None:
    def sized(name: str, ipv4: int, ipv6: int, *, up: bool = True) -> HostInterface:
        return HostInterface(name=name, up=up, segments=SegmentSizes(ipv4, ipv6))

    one = sized("eth0", 196608, 65536)
    assert link_segments(MTU_PATTERN, [one]) == SegmentSizes(196608, 65536)
    assert link_segments(MTU_PATTERN, [one, sized("eth1", 65536, 16384)]) == SegmentSizes(65536, 16384)
    assert link_segments(MTU_PATTERN, [one, sized("eth1", 65536, 131072)]) == SegmentSizes(65536, 65536)
    others = [sized("eth1", 9, 9, up=False), sized("docker0", 9, 9)]
    assert link_segments(MTU_PATTERN, [one, *others]) == SegmentSizes(196608, 65536)
    assert link_segments(MTU_PATTERN, [one, sized("eth1", 0, 0)]) == SegmentSizes(), "one that is not told"
    assert link_segments("^bond0$", [one]) == SegmentSizes()
