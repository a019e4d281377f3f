"""WorkloadEndpoint: one interface of one pod (Calico: reference, resource WorkloadEndpoint)."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

WORKLOAD_ENDPOINT = Kind(CALICO, "WorkloadEndpoint")


class EndpointPort(Spec, frozen=True):
    """A named port of a pod. ``protocol`` is a name or a number."""

    name: str = ""
    protocol: str | int = ""
    port: int = 0
    host_port: int = 0
    host_ip: str = ""


class IPNAT(Spec, frozen=True):
    """A floating address: what comes for ``external_ip`` goes to ``internal_ip``."""

    internal_ip: str = ""
    external_ip: str = ""


class WorkloadEndpointSpec(Spec, frozen=True):
    """``ip_networks`` are /32 and /128 prefixes; ``interface_name`` is the host's end."""

    orchestrator: str = ""
    workload: str = ""
    node: str = ""
    container_id: str = ""
    pod: str = ""
    endpoint: str = ""
    service_account_name: str = ""
    ip_networks: tuple[str, ...] = ()
    ip_nats: tuple[IPNAT, ...] = ()
    ipv4_gateway: str = ""
    ipv6_gateway: str = ""
    profiles: tuple[str, ...] = ()
    interface_name: str = ""
    mac: str = ""
    ports: tuple[EndpointPort, ...] = ()
    allow_spoofed_source_prefixes: tuple[str, ...] = ()
    qos_controls: dict[str, Any] | None = None


def endpoint_name(*parts: str) -> str:
    """The parts joined by dashes, a dash inside a part doubled: ``node-1``, ``k8s``, ``web``, ``eth0`` →
    ``node--1-k8s-web-eth0``."""
    return "-".join(part.replace("-", "--") for part in parts)


INFO = KindInfo(
    kind=WORKLOAD_ENDPOINT,
    plural="workloadendpoints",
    spec=WorkloadEndpointSpec,
    namespaced=True,
    aliases=("wep", "weps"),
    columns=(
        NAMESPACE,
        Column("NAME", NAME.cell, wide=True),
        Column("WORKLOAD", lambda r: r.spec.pod or r.spec.workload),
        Column("NODE", lambda r: r.spec.node),
        Column("NETWORKS", lambda r: r.spec.ip_networks),
        Column("INTERFACE", lambda r: r.spec.interface_name),
        Column("PROFILES", lambda r: r.spec.profiles, wide=True),
        Column("NATS", lambda r: [f"{n.external_ip}->{n.internal_ip}" for n in r.spec.ip_nats], wide=True),
    ),
)
