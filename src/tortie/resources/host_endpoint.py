"""HostEndpoint: an interface of a node itself, or all of them, that policies guard (Calico: reference, resource
HostEndpoint)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec
from tortie.resources.workload_endpoint import EndpointPort

HOST_ENDPOINT = Kind(CALICO, "HostEndpoint")


class HostEndpointSpec(Spec, frozen=True):
    """``interface_name`` may be ``*``: all interfaces. Without it, the interface is found by ``expected_ips``."""

    node: str = ""
    interface_name: str = ""
    expected_ips: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


INFO = KindInfo(
    kind=HOST_ENDPOINT,
    plural="hostendpoints",
    spec=HostEndpointSpec,
    aliases=("hep", "heps"),
    columns=(
        NAME,
        Column("NODE", lambda r: r.spec.node),
        Column("INTERFACE", lambda r: r.spec.interface_name, wide=True),
        Column("IPS", lambda r: r.spec.expected_ips, wide=True),
        Column("PROFILES", lambda r: r.spec.profiles, wide=True),
    ),
)
