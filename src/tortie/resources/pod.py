"""Pod: the little of Kubernetes' pod that a network needs; all else is carried along."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CORE, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

POD = Kind(CORE, "Pod")


class ContainerPort(Spec, frozen=True):
    """A port that a container names."""

    name: str = ""
    container_port: int = 0
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = ""


class Container(Spec, frozen=True):
    """A container's name and ports."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Spec, frozen=True):
    """Where it runs, as whom, and its ports."""

    node_name: str = ""
    service_account_name: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()


def _status(pod: Resource[Any], name: str) -> object:
    return pod.status.get(name) if isinstance(pod.status, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def validate(pod: Resource[Any]) -> list[InvalidResource]:
    """Names and ports."""
    found = Findings(pod)
    found.subdomain("metadata.name", pod.key.name)
    found.dns_label("metadata.namespace", pod.key.within)
    found.required("metadata.namespace", pod.key.within)
    found.subdomain("spec.serviceAccountName", pod.spec.service_account_name)
    for at, container in enumerate(pod.spec.containers):
        for index, port in enumerate(container.ports):
            field = f"spec.containers[{at}].ports[{index}]"
            found.port(f"{field}.containerPort", port.container_port)
            found.between(f"{field}.hostPort", port.host_port, 0, 65535)
            found.one_of(f"{field}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
    return found.found


INFO = KindInfo(
    validate=validate,
    kind=POD,
    version="v1",
    plural="pods",
    spec=PodSpec,
    namespaced=True,
    aliases=("po",),
    open=True,
    columns=(
        NAMESPACE,
        NAME,
        Column("NODE", lambda r: r.spec.node_name),
        Column("IP", lambda r: _status(r, "podIP")),
        Column("PHASE", lambda r: _status(r, "phase"), wide=True),
        Column("SERVICEACCOUNT", lambda r: r.spec.service_account_name, wide=True),
        Column("LABELS", lambda r: [f"{k}={v}" for k, v in sorted(r.metadata.labels.items())], wide=True),
    ),
)
