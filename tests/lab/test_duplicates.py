"""Scenario 45: one address, two endpoints. IPAM's word decides, the loser's interface is down, and the loser comes back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab_command import TORTIE, LabCommand, lab, wait_until

pytestmark = [pytest.mark.needs("bird", "fping"), pytest.mark.timeout(120)]


def tortie(made: LabCommand, *argv: str) -> Any:
    done = subprocess.run(
        [*TORTIE, *argv, "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **made.exports()},
    )
    return json.loads(done.stdout)


def claim(made: LabCommand, folder: Path, pod: str, node: str, address: str) -> None:
    """Write into a pod's endpoint that it has this address."""
    document = tortie(made, "get", "workloadendpoint", f"{node}-k8s-{pod}-eth0", "-n", "default")
    document["spec"]["ipNetworks"] = [f"{address}/32"]
    document["metadata"].pop("resourceVersion", None)
    file = folder / f"{pod}.json"
    file.write_text(json.dumps(document))
    subprocess.run([*TORTIE, "apply", "-f", str(file)], check=True, env={**os.environ, **made.exports()})


def is_up(made: LabCommand, node: str, interface: str) -> bool:
    return ",UP" in made.inside(node, "ip", "link", "show", "dev", interface)


def route_of(made: LabCommand, node: str, address: str) -> str:
    return made.inside(node, "ip", "route", "show", f"{address}/32")


def answers(made: LabCommand, place: str, address: str) -> bool:
    return "alive" in made.inside(place, "fping", "-t", "200", "-r", "1", address, check=False)


def test_one_address_two_endpoints(unique_name: Callable[[], str], run_dir: Path) -> None:
    with lab(unique_name(), "--nodes", "2") as made:
        # By name "b" would come first: that "z" holds its address is IPAM's word.
        a, b, c = made.add_pod("z", "node1"), made.add_pod("b", "node1"), made.add_pod("c", "node2")
        address, own = a["ips"][0], b["ips"][0]

        claim(made, run_dir, "b", "node1", address)
        wait_until(lambda: not is_up(made, "node1", b["interface"]), "the loser's interface to go down")
        assert a["interface"] in route_of(made, "node1", address)
        assert not route_of(made, "node1", own)
        assert answers(made, "default/c", address)

        claim(made, run_dir, "b", "node1", own)
        wait_until(lambda: is_up(made, "node1", b["interface"]), "the loser to come back")
        wait_until(partial(answers, made, "default/c", own), "the loser's own address")

        claim(made, run_dir, "c", "node2", address)
        wait_until(
            lambda: not is_up(made, "node2", c["interface"]), "the remote loser's interface to go down"
        )
        assert a["interface"] in route_of(made, "node1", address)
        assert answers(made, "node2", address)
        assert made.inside("node2", "ip", "route", "get", address).startswith(f"{address} via 172.30.0.11")

        claim(made, run_dir, "c", "node2", c["ips"][0])
        wait_until(partial(answers, made, "default/z", c["ips"][0]), "the remote loser to come back")
