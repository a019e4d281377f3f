"""Short ways to write documents down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.oracle.documents import Document

CALICO = "projectcalico.org/v3"


def document(
    kind: str,
    name: str,
    spec: Document,
    *,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    version: str = CALICO,
) -> Document:
    """Any resource."""
    metadata: Document = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def namespace(name: str, **labels: str) -> Document:
    return document("Namespace", name, {}, labels=labels, version="v1")


def account(name: str, within: str, **labels: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": within, "labels": labels},
    }


def pod(
    name: str,
    addresses: Sequence[str],
    *,
    within: str = "here",
    account: str = "default",
    labels: Mapping[str, str] | None = None,
    ports: Sequence[tuple[str, str, int]] = (),
    profiles: Sequence[str] | None = None,
    orchestrator: str = "k8s",
    interface: str = "",
    node: str = "node",
) -> Document:
    """A WorkloadEndpoint with the profiles of its namespace and service account. No dashes in names, please."""
    workload = {"pod": name} if orchestrator == "k8s" else {"containerID": name}
    spec: dict[str, Any] = {
        "orchestrator": orchestrator,
        "node": node,
        "endpoint": "eth0",
        "interfaceName": interface or f"cali{name}",
        "ipNetworks": [f"{each}/{128 if ':' in each else 32}" for each in addresses],
        "profiles": [f"kns.{within}", f"ksa.{within}.{account}"] if profiles is None else list(profiles),
        **workload,
    }
    if orchestrator == "k8s":
        spec["serviceAccountName"] = account
    if ports:
        spec["ports"] = [{"name": own, "protocol": proto, "port": port} for own, proto, port in ports]
    return document(
        "WorkloadEndpoint", f"{node}-{orchestrator}-{name}-eth0", spec, namespace=within, labels=labels
    )


def policy(name: str, within: str = "here", /, **spec: Any) -> Document:
    """A NetworkPolicy, global without a namespace."""
    return document("NetworkPolicy" if within else "GlobalNetworkPolicy", name, spec, namespace=within)


def kubernetes_policy(name: str, within: str = "here", /, **spec: Any) -> Document:
    spec.setdefault("podSelector", {})
    return document("NetworkPolicy", name, spec, namespace=within, version="networking.k8s.io/v1")


def tier(name: str, order: float | None, action: str = "Deny") -> Document:
    return document("Tier", name, {"order": order, "defaultAction": action})


def endpoint_slice(
    service: str, within: str, addresses: Sequence[str], ports: Sequence[tuple[str, int]]
) -> Document:
    """Of one IP version, as all EndpointSlices are."""
    version = "IPv6" if ":" in addresses[0] else "IPv4"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{version.lower()}",
            "namespace": within,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": version,
        "endpoints": [{"addresses": [each]} for each in addresses],
        "ports": [{"name": f"p{port}", "protocol": proto, "port": port} for proto, port in ports],
    }
