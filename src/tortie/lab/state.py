"""What a lab leaves on disk between two commands, and how its state is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import msgspec

from tortie.errors import UsageError
from tortie.lab.pods import LabPod, pods_of
from tortie.lab.supervisor import Running, read_running
from tortie.lab.topology import ROOT, Topology, directory_of
from tortie.lab.units import agent_unit, bird_unit


def require_root() -> None:
    """Raises `UsageError` at once without root."""
    if os.geteuid() != 0:
        raise UsageError("a lab makes network namespaces, which needs root: run it with sudo")


def save(topology: Topology) -> None:
    """Remember the lab: from here on `down` knows what to undo."""
    topology.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (topology.directory / "lab.json").write_bytes(msgspec.json.encode(topology))


def load(name: str) -> Topology:
    """Raises `UsageError` without root, when there is no such lab, naming those there are, and for what is no lab's name."""
    require_root()
    path = directory_of(name) / "lab.json"
    if not path.exists():
        others = names()
        known = f"; there are: {', '.join(others)}" if others else ""
        raise UsageError(f"there is no lab {name!r}{known}; 'tortie lab up --lab {name} --nodes 3' makes it")
    return msgspec.json.decode(path.read_bytes(), type=Topology)


def exists(name: str) -> bool:
    """Whether there is such a lab, up or half up."""
    return (directory_of(name) / "lab.json").exists()


def names() -> list[str]:
    """Every lab of this machine."""
    return sorted(path.parent.name for path in ROOT.glob("*/lab.json"))


def forget(name: str) -> None:
    """Remove its files."""
    shutil.rmtree(directory_of(name), ignore_errors=True)


def pod_object(pod: LabPod) -> dict[str, Any]:
    """A pod as ``lab status`` and ``lab pod add`` print it."""
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "netns": pod.netns,
        "ips": pod.ips,
        "interface": pod.interface,
    }


def status(topology: Topology) -> dict[str, Any]:
    """The whole lab as ``lab status -o json`` prints it."""
    running = read_running(topology.directory)
    pods = pods_of(topology)
    return {
        "name": topology.name,
        "datastore": topology.store_url,
        "nodes": [
            {
                "name": node.name,
                "netns": node.netns,
                "address": node.address,
                "addresses": list(node.addresses),
                "agent_pid": _alive(running, agent_unit(node.name)),
                "bird_pid": _alive(running, bird_unit(node.name)),
                "pods": [pod_object(pod) for pod in pods if pod.node == node.name],
            }
            for node in topology.nodes
        ],
    }


def environment(topology: Topology, node: str | None) -> Mapping[str, str]:
    """What a shell exports to use the other commands against the lab, and with a node its CNI plugin by hand."""
    variables = {"TORTIE_DATASTORE": topology.store_url, "TORTIE_LAB": topology.name}
    if node is not None:
        topology.node(node)
        variables |= {
            "NODENAME": node,
            "TORTIE_RUN_DIR": str(topology.run_dir(node)),
            "TORTIE_STATE_DIR": str(topology.state_dir(node)),
            "CNI_PATH": str(topology.cni_bin_dir(node)),
            "NETCONFPATH": str(topology.cni_conf_dir(node)),
        }
    return variables


def _alive(running: Running | None, unit: str) -> int | None:
    pid = running.pids.get(unit) if running else None
    if pid is None:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return pid
