"""Scenario 58, as nftables has it: the kernel does not take the rules. The agent says why it is not ready, and goes on trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.agent_process import AgentProcess, until, uplink

pytestmark = pytest.mark.needs("netns", "nftables")
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")


@pytest.fixture
def agent(netns: Callable[[], str], run_dir: Path) -> Iterator[AgentProcess]:
    name = netns()
    uplink(name)
    process = AgentProcess(name, run_dir)
    yield process
    process.close()


def test_without_the_right_to_write_rules_it_is_not_ready_and_says_why(agent: AgentProcess) -> None:
    agent.start(through=WITHOUT_RIGHTS)
    until(lambda: "CAP_NET_ADMIN" in _reason(agent), seconds=30)
    # It lives on, for a restart would not help.
    assert agent.get("/liveness")[0] == 200
    status, body = agent.get("/readiness")
    assert (status, "CAP_NET_ADMIN" in body) == (503, True), body
    assert "Traceback" not in agent.log.read_text()
    assert agent.end() == 0
    agent.start().ready()


def _reason(agent: AgentProcess) -> str:
    answer = agent.status()
    return "" if answer is None or answer["ready"] else str(answer["reason"])
