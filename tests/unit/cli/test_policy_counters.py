"""``tortie policy counters``: tables and JSON of what the agent tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from tortie.admin.client import AdminClient
from tortie.cli.policy_counters import counters
from tortie.errors import AgentUnavailable, UsageError

ROWS: list[dict[str, Any]] = [
    {
        "direction": direction, "decided_by": by, "action": action, "tier": tier, "kind": kind, "namespace": namespace,
        "name": name, "rule": rule, "staged": staged, "packets": packets, "bytes": packets * 60,
    }
    for direction, by, action, tier, kind, namespace, name, rule, staged, packets in (
        ("ingress", "rule", "Allow", "default", "NetworkPolicy", "shop", "web", 0, False, 5),
        ("ingress", "rule", "Deny", "default", "NetworkPolicy", "shop", "web", 1, False, 2),
        ("ingress", "rule", "Deny", "default", "StagedNetworkPolicy", "shop", "next", 0, True, 3),
        ("ingress", "tier-end", "Deny", "default", "", "", "", None, False, 4),
        ("egress", "no-profile", "Deny", "", "", "", "", None, False, 1),
        ("egress", "rule", "Allow", "default", "GlobalNetworkPolicy", "", "quiet", 0, False, 0),
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def call_sync(self: AdminClient, op: str, **_: Any) -> Any:
        assert op == "counters"
        return ROWS

    monkeypatch.setattr(AdminClient, "call_sync", call_sync)


def lines(*arguments: str) -> list[str]:
    done = CliRunner().invoke(counters, arguments)
    assert done.exit_code == 0, done.output
    return [" ".join(line.split()) for line in done.output.splitlines()]


def test_what_has_counted_is_shown() -> None:
    assert lines() == [
        "DIRECTION TIER POLICY RULE ACTION PACKETS BYTES",
        "ingress default NetworkPolicy shop/web 0 Allow 5 300",
        "ingress default NetworkPolicy shop/web 1 Deny 2 120",
        "ingress default StagedNetworkPolicy shop/next 0 Deny (staged) 3 180",
        "ingress default (end of the tier) Deny 4 240",
        "egress (no profile allows) Deny 1 60",
    ]


def test_without_an_agent_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise AgentUnavailable("no agent answers")

    monkeypatch.setattr(AdminClient, "call_sync", nobody)
    with pytest.raises(UsageError, match="no agent answers"):
        CliRunner().invoke(counters, [], catch_exceptions=False)


def test_only_what_was_denied() -> None:
    shown = lines("--denied")
    assert len(shown) == 4
    assert not any("Allow" in line or "staged" in line for line in shown)


def test_everything_and_for_machines() -> None:
    assert any("quiet" in line for line in lines("--all"))
    done = CliRunner().invoke(counters, ["-o", "json", "--all"])
    assert json.loads(done.output) == ROWS
