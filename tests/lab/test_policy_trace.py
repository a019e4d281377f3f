"""``tortie policy`` beside real packets: what explain says is what the kernel does, and trace shows it rule by rule."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.lab_command import LabCommand, lab, wait_until

pytestmark = pytest.mark.needs("netns", "bird")

ISOLATE = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  selector: app == 'web'
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: UDP, destination: {ports: [53]}}
  - {action: Allow, protocol: TCP, source: {selector: app == 'client'}, destination: {ports: [80]}}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """A web server's pod on the first node, a client beside it and one on the second, and a policy between them."""
    with lab(f"tt-{os.getpid()}-trace", "--nodes", "3", "--dual-stack") as made:
        made.add_pod("web", "node1", "--labels", "app=web")
        made.add_pod("client", "node2", "--labels", "app=client")
        made.add_pod("neighbour", "node1", "--labels", "app=client")
        file = tmp_path_factory.mktemp("policy") / "web.yaml"
        file.write_text(ISOLATE)
        made.run("apply", "-f", str(file), "--datastore", made.exports()["TORTIE_DATASTORE"])
        _until_enforced(made)
        yield made


def _until_enforced(made: LabCommand) -> None:
    """The policy holds, and every pod has its way to the others: BGP needs its time on a busy machine."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        open_ = [traced(made, f"default/{name}", "default/web", "80/tcp") for name in ("client", "neighbour")]
        shut = traced(made, "default/client", "default/web", "81/tcp")
        if shut["lost"] and "node1" in shut["lost"] and all(each["came"] == "refused" for each in open_):
            return
    raise AssertionError("the policy is not enforced, or a pod is not reached, after a minute")


def traced(shared: LabCommand, source: str, destination: str, port: str, *more: str) -> dict[str, Any]:
    done = shared.run(
        "policy",
        "trace",
        "--from",
        source,
        "--to",
        destination,
        "--port",
        port,
        "-o",
        "json",
        *more,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 1) is (found["lost"] is not None)
    return found


def explained(shared: LabCommand, source: str, destination: str, port: str, *more: str) -> str:
    found: dict[str, Any] = shared.json(
        "policy", "explain", "--from", source, "--to", destination, "--port", port,
        "--datastore", shared.exports()["TORTIE_DATASTORE"], *more,
    )  # fmt: skip
    return str(found["verdict"])


@pytest.mark.parametrize("version", ["4", "6"])
@pytest.mark.parametrize("source", ["default/client", "default/neighbour"])
@pytest.mark.parametrize(
    ("port", "lost"),
    [
        ("80/tcp", None),
        ("81/tcp", "the end of tier default"),
        ("53/udp", "NetworkPolicy default/web"),
        ("icmp", "the end of tier default"),
        ("80/sctp", "the end of tier default"),
    ],
)
def test_the_trace_shows_what_explain_says(
    shared: LabCommand, version: str, source: str, port: str, lost: str | None
) -> None:
    more = ("--ip-version", version)
    found = traced(shared, source, "default/web", port, *more)
    assert explained(shared, source, "default/web", port, *more) == ("deny" if lost else "allow")
    if lost is None:
        assert found["lost"] is None
        assert found["came"] == "refused"  # nobody listens, so the packet was there
        assert any(hop["policy"] == "NetworkPolicy default/web" for hop in found["hops"])
    else:
        assert f"on node1 by {lost}" in found["lost"]
    assert any(hop["policy"] == "Profile kns.default" and hop["verdict"] == "accept" for hop in found["hops"])


@contextmanager
def way(made: LabCommand, node: str, version: str, kind: str, *how: str) -> Iterator[None]:
    """A route of this kind to the web server's pod on this node, before all others."""
    route = (kind, _address(made, "web", version), *how, "metric", "1")
    made.here(node, "ip", f"-{version}", "route", "add", *route)
    try:
        yield
    finally:
        made.here(node, "ip", f"-{version}", "route", "del", *route)


def _address(made: LabCommand, place: str, version: str) -> str:
    (link,) = json.loads(made.here(place, "ip", "-j", f"-{version}", "address", "show", "eth0"))
    return next(str(each["local"]) for each in link["addr_info"] if each["scope"] == "global")


