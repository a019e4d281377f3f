"""The agent as a process: readiness and its reasons, one a node, clean ends, kill -9, and settings that change under it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.agent_process import AgentProcess, until, uplink
from tests.kernel.dataplane_world import without_learnt

pytestmark = pytest.mark.needs("netns", "nftables")


@pytest.fixture
def agent(netns: Callable[[], str], run_dir: Path) -> Iterator[AgentProcess]:
    """Not started yet, in a namespace with an uplink."""
    name = netns()
    uplink(name)
    process = AgentProcess(name, run_dir)
    yield process
    process.close()


def tortie(agent: AgentProcess, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = ["nsenter", f"--net=/run/netns/{agent.namespace}", sys.executable, "-m", "tortie", *arguments]
    return subprocess.run(
        argv, env=agent.environment, input=stdin, capture_output=True, text=True, check=False
    )


def workload(agent: AgentProcess, address: str = "10.65.0.9") -> None:
    """A workload's interface and its WorkloadEndpoint, as an ADD leaves them; returns when they are real."""
    ip = ["ip", "-n", agent.namespace, "link"]
    subprocess.run([*ip, "add", "cali0web", "type", "veth", "peer", "name", "web0"], check=True)
    subprocess.run([*ip, "set", "web0", "up"], check=True)
    spec = {
        "orchestrator": "k8s",
        "node": "node1",
        "workload": "web",
        "pod": "web",
        "endpoint": "eth0",
        "interfaceName": "cali0web",
        "ipNetworks": [f"{address}/32"],
        "profiles": ["kns.default"],
        "containerID": "abc",
        "mac": "02:00:00:00:00:09",
    }
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": "node1-k8s-web-eth0", "namespace": "default"},
        "spec": spec,
    }
    done = tortie(agent, "apply", "-f", "-", stdin=json.dumps(document))
    assert done.returncode == 0, done.stderr
    until(lambda: [row["real"] for row in agent.client.call_sync("endpoints")] == [True])


def felix(agent: AgentProcess, **spec: object) -> None:
    """Store these as the cluster's FelixConfiguration."""
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "FelixConfiguration",
        "metadata": {"name": "default"},
        "spec": spec,
    }
    done = tortie(agent, "apply", "-f", "-", stdin=json.dumps(document))
    assert done.returncode == 0, done.stderr


