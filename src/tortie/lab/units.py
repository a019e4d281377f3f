"""The programs that a lab keeps running: what systemd's units would say on real machines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tortie.lab.topology import ETCD_SOCKET, LabNode, Topology, block_size


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One program. It is started once ``needs`` exists, and again whenever it ends.

    ``stale`` is what a killed run leaves behind and a new one would not start beside.
    """

    name: str
    netns: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    needs: Path | None = None
    stale: Path | None = None


def units(topology: Topology) -> list[Unit]:
    """Everything that a lab runs, the datastore first."""
    made = [_etcd(topology)] if topology.datastore == "etcd" else []
    for node in topology.nodes:
        made += [_agent(topology, node), _bird(topology, node)]
    return made


def agent_unit(node: str) -> str:
    return f"{node}/agent"


def bird_unit(node: str) -> str:
    return f"{node}/bird"


def agent_environment(topology: Topology, node: LabNode) -> dict[str, str]:
    """What an agent of this node is told; `tortie lab env` tells the same to a shell."""
    return {
        "NODENAME": node.name,
        "TORTIE_DATASTORE": topology.node_store_url,
        "TORTIE_RUN_DIR": str(topology.run_dir(node.name)),
        "TORTIE_STATE_DIR": str(topology.state_dir(node.name)),
        "IP": "autodetect",
        "IP_AUTODETECTION_METHOD": topology.ip_autodetection_method,
        "IP6": "autodetect" if topology.ipv6_pool else "none",
        "IP6_AUTODETECTION_METHOD": topology.ip_autodetection_method,
        "CALICO_IPV4POOL_CIDR": topology.ipv4_pool,
        "CALICO_IPV4POOL_BLOCK_SIZE": str(block_size(topology.ipv4_pool)),
        "CALICO_IPV4POOL_IPIP": "Never",
        "CALICO_IPV4POOL_NAT_OUTGOING": "true",
        "CALICO_IPV6POOL_CIDR": topology.ipv6_pool or "none",
        "CALICO_IPV6POOL_NAT_OUTGOING": "true",
    }


def _agent(topology: Topology, node: LabNode) -> Unit:
    return Unit(
        name=agent_unit(node.name),
        netns=node.netns,
        argv=(sys.executable, "-m", "tortie", "agent", "run"),
        environment=agent_environment(topology, node),
        directory=topology.run_dir(node.name),
    )


def _bird(topology: Topology, node: LabNode) -> Unit:
    run = topology.run_dir(node.name)
    return Unit(
        name=bird_unit(node.name),
        netns=node.netns,
        # -f: stay in the foreground; -R: recover after a crash, so that routes outlive it.
        argv=("bird", "-f", "-R", "-c", str(run / "bird.conf"), "-s", str(run / "bird.ctl")),
        environment={},
        directory=run,
        needs=run / "bird.conf",
    )


def _etcd(topology: Topology) -> Unit:
    return Unit(
        name="etcd",
        netns=topology.fabric_netns,
        argv=(
            "etcd",
            "--name=lab",
            f"--data-dir={topology.directory}/etcd",
            f"--listen-client-urls=http://0.0.0.0:2379,unix://{ETCD_SOCKET}",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=lab=http://127.0.0.1:2380",
            "--logger=zap",
            "--log-level=warn",
        ),
        environment={},
        directory=topology.directory,
        stale=topology.directory / ETCD_SOCKET,
    )
