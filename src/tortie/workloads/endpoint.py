"""The WorkloadEndpoint of a sandbox, as Calico's plugin writes it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tortie.net.addresses import Address
from tortie.resources.pod import PodSpec
from tortie.resources.resource import Metadata, Resource
from tortie.resources.workload_endpoint import NETWORK_ANNOTATION, EndpointPort, WorkloadEndpointSpec
from tortie.workloads import names
from tortie.workloads.sandbox import Sandbox
from tortie.workloads.wishes import Wishes

DEFAULT_SERVICE_ACCOUNT = "default"
_LABEL = "projectcalico.org/"


def profiles_of(sandbox: Sandbox, pod: Resource[PodSpec] | None) -> tuple[str, ...]:
    """The profiles that apply to it; without a pod that of its network, as Calico names it."""
    if not sandbox.pod:
        return (sandbox.network,)
    return names.profile_names(sandbox.namespace, _service_account(pod))


def build_endpoint(
    sandbox: Sandbox,
    *,
    addresses: Iterable[Address],
    mac: str,
    wishes: Wishes,
    pod: Resource[PodSpec] | None,
) -> Resource[WorkloadEndpointSpec]:
    """As if nothing stood at its key; the register replaces what does."""
    service_account = _service_account(pod)
    spec = WorkloadEndpointSpec(
        orchestrator=sandbox.orchestrator,
        node=sandbox.node,
        container_id=sandbox.container_id,
        pod=sandbox.pod,
        endpoint=sandbox.ifname,
        service_account_name=service_account,
        ip_networks=tuple(str(address.prefix) for address in addresses),
        profiles=profiles_of(sandbox, pod),
        interface_name=sandbox.host_name,
        mac=mac,
        ports=_ports(pod),
        allow_spoofed_source_prefixes=tuple(map(str, wishes.allowed_sources)),
    )
    labels = dict(pod.metadata.labels) if pod else {}
    labels[_LABEL + "namespace"] = sandbox.namespace
    labels[_LABEL + "orchestrator"] = sandbox.orchestrator
    if service_account:
        labels[_LABEL + "serviceaccount"] = service_account
    metadata = Metadata(
        labels=labels,
        annotations={NETWORK_ANNOTATION: sandbox.network},
        generate_name=pod.metadata.generate_name if pod else "",
    )
    return Resource(key=sandbox.endpoint, metadata=metadata, spec=spec)


def taking_the_place_of(
    found: Resource[WorkloadEndpointSpec], fresh: Resource[WorkloadEndpointSpec]
) -> Resource[WorkloadEndpointSpec]:
    """``fresh`` as an update of what was found: fields of it that we do not know stay."""
    metadata = replace(
        fresh.metadata, uid=found.metadata.uid, creation_timestamp=found.metadata.creation_timestamp
    )
    return replace(fresh, metadata=metadata, unknown=found.unknown, revision=found.revision)


def attributes_of(sandbox: Sandbox, timestamp: str) -> dict[str, str]:
    """What IPAM notes beside an address, under Calico's names."""
    found = {"node": sandbox.node, "timestamp": timestamp}
    if sandbox.pod:
        found |= {"namespace": sandbox.namespace, "pod": sandbox.pod}
    return found


def belongs_to(endpoint: Resource[Any], network: str) -> bool:
    """Whether an ADD of that network made it."""
    return endpoint.metadata.annotations.get(NETWORK_ANNOTATION) == network


def _service_account(pod: Resource[PodSpec] | None) -> str:
    if pod is None:
        return ""
    return pod.spec.service_account_name or DEFAULT_SERVICE_ACCOUNT


def _ports(pod: Resource[PodSpec] | None) -> tuple[EndpointPort, ...]:
    """Those that a policy can name, or that are reachable by the node's address."""
    if pod is None:
        return ()
    return tuple(
        EndpointPort(
            name=port.name,
            protocol=port.protocol or "TCP",
            port=port.container_port,
            host_port=port.host_port,
        )
        for container in pod.spec.containers
        for port in container.ports
        if port.name or port.host_port
    )