def in_namespace(agent: AgentProcess, *argv: str) -> str:
    command = ["nsenter", f"--net=/run/netns/{agent.namespace}", *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_it_becomes_ready_and_serves_health_and_metrics(agent: AgentProcess) -> None:
    agent.start().ready()
    assert agent.get("/liveness") == (200, "ok\n")
    assert agent.get("/readiness") == (200, "ok\n")
    status, metrics = agent.get("/metrics", 9091)
    assert status == 200
    assert 'felix_host{host="node1"} 1.0' in metrics
    assert "felix_resync_state 3.0" in metrics
    counters = tortie(agent, "policy", "counters", "--all", "-o", "json")
    assert (counters.returncode, json.loads(counters.stdout)) == (0, []), counters.stderr
    answer = agent.status()
    assert answer is not None
    assert (answer["node"], answer["pid"], answer["in_sync"]) == ("node1", agent.pid, True)
    shown = tortie(agent, "agent", "status")
    assert shown.returncode == 0
    assert f"node node1: agent pid {agent.pid}" in shown.stdout
    tables = tortie(agent, "agent", "dump", "-o", "json")
    assert {"table": "settings", "rows": 1} in json.loads(tables.stdout)
    settings = json.loads(tortie(agent, "agent", "dump", "settings", "-o", "json").stdout)
    assert settings[0]["row"]["nat_outgoing_exclusions"] == "IPPoolsAndHostIPs"
    assert "172.30.77.0/24" in tortie(agent, "agent", "dump", "kernel-routes").stdout
    refused = tortie(agent, "agent", "dump", "nothing")
    assert refused.returncode == 1
    assert "there is no table 'nothing'; there is settings" in refused.stderr


def test_sigterm_ends_it_cleanly_and_leaves_the_dataplane(agent: AgentProcess) -> None:
    agent.start().ready()
    assert agent.end(signal.SIGTERM) == 0
    assert "tortie" in in_namespace(agent, "nft", "list", "tables")
    assert agent.get("/liveness") == (0, "")


def test_after_kill_9_the_next_one_adopts_what_is_there_and_writes_nothing(agent: AgentProcess) -> None:
    agent.start().ready()
    workload(agent)
    until(lambda: not in_namespace(agent, "ip", "-6", "addr", "show", "tentative"))  # the kernel's own news
    rules = without_learnt(in_namespace(agent, "nft", "-a", "list", "ruleset"))
    routes = in_namespace(agent, "ip", "route")
    assert "cali0web" in rules
    assert "10.65.0.9 dev cali0web" in routes
    assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    assert in_namespace(agent, "ip", "route") == routes
    in_the_namespace = ["nsenter", f"--net=/run/netns/{agent.namespace}"]
    with (
        subprocess.Popen([*in_the_namespace, "nft", "monitor"], stdout=subprocess.PIPE, text=True) as nft,
        subprocess.Popen(
            [*in_the_namespace, "ip", "monitor", "route"], stdout=subprocess.PIPE, text=True
        ) as ip,
    ):
        agent.start().ready()
        for monitor in (nft, ip):
            monitor.terminate()
            assert monitor.stdout is not None
            assert monitor.stdout.read() == ""
    assert "tortie_dataplane_kernel_writes 0.0" in agent.get("/metrics", 9091)[1]
    assert without_learnt(in_namespace(agent, "nft", "-a", "list", "ruleset")) == rules


def test_a_second_agent_is_refused_and_told_by_whom(agent: AgentProcess, tmp_path: Path) -> None:
    agent.start().ready()
    for environment in ({}, {"TORTIE_RUN_DIR": str(tmp_path / "other")}):
        second = subprocess.run(
            [
                "nsenter",
                f"--net=/run/netns/{agent.namespace}",
                sys.executable,
                "-m",
                "tortie",
                "agent",
                "run",
            ],
            env={**agent.environment, **environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 2
        assert f"another agent, pid {agent.pid}, runs" in second.stderr
    assert agent.get("/readiness")[0] == 200


def test_it_is_live_and_says_why_it_is_not_ready_while_the_datastore_is_away(agent: AgentProcess) -> None:
    agent.environment["TORTIE_DATASTORE"] = "etcd://127.0.0.1:1"
    agent.start()
    until(lambda: agent.get("/readiness")[0] == 503 and "127.0.0.1:1" in agent.get("/readiness")[1])
    assert agent.get("/liveness") == (200, "ok\n")
    answer = agent.status()
    assert answer is not None
    assert "127.0.0.1:1" in answer["datastore"]["state"]
    assert agent.end(signal.SIGTERM) == 0


def test_hot_settings_change_at_once_and_others_end_it_with_129(agent: AgentProcess) -> None:
    agent.start().ready()
    felix(agent, healthPort=19099, prometheusMetricsPort=19091, logSeverityScreen="Debug")
    until(lambda: agent.get("/liveness", 19099)[0] == 200 and agent.get("/metrics", 19091)[0] == 200)
    assert agent.get("/liveness", 9099) == (0, "")
    felix(agent, healthPort=19099, interfacePrefix="wl")
    assert agent.child is not None
    assert agent.child.wait(10) == 129
    assert "interface_prefix changed" in agent.log.read_text()


@pytest.mark.parametrize(
    ("option", "reporter"),
    [
        ("--hang-calculation-after", "CalculationGraph"),
        ("--hang-dataplane-after", "InternalDataplaneMainLoop"),
    ],
)
def test_a_loop_that_hangs_makes_it_not_live_within_the_timeout(
    agent: AgentProcess, option: str, reporter: str
) -> None:
    agent.start().ready()
    felix(agent, healthTimeoutOverrides=[{"name": reporter, "timeout": "1s"}])
    agent.end(signal.SIGTERM)
    agent.start(option, "6").ready()
    assert agent.get("/liveness")[0] == 200
    until(lambda: agent.get("/liveness")[0] == 503, 15)
    assert f"{reporter}: silent for" in agent.get("/liveness")[1]


def test_bad_configuration_is_named_and_ends_it(agent: AgentProcess) -> None:
    agent.environment["IP_AUTODETECTION_METHOD"] = "by-magic"
    assert agent.start().child is not None
    assert agent.end(0) == 2
    assert "by-magic" in agent.log.read_text()


def test_endpoint_status_files_are_kept(agent: AgentProcess, run_dir: Path) -> None:
    stale = run_dir / "endpoint-status" / "sdfsdf"
    stale.parent.mkdir()
    stale.touch()
    agent.start().ready()
    felix(agent, endpointStatusPathPrefix=str(run_dir))
    assert agent.child is not None
    assert agent.child.wait(10) == 129
    agent.start().ready()
    until(lambda: not stale.exists())
    workload(agent)
    file = stale.parent / "k8s default%2Fweb eth0"
    until(file.exists)
    assert json.loads(file.read_text())["ipv4Nets"] == ["10.65.0.9/32"]
    written = file.stat().st_mtime_ns
    agent.end(signal.SIGKILL)
    agent.start().ready()
    assert file.stat().st_mtime_ns == written
    done = tortie(agent, "delete", "workloadendpoint", "node1-k8s-web-eth0", "-n", "default")
    assert done.returncode == 0, done.stderr
    until(lambda: not file.exists())
