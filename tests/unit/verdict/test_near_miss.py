"""For a deny: which rule came nearest, which field missed, what it wanted and what it got."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.verdict.rows import A, applied, packet, policy, ports, rule, state, tier
from tortie.desired.policies import EntityMatch, ICMPMatch, PolicyRow, Written
from tortie.net.addresses import Prefix
from tortie.verdict.engine import asking, evaluate
from tortie.verdict.near_miss import near_miss
from tortie.verdict.packet import ICMP, TCP, UDP
from tortie.verdict.steps import NearMiss, Step


def nearest(policies: dict[str, PolicyRow], **asked: Any) -> NearMiss | None:
    rows = state(policies=policies, sets={"web": ["10.0.0.9/32"], "here": ["10.0.0.1/32"]})
    steps: list[Step] = []
    asked_for = packet(**asked)
    evaluate(rows, applied(tier(*policies)), "ingress", asking(asked_for, rows), steps=steps)
    return near_miss(steps, asked_for, rows)


def test_the_port_is_nearer_than_the_peer() -> None:
    found = nearest(
        {
            "a": policy(rule(source=EntityMatch(sets=("web",)), destination=ports(80))),
            "b": policy(
                rule(protocol=UDP, destination=ports(53)),
                rule(protocol=TCP, source=EntityMatch(sets=("here",)), destination=ports(443, 8443)),
            ),
        }
    )
    assert found is not None
    assert (found.field, found.wanted, found.got) == ("destination.ports", "443, 8443", "80")
    assert (found.step.policy and found.step.policy.name, found.step.rule) == ("b", 1)


def test_denying_staged_and_unreached_rules_would_have_allowed_nothing() -> None:
    off: dict[str, Any] = {"destination": ports(443)}
    assert nearest({"a": policy(rule("Deny", **off), rule("Pass", **off))}) is None
    assert nearest({"a": policy(rule(**off), staged=True)}) is None
    assert nearest({"a": policy(rule("Deny"), rule(**off))}) is None


@pytest.mark.parametrize(
    ("criteria", "field", "wanted", "got"),
    [
        ({"protocol": UDP}, "protocol", "udp", "tcp"),
        ({"not_protocol": TCP}, "notProtocol", "not tcp", "tcp"),
        ({"ip_version": 6}, "ipVersion", "6", "4"),
        ({"icmp": ICMPMatch(8, 0)}, "icmp", "type 8 code 0", "tcp"),
        ({"source": EntityMatch(sets=("web",))}, "source.selector", "meaning of web", "10.0.0.1"),
        (
            {"source": EntityMatch(not_sets=("here",))},
            "source.notSelector",
            "not meaning of here",
            "10.0.0.1",
        ),
        (
            {"source": EntityMatch(nets=(Prefix.parse("10.1.0.0/16"),))},
            "source.nets",
            "10.1.0.0/16",
            "10.0.0.1",
        ),
        ({"source": EntityMatch(nets=())}, "source.nets", "no address at all", "10.0.0.1"),
        ({"source": EntityMatch(not_nets=(A.prefix,))}, "source.notNets", "not 10.0.0.1/32", "10.0.0.1"),
        ({"destination": EntityMatch(named_ports=("web",))}, "destination.ports", "meaning of web", "80"),
        (
            {"destination": EntityMatch(not_ports=ports(80).ports)},
            "destination.notPorts",
            "not 80",
            "80",
        ),
    ],
)
def test_each_field_in_words(criteria: dict[str, Any], field: str, wanted: str, got: str) -> None:
    found = nearest({"a": policy(rule(**criteria))})
    assert found is not None
    assert (found.field, found.wanted, found.got) == (field, wanted, got)
    assert found.fields == (field,)


def test_the_authors_words_come_first() -> None:
    written = (
        Written("destination.ports", "http"),
        Written("source.namespaceSelector", "team == 'a'"),
        Written("source.selector", "app == 'web'"),
        Written("source.serviceAccounts.names", "bob"),
    )
    found = nearest({"a": policy(rule(source=EntityMatch(sets=("web",)), written=written))})
    assert found is not None
    assert found.field == "source.namespaceSelector"
    assert "team == 'a'" in found.wanted
    assert "source.selector: app == 'web'" in found.wanted
    assert "source.serviceAccounts.names: bob" in found.wanted
    assert "http" not in found.wanted


def test_icmp_in_words() -> None:
    ping: dict[str, Any] = {"protocol": ICMP, "source_port": None, "destination_port": None, "icmp_type": 8}
    found = nearest({"a": policy(rule(protocol=ICMP, icmp=ICMPMatch(0)))}, port=None, **ping)
    assert found is not None
    assert (found.wanted, found.got) == ("type 0", "type 8 code 0")
    missing_port = nearest({"a": policy(rule(destination=ports(80)))}, port=None, **ping)
    assert missing_port is not None
    assert missing_port.got == "no port"
