"""Each criterion of a rule, by itself and together; and how sets are asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.verdict.rows import A6, B6, A, B, packet, ports, rule, state
from tortie.desired.ipsets import Member
from tortie.desired.policies import EntityMatch, ICMPMatch, PortRange
from tortie.net.addresses import Address, Prefix
from tortie.verdict.matching import matches, misses
from tortie.verdict.members import MemberIndex
from tortie.verdict.packet import ICMP, TCP, UDP

STATE = state(
    sets={"web": ["10.0.0.2/32", "fd00::2/128"], "net": ["10.0.0.0/24", "10.0.0.0/8", "0.0.0.0/1"]},
    ports=[Member("http", B.prefix, TCP, 80), Member("http", B6.prefix, TCP, 8080)],
)
PING: dict[str, Any] = {"protocol": ICMP, "source_port": None, "destination_port": None}


def nets(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(Prefix.parse, texts))


@pytest.mark.parametrize(
    ("criteria", "missed"),
    [
        ({}, []),
        ({"ip_version": 4}, []),
        ({"ip_version": 6}, ["ipVersion"]),
        ({"protocol": TCP}, []),
        ({"protocol": UDP}, ["protocol"]),
        ({"not_protocol": UDP}, []),
        ({"not_protocol": TCP}, ["notProtocol"]),
        ({"icmp": ICMPMatch(8)}, ["icmp"]),
        ({"not_icmp": ICMPMatch(8)}, []),
        ({"source": EntityMatch(nets=nets("10.0.0.0/30"))}, []),
        ({"source": EntityMatch(nets=nets("10.0.1.0/30", "10.0.0.1/32"))}, []),
        ({"source": EntityMatch(nets=())}, ["source.nets"]),
        ({"source": EntityMatch(nets=nets("fd00::/8"))}, ["source.nets"]),
        ({"source": EntityMatch(not_nets=nets("fd00::/8", "10.0.0.2/32"))}, []),
        ({"source": EntityMatch(not_nets=nets("10.0.0.0/8"))}, ["source.notNets"]),
        ({"destination": EntityMatch(sets=("web",))}, []),
        ({"destination": EntityMatch(sets=("web", "net"))}, []),
        ({"source": EntityMatch(sets=("web", "net"))}, ["source.selector"]),
        ({"source": EntityMatch(sets=("unknown",))}, ["source.selector"]),
        ({"source": EntityMatch(not_sets=("web", "unknown"))}, []),
        ({"destination": EntityMatch(not_sets=("web",))}, ["destination.notSelector"]),
        ({"destination": ports(79, 80)}, []),
        ({"destination": EntityMatch(ports=(PortRange(81, 90), PortRange(70, 80)))}, []),
        ({"destination": ports(443)}, ["destination.ports"]),
        ({"destination": EntityMatch(named_ports=("http",))}, []),
        ({"source": EntityMatch(named_ports=("http",))}, ["source.ports"]),
        ({"destination": EntityMatch(ports=(PortRange(1, 2),), named_ports=("http",))}, []),
        ({"destination": EntityMatch(not_named_ports=("http",))}, ["destination.notPorts"]),
        ({"destination": EntityMatch(not_ports=(PortRange(80, 80),))}, ["destination.notPorts"]),
        ({"source": EntityMatch(not_ports=(PortRange(80, 80),))}, []),
        (
            {"protocol": UDP, "destination": EntityMatch(nets=nets("10.1.0.0/16"), ports=(PortRange(1, 1),))},
            ["protocol", "destination.nets", "destination.ports"],
        ),
    ],
)
def test_a_criterion(criteria: dict[str, Any], missed: list[str]) -> None:
    assert list(misses(rule(**criteria), packet(), STATE)) == missed
    assert matches(rule(**criteria), packet(), STATE) is not bool(missed)


def test_a_named_port_is_one_of_address_protocol_and_number() -> None:
    named = rule(destination=EntityMatch(named_ports=("http",)))
    assert matches(named, packet(A6, B6, 8080), STATE)
    assert not matches(named, packet(A6, B6, 80), STATE)
    assert not matches(named, packet(protocol=UDP), STATE)
    assert not matches(named, packet(destination=A), STATE)


@pytest.mark.parametrize(
    ("match", "type_", "code", "holds"),
    [
        (ICMPMatch(8), 8, 0, True),
        (ICMPMatch(8), 0, 0, False),
        (ICMPMatch(3, 1), 3, 1, True),
        (ICMPMatch(3, 1), 3, 0, False),
        (ICMPMatch(3, 0), 3, 0, True),
    ],
)
def test_icmp(match: ICMPMatch, type_: int, code: int, holds: bool) -> None:
    ping = packet(icmp_type=type_, icmp_code=code, **PING)
    assert matches(rule(icmp=match), ping, STATE) is holds
    assert matches(rule(not_icmp=match), ping, STATE) is not holds


def test_a_packet_without_ports_meets_no_rule_that_names_some() -> None:
    ping = packet(icmp_type=8, **PING)
    assert not matches(rule(destination=ports(80)), ping, STATE)
    assert not matches(rule(destination=EntityMatch(named_ports=("http",))), ping, STATE)


addresses = st.one_of(
    st.builds(Address, st.just(4), st.integers(0, 15)), st.builds(Address, st.just(6), st.integers(0, 15))
)


def _around(address: Address, up: int) -> Prefix:
    return address.prefix.supernet(address.prefix.length - up)


prefixes = st.builds(_around, addresses, st.integers(0, 4))


@given(st.lists(prefixes), st.lists(prefixes), addresses)
def test_a_set_holds_what_its_members_hold(put: list[Prefix], gone: list[Prefix], address: Address) -> None:
    index = MemberIndex()
    for prefix in (*put, *put):
        index.add(Member("s", prefix))
    for prefix in gone:
        index.discard(Member("s", prefix))
    left = set(put) - set(gone)
    assert index.holds(address) is any(prefix.holds(address) for prefix in left)
    assert set(index.prefixes()) == {prefix for prefix in left if not prefix.is_single}
