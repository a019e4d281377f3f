"""WorkloadEndpoint: one interface of one pod (Calico: reference, resource WorkloadEndpoint)."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.net.ifnames import MAX_LENGTH
from tortie.resources.findings import Findings, canonical_prefix
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

WORKLOAD_ENDPOINT = Kind(CALICO, "WorkloadEndpoint")
NETWORK_ANNOTATION = "tortie.io/network"
"""On an endpoint: the name of the CNI network that it was made for."""


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


PROTOCOLS = ("TCP", "UDP", "SCTP")


def validate(endpoint: Resource[Any]) -> list[InvalidResource]:
    """Names, single addresses, and ports that a policy could name."""
    spec: WorkloadEndpointSpec = endpoint.spec
    found = Findings(endpoint)
    found.dns_label("metadata.namespace", endpoint.key.within)
    found.required("metadata.namespace", endpoint.key.within)
    for field, value in (
        ("orchestrator", spec.orchestrator),
        ("node", spec.node),
        ("endpoint", spec.endpoint),
    ):
        found.required(f"spec.{field}", value)
    expected = endpoint_name(
        spec.node, spec.orchestrator, spec.pod or spec.workload or spec.container_id, spec.endpoint
    )
    if endpoint.key.name and not found.found and endpoint.key.name != expected:
        found.add(
            "metadata.name", endpoint.key.name, f"does not follow from the spec, which gives {expected}"
        )
    if len(spec.interface_name) > MAX_LENGTH:
        found.add("spec.interfaceName", spec.interface_name, f"is longer than {MAX_LENGTH} characters")
    for index, network in enumerate(spec.ip_networks):
        field = f"spec.ipNetworks[{index}]"
        prefix = found.prefix(field, network)
        if prefix is not None and not prefix.is_single:
            found.add(field, network, "is more than one address")
    found.address("spec.ipv4Gateway", spec.ipv4_gateway, 4)
    found.address("spec.ipv6Gateway", spec.ipv6_gateway, 6)
    found.mac("spec.mac", spec.mac)
    for index, nat in enumerate(spec.ip_nats):
        found.address(f"spec.ipNATs[{index}].internalIP", nat.internal_ip)
        found.address(f"spec.ipNATs[{index}].externalIP", nat.external_ip)
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        found.port(f"{at}.port", port.port)
        found.between(f"{at}.hostPort", port.host_port, 0, 65535)
        if isinstance(port.protocol, int):
            found.between(f"{at}.protocol", port.protocol, 1, 255)
        elif port.protocol.upper() not in PROTOCOLS:
            found.add(f"{at}.protocol", port.protocol, f"is not one of {', '.join(PROTOCOLS)}")
    for index, prefix_text in enumerate(spec.allow_spoofed_source_prefixes):
        found.prefix(f"spec.allowSpoofedSourcePrefixes[{index}]", prefix_text, masked=False)
    return found.found


def normalise(endpoint: Resource[Any]) -> Resource[Any]:
    """Addresses in their canonical form."""
    spec: WorkloadEndpointSpec = endpoint.spec
    networks = tuple(canonical_prefix(network) for network in spec.ip_networks)
    return endpoint.with_spec(msgspec.structs.replace(spec, ip_networks=networks))


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
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
