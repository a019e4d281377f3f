"""Service: a stable address and name for some pods (Kubernetes)."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CORE, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

SERVICE = Kind(CORE, "Service")
TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
HEADLESS = "None"
"""The clusterIP of a service without an address of its own."""


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


def validate(service: Resource[Any]) -> list[InvalidResource]:
    """Names, addresses and ports."""
    spec: ServiceSpec = service.spec
    found = Findings(service)
    found.dns_label("metadata.name", service.key.name)
    found.required("metadata.namespace", service.key.within)
    found.dns_label("metadata.namespace", service.key.within)
    found.one_of("spec.type", spec.type, TYPES)
    for field, policy in (
        ("externalTrafficPolicy", spec.external_traffic_policy),
        ("internalTrafficPolicy", spec.internal_traffic_policy),
    ):
        found.one_of(f"spec.{field}", policy, ("Cluster", "Local"))
    found.one_of("spec.sessionAffinity", spec.session_affinity, ("None", "ClientIP"))
    addresses = [("clusterIP", spec.cluster_ip), ("loadBalancerIP", spec.load_balancer_ip)]
    addresses += [(f"clusterIPs[{index}]", each) for index, each in enumerate(spec.cluster_ips)]
    addresses += [(f"externalIPs[{index}]", each) for index, each in enumerate(spec.external_ips)]
    for field, address in addresses:
        if not (field.startswith("clusterIP") and address == HEADLESS):
            found.address(f"spec.{field}", address)
    for index, net in enumerate(spec.load_balancer_source_ranges):
        found.prefix(f"spec.loadBalancerSourceRanges[{index}]", net.strip(), masked=False)
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        found.port(f"{at}.port", port.port)
        found.one_of(f"{at}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
        found.between(f"{at}.nodePort", port.node_port, 0, 65535)
        if isinstance(port.target_port, int):
            found.between(f"{at}.targetPort", port.target_port, 0, 65535)
    return found.found


INFO = KindInfo(
    validate=validate,
    checked=True,
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
