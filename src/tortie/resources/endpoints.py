"""Endpoints: the addresses behind a service of the same name, as Kubernetes wrote them before EndpointSlices. Its document has
no ``spec``: ``subsets`` stands beside ``metadata``."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.endpoint_slice import ObjectReference
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CORE, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

ENDPOINTS = Kind(CORE, "Endpoints")


class EndpointAddress(Spec, frozen=True):
    """One address."""

    ip: str = ""
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class SubsetPort(Spec, frozen=True):
    """A port that every address of the subset has."""

    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    app_protocol: str | None = None


class Subset(Spec, frozen=True):
    """Every address with every port."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[SubsetPort, ...] = ()


class EndpointsSpec(Spec, frozen=True):
    """All subsets together."""

    subsets: tuple[Subset, ...] = ()


def validate(resource: Resource[Any]) -> list[InvalidResource]:
    """Names, addresses and ports."""
    spec: EndpointsSpec = resource.spec
    found = Findings(resource)
    found.subdomain("metadata.name", resource.key.name)
    found.required("metadata.namespace", resource.key.within)
    found.dns_label("metadata.namespace", resource.key.within)
    for index, subset in enumerate(spec.subsets):
        for field, addresses in (
            ("addresses", subset.addresses),
            ("notReadyAddresses", subset.not_ready_addresses),
        ):
            for number, each in enumerate(addresses):
                at = f"subsets[{index}].{field}[{number}].ip"
                if found.required(at, each.ip):
                    found.address(at, each.ip)
        for number, port in enumerate(subset.ports):
            at = f"subsets[{index}].ports[{number}]"
            found.port(f"{at}.port", port.port)
            found.one_of(f"{at}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
    return found.found


INFO = KindInfo(
    validate=validate,
    checked=True,
    kind=ENDPOINTS,
    version="v1",
    plural="endpoints",
    spec=EndpointsSpec,
    namespaced=True,
    open=True,
    rooted=True,
    aliases=("ep",),
    columns=(
        NAMESPACE,
        NAME,
        Column("ENDPOINTS", lambda r: [a.ip for each in r.spec.subsets for a in each.addresses]),
    ),
)
