"""What a packet met, by the names of people's policies."""

from __future__ import annotations

import pytest

from tortie.agent.traces import policy_of
from tortie.kernel.nft_trace import TraceEvent

NAMES = {"ingress/NetworkPolicy/shop/web": "NetworkPolicy shop/web"}


@pytest.mark.parametrize(
    ("chain", "rule", "policy"),
    [
        ("ingress/NetworkPolicy/shop/web", "counter packets 0 bytes 0 drop", "NetworkPolicy shop/web"),
        (
            "ingress/stretch/a/b",
            'tcp dport 80 counter name "ingress/NetworkPolicy/shop/web/0123456789abcdef.2" accept',
            "NetworkPolicy shop/web",
        ),
        ("ingress/stretch/a/b", 'counter name "ingress/NetworkPolicy/shop/gone/0123456789abcdef" drop', ""),
        ("ingress/stretch/a/b", "jump ingress/NetworkPolicy/shop/web", ""),
    ],
)
def test_a_rule_is_its_chains_or_its_counters_policys(chain: str, rule: str, policy: str) -> None:
    event = TraceEvent(
        number=1, family="ip", table="tortie", chain=chain, kind="rule", verdict="accept", rule=rule
    )
    assert policy_of(event, NAMES) == policy
