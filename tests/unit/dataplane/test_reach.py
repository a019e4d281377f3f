"""What a run of policies cannot speak of is led past it, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.linux.rules.reach import Reach, of_rules, of_several, past
from tortie.desired.policies import EntityMatch, PortRange, RuleRow
from tortie.host.nft import Compare, InRange, Meta, Rule

TCP, UDP = 6, 17


@st.composite
def ranges(draw: st.DrawFn) -> PortRange:
    first = draw(st.integers(0, 65535))
    return PortRange(first, min(first + draw(st.integers(0, 3000)), 65535))


@st.composite
def rules(draw: st.DrawFn) -> RuleRow:
    ports = EntityMatch(ports=tuple(draw(st.lists(ranges(), max_size=3))))
    protocol = draw(st.sampled_from([TCP, TCP, TCP, UDP, 132, 1]))
    return RuleRow(action="Allow", protocol=protocol, destination=ports)


def matches(rule: RuleRow, protocol: int, port: int) -> bool:
    ports = rule.destination.ports
    return rule.protocol == protocol and (not ports or any(low <= port <= high for low, high in ports))


def led_past(rule: Rule, protocol: int, port: int) -> bool:
    loaded = b""
    for expression in rule.expressions[:-1]:
        if isinstance(expression, Compare):
            if (loaded == expression.data) != (expression.operator == "eq"):
                return False
        elif isinstance(expression, InRange):
            if (expression.low <= loaded <= expression.high) == expression.inverted:
                return False
        else:
            loaded = bytes([protocol]) if isinstance(expression, Meta) else port.to_bytes(2, "big")
    return True


@given(st.lists(st.lists(rules(), max_size=3), min_size=1, max_size=8), st.data())
def test_what_a_rule_matches_is_never_led_past_it(policies: list[list[RuleRow]], data: st.DataObject) -> None:
    tests = past(of_several([of_rules(policy) for policy in policies]))
    edges = [edge for policy in policies for rule in policy for edge in _edges(rule)]
    port = data.draw(st.sampled_from(edges) if edges else st.integers(0, 65535))
    protocol = data.draw(st.sampled_from([TCP, UDP, 132, 1, 47]))
    if any(matches(rule, protocol, port) for policy in policies for rule in policy):
        assert not any(led_past(test, protocol, port) for test in tests)


def _edges(rule: RuleRow) -> list[int]:
    """Where a range begins and ends, and just beyond."""
    found = [end for ports in rule.destination.ports for low, high in [ports] for end in (low, high)]
    return [port for end in found for port in (end - 1, end, end + 1) if 0 <= port <= 65535]


def test_most_of_what_no_rule_matches_is_led_past() -> None:
    tcp = of_rules(
        [RuleRow(action="Allow", protocol=TCP, destination=EntityMatch(ports=(PortRange(80, 80),)))]
    )
    far = of_rules(
        [RuleRow(action="Deny", protocol=TCP, destination=EntityMatch(ports=(PortRange(8000, 8999),)))]
    )
    tests = past(of_several([tcp, far]))
    for protocol, port in ((UDP, 80), (TCP, 79), (TCP, 443), (TCP, 9000)):
        assert any(led_past(test, protocol, port) for test in tests), (protocol, port)


def test_what_may_match_anything_is_always_asked() -> None:
    anything = of_rules([RuleRow(action="Allow")])
    named = of_rules(
        [RuleRow(action="Allow", protocol=TCP, destination=EntityMatch(named_ports=("n:http",)))]
    )
    assert anything is None
    assert not past(of_several([Reach(frozenset({TCP}), ((80, 80),)), anything]))
    assert named == Reach(frozenset({TCP}), ((0, 65535),))
    assert not past(Reach()), "policies without rules: nothing is gained"
