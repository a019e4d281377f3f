"""NetworkSet: named networks that selectors of its namespace's rules find by their labels (Calico: reference, resource
NetworkSet)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

NETWORK_SET = Kind(CALICO, "NetworkSet")


class NetworkSetSpec(Spec, frozen=True):
    """Networks and single addresses of both IP versions."""

    nets: tuple[str, ...] = ()


INFO = KindInfo(
    kind=NETWORK_SET,
    plural="networksets",
    spec=NetworkSetSpec,
    namespaced=True,
    aliases=("netset", "netsets"),
    columns=(NAMESPACE, NAME, Column("NETS", lambda r: r.spec.nets, wide=True)),
)
