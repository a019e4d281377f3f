"""BGPConfiguration: ``default`` for the cluster, ``node.<name>`` for one node."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings, canonical_as_number
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
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


SEVERITIES = ("Trace", "Debug", "Info", "Warning", "Error", "Fatal")
_COMMUNITY = re.compile(r"([0-9]{1,10}):([0-9]{1,10})(:([0-9]{1,10}))?")


def is_community(text: str) -> bool:
    """``aa:nn`` with 16 bits each, or the large ``aa:nn:mm`` with 32 (RFC 1997, RFC 8092)."""
    match = _COMMUNITY.fullmatch(text)
    limit = 65535 if match and match[3] is None else 2**32 - 1
    return match is not None and all(int(part) <= limit for part in text.split(":"))


def validate(configuration: Resource[Any]) -> list[InvalidResource]:
    """Calico's rules, of which the mesh's belong to ``default`` alone."""
    spec: BGPConfigurationSpec = configuration.spec
    found = Findings(configuration)
    name = configuration.key.name
    found.subdomain("metadata.name", name)
    if name and name != "default" and not name.startswith("node."):
        found.add("metadata.name", name, "is neither default nor node.<name>")
    if name.startswith("node.") and spec.node_to_node_mesh_enabled is not None:
        found.add(
            "spec.nodeToNodeMeshEnabled",
            spec.node_to_node_mesh_enabled,
            "is for BGPConfiguration default alone",
        )
    found.one_of("spec.logSeverityScreen", spec.log_severity_screen, SEVERITIES, any_case=True)
    found.as_number("spec.asNumber", spec.as_number)
    found.port("spec.listenPort", spec.listen_port)
    found.one_of("spec.bindMode", spec.bind_mode, ("None", "NodeIP"))
    found.one_of(
        "spec.serviceLoadBalancerAggregation", spec.service_load_balancer_aggregation, ("Enabled", "Disabled")
    )
    for field, blocks in (
        ("serviceClusterIPs", spec.service_cluster_ips),
        ("serviceExternalIPs", spec.service_external_ips),
        ("serviceLoadBalancerIPs", spec.service_load_balancer_ips),
    ):
        for index, block in enumerate(blocks):
            found.prefix(f"spec.{field}[{index}].cidr", block.cidr)
    names = {community.name for community in spec.communities}
    for index, community in enumerate(spec.communities):
        found.required(f"spec.communities[{index}].name", community.name)
        if not is_community(community.value):
            found.add(f"spec.communities[{index}].value", community.value, "is not aa:nn or aa:nn:mm")
    for index, advertisement in enumerate(spec.prefix_advertisements):
        found.prefix(f"spec.prefixAdvertisements[{index}].cidr", advertisement.cidr)
        for place, text in enumerate(advertisement.communities):
            if text not in names and not is_community(text):
                field = f"spec.prefixAdvertisements[{index}].communities[{place}]"
                found.add(field, text, "is neither a community nor the name of one in spec.communities")
    found.duration("spec.nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time)
    if spec.node_to_node_mesh_enabled is False:
        if spec.node_mesh_password is not None:
            found.add("spec.nodeMeshPassword", None, "is for a mesh, and spec.nodeToNodeMeshEnabled is false")
        if spec.node_mesh_max_restart_time:
            found.add(
                "spec.nodeMeshMaxRestartTime",
                spec.node_mesh_max_restart_time,
                "is for a mesh, and spec.nodeToNodeMeshEnabled is false",
            )
    found.address("spec.localWorkloadPeeringIPV4", spec.local_workload_peering_ipv4, 4)
    found.address("spec.localWorkloadPeeringIPV6", spec.local_workload_peering_ipv6, 6)
    found.between("spec.ipv4NormalRoutePriority", spec.ipv4_normal_route_priority, 1, 2147483646)
    found.between("spec.ipv6NormalRoutePriority", spec.ipv6_normal_route_priority, 1, 2147483646)
    return found.found


def normalise(configuration: Resource[Any]) -> Resource[Any]:
    """The AS number as a number."""
    spec: BGPConfigurationSpec = configuration.spec
    return configuration.with_spec(
        msgspec.structs.replace(spec, as_number=canonical_as_number(spec.as_number))
    )


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
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
