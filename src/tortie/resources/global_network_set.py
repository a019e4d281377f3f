"""GlobalNetworkSet: named networks that belong to no namespace (Calico: reference, resource GlobalNetworkSet)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.network_set import NetworkSetSpec
from tortie.resources.resource import Kind

GLOBAL_NETWORK_SET = Kind(CALICO, "GlobalNetworkSet")


class GlobalNetworkSetSpec(NetworkSetSpec, frozen=True):
    """Networks and single addresses of both IP versions."""


INFO = KindInfo(
    kind=GLOBAL_NETWORK_SET,
    plural="globalnetworksets",
    spec=GlobalNetworkSetSpec,
    aliases=("globalnetset", "globalnetsets", "gns"),
    columns=(NAME, Column("NETS", lambda r: r.spec.nets, wide=True)),
)
