"""Service: a stable address and name for some pods (Kubernetes)."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.resources.kind_info import CORE, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

SERVICE = Kind(CORE, "Service")


class ServicePort(Spec, frozen=True):
    """A port of the service, and that of the pods behind it: ``target_port`` is a number or a container port's name."""

    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    target_port: int | str | None = None
    node_port: int = 0
    app_protocol: str | None = None


class ServiceSpec(Spec, frozen=True):
    """The addresses it is reached at, its ports, and how connections are spread."""

    type: str = "ClusterIP"
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    external_name: str = ""
    load_balancer_ip: str = ""
    load_balancer_class: str | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool | None = None
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    external_traffic_policy: str = ""
    internal_traffic_policy: str | None = None
    health_check_node_port: int = 0
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None
    publish_not_ready_addresses: bool = False
    session_affinity: str = ""
    session_affinity_config: dict[str, Any] | None = None
    traffic_distribution: str | None = None


def _ports(spec: ServiceSpec) -> list[str]:
    return [f"{each.port}/{each.protocol}" for each in spec.ports]


INFO = KindInfo(
    kind=SERVICE,
    version="v1",
    plural="services",
    spec=ServiceSpec,
    namespaced=True,
    open=True,
    aliases=("svc",),
    columns=(
        NAMESPACE,
        NAME,
        Column("TYPE", lambda r: r.spec.type),
        Column("CLUSTERIP", lambda r: r.spec.cluster_ip),
        Column("PORTS", lambda r: _ports(r.spec)),
        Column("EXTERNALIPS", lambda r: r.spec.external_ips, wide=True),
    ),
)
