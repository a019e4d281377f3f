"""NetworkSet: named networks that selectors of its namespace's rules find by their labels (Calico: reference, resource
NetworkSet)."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

NETWORK_SET = Kind(CALICO, "NetworkSet")
NAMESPACE_LABEL = "projectcalico.org/namespace"


class NetworkSetSpec(Spec, frozen=True):
    """Networks and single addresses of both IP versions."""

    nets: tuple[str, ...] = ()


def check_nets(found: Findings, network_set: Resource[Any]) -> None:
    """Its networks, and no label that only a namespace may give."""
    for index, net in enumerate(network_set.spec.nets):
        found.prefix(f"spec.nets[{index}]", net, masked=False)
    if NAMESPACE_LABEL in network_set.metadata.labels:
        found.add("metadata.labels", NAMESPACE_LABEL, "is a label that follows from the namespace alone")


def validate(network_set: Resource[Any]) -> list[InvalidResource]:
    """Names and networks."""
    found = Findings(network_set)
    found.subdomain("metadata.name", network_set.key.name)
    found.required("metadata.namespace", network_set.key.within)
    found.dns_label("metadata.namespace", network_set.key.within)
    check_nets(found, network_set)
    return found.found


INFO = KindInfo(
    validate=validate,
    checked=True,
    kind=NETWORK_SET,
    plural="networksets",
    spec=NetworkSetSpec,
    namespaced=True,
    aliases=("netset", "netsets"),
    columns=(NAMESPACE, NAME, Column("NETS", lambda r: r.spec.nets, wide=True)),
)
