"""What a machine says of its own addresses, asked in a namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tortie.agent.autodetect import Found, choose, host_interface, parse_method
from tortie.kernel import machine
from tortie.kernel import netns as kernel_netns
from tortie.net.addresses import Address, Interface

pytestmark = pytest.mark.needs("veth")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def two_uplinks(netns: Callable[[], str]) -> str:
    name, far = netns(), netns()
    for number, address in enumerate(("172.30.0.11/24", "203.0.113.11/24")):
        ip(
            "-n",
            name,
            "link",
            "add",
            f"eth{number}",
            "type",
            "veth",
            "peer",
            "name",
            f"far{number}",
            "netns",
            far,
        )
        ip("-n", far, "link", "set", f"far{number}", "up")
        ip("-n", name, "link", "set", f"eth{number}", "up")
        ip("-n", name, "addr", "add", address, "dev", f"eth{number}")
    ip("-n", name, "addr", "add", "fd30::11/64", "dev", "eth0", "nodad")
    ip("-n", name, "route", "add", "192.0.2.0/24", "via", "203.0.113.1")
    return name


def test_interfaces_and_their_addresses(two_uplinks: str) -> None:
    seen = [host_interface(link, addresses) for link, addresses in machine.interfaces(two_uplinks)]
    assert [each.name for each in seen] == ["lo", "eth0", "eth1"]
    assert [str(each) for each in seen[1].addresses] == ["172.30.0.11/24", "fd30::11/64"]
    assert choose(parse_method("first-found"), 4, seen) == Found("eth0", Interface.parse("172.30.0.11/24"))
    assert choose(parse_method("cidr=203.0.113.0/24"), 4, seen) == Found(
        "eth1", Interface.parse("203.0.113.11/24")
    )


def test_the_way_to_a_target_decides(two_uplinks: str) -> None:
    def towards(target: str) -> Address | None:
        return kernel_netns.run(two_uplinks, lambda: machine.source_towards(target, 4))

    assert towards("172.30.0.1") == Address.parse("172.30.0.11")
    assert towards("192.0.2.7") == Address.parse("203.0.113.11")
    assert towards("8.8.8.8") is None, "there is no default route"
    assert towards("no-such-host.invalid") is None
    six = kernel_netns.run(two_uplinks, lambda: machine.source_towards("fd30::1", 6))
    assert six == Address.parse("fd30::11")
