"""The agent while etcd is away, for good or silently: it says so, costs nothing, and follows again (Felix's scenarios 52, 53)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.agent_process import AgentProcess, until, uplink
from tests.kernel.dataplane_world import without_learnt
from tests.kernel.test_agent import felix, in_namespace

pytestmark = pytest.mark.needs("netns", "nftables", "etcd")

TICKS = os.sysconf("SC_CLK_TCK")


class Etcd:
    """An etcd on the loopback of a namespace."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self._argv = [
            *("nsenter", f"--net=/run/netns/{namespace}", "etcd"),
            *("--data-dir", str(folder / "etcd"), "--log-level", "error", "--unsafe-no-fsync"),
            *(
                "--listen-client-urls",
                "http://127.0.0.1:2379",
                "--advertise-client-urls",
                "http://127.0.0.1:2379",
            ),
            *(
                "--listen-peer-urls",
                "http://127.0.0.1:2380",
                "--initial-advertise-peer-urls",
                "http://127.0.0.1:2380",
            ),
            *("--initial-cluster", "default=http://127.0.0.1:2380"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def pair(netns: Callable[[], str], run_dir: Path) -> Iterator[tuple[AgentProcess, Etcd]]:
    """A ready agent, and its etcd."""
    name = netns()
    uplink(name)
    etcd = Etcd(name, run_dir)
    etcd.start()
    agent = AgentProcess(name, run_dir, {"TORTIE_DATASTORE": "etcd://127.0.0.1:2379"})
    agent.start().ready(40)
    yield agent, etcd
    agent.close()
    etcd.signal(signal.SIGCONT)
    etcd.kill()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def change(agent: AgentProcess) -> None:
    """A change in the datastore that shows in the agent; tried until the datastore takes it."""
    until(lambda: _felix_taken(agent), 30)
    until(lambda: agent.get("/liveness", 19099)[0] == 200, 10)


def _felix_taken(agent: AgentProcess) -> bool:
    try:
        felix(agent, healthPort=19099)
    except AssertionError:
        return False
    return True


def test_etcd_that_is_stopped_is_told_costs_nothing_and_is_followed_again(
    pair: tuple[AgentProcess, Etcd],
) -> None:
    agent, etcd = pair
    rules = without_learnt(in_namespace(agent, "nft", "list", "ruleset"))
    etcd.kill()
    until(lambda: agent.get("/readiness")[0] == 503)
    assert "127.0.0.1:2379" in agent.get("/readiness")[1]
    assert agent.get("/liveness") == (200, "ok\n")
    before, started = cpu_seconds(agent.pid), time.monotonic()
    time.sleep(4)
    used = (cpu_seconds(agent.pid) - before) / (time.monotonic() - started)
    assert used < 0.2
    assert without_learnt(in_namespace(agent, "nft", "list", "ruleset")) == rules
    etcd.start()
    until(lambda: agent.get("/readiness")[0] == 200, 30)
    change(agent)


def test_etcd_that_falls_silent_is_found_out_and_followed_again(pair: tuple[AgentProcess, Etcd]) -> None:
    agent, etcd = pair
    etcd.signal(signal.SIGSTOP)
    until(lambda: agent.get("/readiness")[0] == 503, 30)
    assert agent.get("/liveness") == (200, "ok\n")
    etcd.signal(signal.SIGCONT)
    until(lambda: agent.get("/readiness")[0] == 200, 30)
    change(agent)
