"""GlobalNetworkSet: named networks that belong to no namespace (Calico: reference, resource GlobalNetworkSet)."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.network_set import NetworkSetSpec, check_nets
from tortie.resources.resource import Kind, Resource

GLOBAL_NETWORK_SET = Kind(CALICO, "GlobalNetworkSet")


class GlobalNetworkSetSpec(NetworkSetSpec, frozen=True):
    """Networks and single addresses of both IP versions."""


def validate(network_set: Resource[Any]) -> list[InvalidResource]:
    """The name and networks."""
    found = Findings(network_set)
    found.subdomain("metadata.name", network_set.key.name)
    check_nets(found, network_set)
    return found.found


INFO = KindInfo(
    validate=validate,
    checked=True,
    kind=GLOBAL_NETWORK_SET,
    plural="globalnetworksets",
    spec=GlobalNetworkSetSpec,
    aliases=("globalnetset", "globalnetsets", "gns"),
    columns=(NAME, Column("NETS", lambda r: r.spec.nets, wide=True)),
)
