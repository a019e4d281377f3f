"""BGPConfiguration: ``default`` for the cluster, ``node.<name>`` for one node."""

from __future__ import annotations

import msgspec

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.secret import BGPPassword
from tortie.resources.spec import Spec

BGP_CONFIGURATION = Kind(CALICO, "BGPConfiguration")
DEFAULT_AS_NUMBER = 64512


class Community(Spec, frozen=True):
    """A name for a community ``aa:nn`` or ``aa:nn:mm``."""

    name: str = ""
    value: str = ""


class PrefixAdvertisement(Spec, frozen=True):
    """Communities that routes inside a prefix carry."""

    cidr: str = ""
    communities: tuple[str, ...] = ()


class CIDRBlock(Spec, frozen=True):
    """A range of service addresses."""

    cidr: str = ""


class BGPConfigurationSpec(Spec, frozen=True):
    """None and ``""`` mean unset: Calico's default holds (mesh on, AS 64512, port 179)."""

    log_severity_screen: str = ""
    node_to_node_mesh_enabled: bool | None = None
    as_number: int | str | None = None
    listen_port: int | None = None
    service_cluster_ips: tuple[CIDRBlock, ...] = ()
    service_external_ips: tuple[CIDRBlock, ...] = ()
    service_load_balancer_ips: tuple[CIDRBlock, ...] = ()
    service_load_balancer_aggregation: str = ""
    communities: tuple[Community, ...] = ()
    prefix_advertisements: tuple[PrefixAdvertisement, ...] = ()
    node_mesh_password: BGPPassword | None = None
    node_mesh_max_restart_time: str | None = None
    bind_mode: str | None = None
    ignored_interfaces: tuple[str, ...] = ()
    local_workload_peering_ipv4: str = msgspec.field(default="", name="localWorkloadPeeringIPV4")
    local_workload_peering_ipv6: str = msgspec.field(default="", name="localWorkloadPeeringIPV6")
    program_cluster_routes: str | None = None
    ipv4_normal_route_priority: int | None = None
    ipv6_normal_route_priority: int | None = None


INFO = KindInfo(
    kind=BGP_CONFIGURATION,
    plural="bgpconfigurations",
    spec=BGPConfigurationSpec,
    aliases=("bgpconfig", "bgpconfigs"),
    columns=(
        NAME,
        Column("LOGSEVERITY", lambda r: r.spec.log_severity_screen),
        Column("MESHENABLED", lambda r: r.spec.node_to_node_mesh_enabled),
        Column("ASNUMBER", lambda r: r.spec.as_number),
    ),
)