@pytest.mark.parametrize("version", ["4", "6"])
def test_nodes_in_between_are_followed(shared: LabCommand, version: str) -> None:
    def ask(port: str = "80/tcp") -> dict[str, Any]:
        return traced(shared, "default/client", "default/web", port, "--ip-version", version)

    def nodes(found: dict[str, Any]) -> list[str]:
        return list(dict.fromkeys(hop["node"] for hop in found["hops"]))

    via = {node: ("unicast", "via", _address(shared, node, version)) for node in ("node2", "node3")}
    with way(shared, "node2", version, *via["node3"]):
        assert nodes(ask()) == ["node2", "node3", "node1"]
        assert ask()["came"] == "refused"
        assert "on node1 by the end of tier" in ask("81/tcp")["lost"]
        with way(shared, "node3", version, "blackhole"):
            assert ask("81/tcp")["lost"].startswith("on node3, after it arrived and before it was forwarded")
        with way(shared, "node3", version, *via["node2"]):
            assert ask("81/tcp")["lost"] == "in a circle: node2, node3, node2"
    assert nodes(ask()) == ["node2", "node1"]


def test_nothing_of_a_trace_is_left(shared: LabCommand) -> None:
    traced(shared, "node2", "default/web", "80/tcp")
    for node in ("node1", "node2", "node3"):
        assert "tortie-trace" not in shared.inside(node, "nft", "list", "tables")


def test_the_next_agent_removes_what_one_left_that_died_in_a_trace(shared: LabCommand) -> None:
    shared.inside("node1", "nft", "add", "table", "inet", "tortie-trace")
    agent = shared.pid("node1/agent")
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    wait_until(
        lambda: "tortie-trace" not in shared.here("node1", "nft", "list", "tables"),
        "the table is removed",
        seconds=60,
    )
    wait_until(lambda: shared.ready("node1"), "node1 is ready", seconds=60)


@pytest.mark.parametrize(("version", "headers"), [("4", 28), ("6", 48)])
def test_a_packet_that_is_too_big_says_where_and_for_which_mtu(
    shared: LabCommand, version: str, headers: int
) -> None:
    pod, wire = (_mtu(shared, place) for place in ("client", "node2"))
    more = ("--ip-version", version)

    def sized(size: int, port: str) -> dict[str, Any]:
        return traced(shared, "default/client", "node1", port, *more, "--size", str(size - headers))

    for port in ("53/udp", "icmp"):
        found = sized(pod + 1, port)
        assert found["came"] == "too-big"
        assert found["lost"] == f"in default/client: its {pod + 1} bytes are bigger than the MTU of {pod}"
        assert sized(pod, port)["came"] != "too-big"
    shared.here("node2", "ip", "link", "set", "eth0", "mtu", "1400")
    try:
        for port in ("53/udp", "icmp"):
            found = sized(1401, port)
            assert found["lost"] == "on node2: its 1401 bytes are bigger than the MTU of 1400"
            assert sized(1400, port)["came"] != "too-big"
    finally:
        shared.here("node2", "ip", "link", "set", "eth0", "mtu", str(wire))
    refused = shared.run(
        "policy",
        "trace",
        "--from",
        "default/client",
        "--to",
        "node1",
        "--port",
        "80/tcp",
        "--size",
        "9",
        check=False,
    )
    assert refused.returncode == 2
    assert "the first packet of 80/tcp has no payload" in refused.stderr


def _mtu(shared: LabCommand, place: str) -> int:
    (link,) = json.loads(shared.here(place, "ip", "-j", "link", "show", "eth0"))
    return int(link["mtu"])


def test_what_is_lost_without_a_policy(shared: LabCommand) -> None:
    shared.inside("node2", "ip", "route", "add", "unreachable", "198.51.100.0/24")
    found = traced(shared, "default/client", "198.51.100.1", "80/tcp")
    assert found["came"] == "no-route"
    assert "there is no route" in found["lost"]
    done = shared.run(
        "policy", "trace", "--from", "default/no", "--to", "default/web", "--port", "80", check=False
    )
    assert done.returncode == 2
    assert "default/client, default/neighbour, default/web" in done.stderr
