"""What the kernel tells of a traced packet, and how rules get their text."""

from __future__ import annotations

from tortie.kernel import netlink as nl
from tortie.kernel.nft_trace import Traced, TraceEvent, decode, rules_by_handle
from tortie.kernel.one_packet import crc32c, echo, init
from tortie.net.addresses import Address

LISTING = """\
table ip tortie { # handle 1
	map from-workload-map { # handle 5
		type ifname : verdict
	}

	chain filter-forward-from { # handle 6
		type filter hook forward priority filter; policy accept;
		ct state established,related counter packets 1 bytes 2 accept comment "flows" # handle 12
		iifname "cali*" goto from-workload # handle 13
	}

	chain egress/NetworkPolicy/shop/web { # handle 7
		tcp dport 80 accept comment "0: Allow" # handle 21
	}
}
table inet other {
	chain x {
		drop # handle 21
	}
}
"""


def test_rules_are_found_by_their_handle() -> None:
    assert rules_by_handle(LISTING) == {
        ("ip", "tortie", "filter-forward-from", 12): (
            'ct state established,related counter packets 1 bytes 2 accept comment "flows"'
        ),
        ("ip", "tortie", "filter-forward-from", 13): 'iifname "cali*" goto from-workload',
        ("ip", "tortie", "egress/NetworkPolicy/shop/web", 21): 'tcp dport 80 accept comment "0: Allow"',
        ("inet", "other", "x", 21): "drop",
    }


def message(*values: bytes) -> bytes:
    return b"\x02\0\0\0" + b"".join(values)


def test_a_rule_that_was_met() -> None:
    body = message(
        nl.text(1, "tortie"),
        nl.text(2, "from-workload"),
        nl.be64(3, 21),
        nl.be32(4, 3),
        nl.nested(5, nl.be32(1, -4), nl.text(2, "egress/group/x")),
        nl.be32(6, 7),
    )
    assert decode(body) == TraceEvent(
        number=7,
        family="ip",
        table="tortie",
        chain="from-workload",
        kind="rule",
        verdict="goto",
        target="egress/group/x",
        handle=21,
    )
    assert decode(body + nl.attr(8, b"\x45" + bytes(7) + b"\x3f" + bytes(11))).ttl == 63
    assert decode(body + nl.attr(8, b"\x60" + bytes(6) + b"\x3e" + bytes(32))).ttl == 62
    assert not decode(body).says_nothing


def test_the_policy_of_a_chain_and_the_end_of_its_rules() -> None:
    named = nl.text(1, "tortie"), nl.text(2, "c"), nl.be32(6, 7)
    policy = decode(message(*named, nl.be32(4, 1), nl.be32(16, 0)))
    assert (policy.kind, policy.verdict) == ("policy", "drop")
    end = decode(message(*named, nl.be32(4, 3), nl.nested(5, nl.be32(1, -1))))
    assert (end.verdict, end.says_nothing) == ("continue", True)


def test_the_packets_that_are_asked_about() -> None:
    addresses = tuple(map(Address.parse, ("10.0.0.1", "172.30.0.1", "fd00::1")))
    traced = Traced(sources=addresses, destination=Address.parse("10.0.0.2"), protocol=6, port=80)
    assert traced.matches() == (
        "ip saddr { 10.0.0.1, 172.30.0.1 } ip daddr 10.0.0.2 meta l4proto 6 tcp dport 80"
    )
    ping = Traced(sources=addresses, destination=Address.parse("fd00::2"), protocol=58)
    assert ping.matches() == "ip6 saddr { fd00::1 } ip6 daddr fd00::2 meta l4proto 58"


def test_checksums() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720
    words = [int.from_bytes(echo(8, 1)[at : at + 2], "big") for at in (0, 2, 4, 6)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    packet = init(5000)
    assert crc32c(packet[:8] + bytes(4) + packet[12:]) == int.from_bytes(packet[8:12], "little")
    assert int.from_bytes(packet[2:4], "big") == 5000
