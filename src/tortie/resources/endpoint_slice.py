"""EndpointSlice: some of the addresses behind a service (Kubernetes). Its document has no ``spec``: the fields stand beside
``metadata``. Documents of ``discovery.k8s.io/v1beta1`` are read as v1."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.shape import is_array, is_object
from tortie.resources.spec import Spec

ENDPOINT_SLICE = Kind("discovery.k8s.io", "EndpointSlice")
SERVICE_NAME = "kubernetes.io/service-name"
"""The label that names the service, in the slice's own namespace."""


class EndpointConditions(Spec, frozen=True):
    """None is unknown, which counts as ready and serving, and not as terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Spec, frozen=True):
    """What an address belongs to: as a rule a pod."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Endpoint(Spec, frozen=True):
    """One endpoint; the first of its ``addresses`` counts."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None
    hints: dict[str, Any] | None = None


class SlicePort(Spec, frozen=True):
    """A port that every endpoint of the slice has; ``port`` None is every port."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class EndpointSliceSpec(Spec, frozen=True):
    """``address_type`` is ``IPv4``, ``IPv6`` or ``FQDN``."""

    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


def service_of(resource: Resource[Any]) -> str:
    """The name of the service that a slice is of, in the same namespace; empty when it says none."""
    return resource.metadata.labels.get(SERVICE_NAME, "")


_HOSTNAME = "kubernetes.io/hostname"
_ZONE = "topology.kubernetes.io/zone"


def _from_v1beta1(document: dict[str, Any]) -> dict[str, Any]:
    """Node and zone stood in each endpoint's ``topology``."""
    endpoints: Any = document.get("endpoints")
    if not is_array(endpoints):
        return document
    newer: list[Any] = []
    for each in endpoints:
        topology: Any = each.get("topology") if is_object(each) else None
        if is_object(topology):
            each = {name: value for name, value in each.items() if name != "topology"}
            for field, label in (("nodeName", _HOSTNAME), ("zone", _ZONE)):
                if label in topology:
                    each.setdefault(field, topology[label])
        newer.append(each)
    return {**document, "endpoints": newer}


def validate(resource: Resource[Any]) -> list[InvalidResource]:
    """Names, addresses and ports."""
    spec: EndpointSliceSpec = resource.spec
    found = Findings(resource)
    found.subdomain("metadata.name", resource.key.name)
    found.required("metadata.namespace", resource.key.within)
    found.dns_label("metadata.namespace", resource.key.within)
    if found.required("addressType", spec.address_type):
        found.one_of("addressType", spec.address_type, ("IPv4", "IPv6", "FQDN"))
    version = {"IPv4": 4, "IPv6": 6}.get(spec.address_type)
    for index, endpoint in enumerate(spec.endpoints):
        at = f"endpoints[{index}].addresses"
        found.required(at, endpoint.addresses)
        for number, address in enumerate(endpoint.addresses):
            if version is not None and found.required(f"{at}[{number}]", address):
                found.address(f"{at}[{number}]", address, version)
    for index, port in enumerate(spec.ports):
        found.port(f"ports[{index}].port", port.port)
        found.one_of(f"ports[{index}].protocol", port.protocol, ("TCP", "UDP", "SCTP"))
    return found.found


INFO = KindInfo(
    validate=validate,
    checked=True,
    kind=ENDPOINT_SLICE,
    version="v1",
    plural="endpointslices",
    spec=EndpointSliceSpec,
    namespaced=True,
    open=True,
    rooted=True,
    older={"discovery.k8s.io/v1beta1": _from_v1beta1},
    columns=(
        NAMESPACE,
        NAME,
        Column("SERVICE", service_of),
        Column("ADDRESSTYPE", lambda r: r.spec.address_type),
        Column("PORTS", lambda r: [port.port for port in r.spec.ports]),
        Column("ENDPOINTS", lambda r: [a for each in r.spec.endpoints for a in each.addresses[:1]]),
    ),
)
