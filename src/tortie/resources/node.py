"""Node: a machine that runs pods, with its addresses and how it speaks BGP (Calico: reference, resource Node)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings, canonical_as_number, canonical_interface
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

NODE = Kind(CALICO, "Node")
NETWORKS_ANNOTATION = "tortie.io/networks"
"""Networks that the machine stands in besides those of its BGP addresses, with commas between; its agent writes it."""


class NodeBGPSpec(Spec, frozen=True):
    """``ipv4_address`` and ``ipv6_address`` carry their network's prefix length: ``172.30.0.11/24``."""

    as_number: int | str | None = None
    ipv4_address: str = ""
    ipv6_address: str = ""
    ipv4_ipip_tunnel_addr: str = ""
    route_reflector_cluster_id: str = ""
    interface_ipv4_address: str = ""
    interface_ipv6_address: str = ""


class NodeAddress(Spec, frozen=True):
    """One of the node's addresses; ``type`` is ``CalicoNodeIP``, ``InternalIP`` or ``ExternalIP``."""

    address: str = ""
    type: str = ""


class OrchRef(Spec, frozen=True):
    """The node's name in its orchestrator."""

    node_name: str = ""
    orchestrator: str = ""


class NodeWireguardSpec(Spec, frozen=True):
    """WireGuard's own addresses."""

    interface_ipv4_address: str = ""
    interface_ipv6_address: str = ""


class NodeSpec(Spec, frozen=True):
    """``bgp`` is None for a node without BGP."""

    bgp: NodeBGPSpec | None = None
    ipv4_vxlan_tunnel_addr: str = ""
    ipv6_vxlan_tunnel_addr: str = ""
    vxlan_tunnel_mac_addr: str = ""
    vxlan_tunnel_mac_addr_v6: str = ""
    orch_refs: tuple[OrchRef, ...] = ()
    wireguard: NodeWireguardSpec | None = None
    addresses: tuple[NodeAddress, ...] = ()
    interfaces: tuple[Any, ...] = ()


def validate(node: Resource[Any]) -> list[InvalidResource]:
    """Names, AS number and every address."""
    spec: NodeSpec = node.spec
    found = Findings(node)
    found.subdomain("metadata.name", node.key.name)
    if spec.bgp is not None:
        bgp = spec.bgp
        found.as_number("spec.bgp.asNumber", bgp.as_number)
        for field, value, version in (
            ("ipv4Address", bgp.ipv4_address, 4),
            ("ipv6Address", bgp.ipv6_address, 6),
            ("interfaceIPv4Address", bgp.interface_ipv4_address, 4),
            ("interfaceIPv6Address", bgp.interface_ipv6_address, 6),
        ):
            found.interface(f"spec.bgp.{field}", value, version)
        found.address("spec.bgp.ipv4IPIPTunnelAddr", bgp.ipv4_ipip_tunnel_addr, 4)
        found.address("spec.bgp.routeReflectorClusterID", bgp.route_reflector_cluster_id, 4)
    found.address("spec.ipv4VXLANTunnelAddr", spec.ipv4_vxlan_tunnel_addr, 4)
    found.address("spec.ipv6VXLANTunnelAddr", spec.ipv6_vxlan_tunnel_addr, 6)
    found.mac("spec.vxlanTunnelMACAddr", spec.vxlan_tunnel_mac_addr)
    found.mac("spec.vxlanTunnelMACAddrV6", spec.vxlan_tunnel_mac_addr_v6)
    if spec.wireguard is not None:
        found.address("spec.wireguard.interfaceIPv4Address", spec.wireguard.interface_ipv4_address, 4)
        found.address("spec.wireguard.interfaceIPv6Address", spec.wireguard.interface_ipv6_address, 6)
    for index, each in enumerate(spec.addresses):
        if found.required(f"spec.addresses[{index}].address", each.address):
            found.prefix(f"spec.addresses[{index}].address", each.address, masked=False)
    return found.found


def normalise(node: Resource[Any]) -> Resource[Any]:
    """Addresses and AS number in their canonical form."""
    spec: NodeSpec = node.spec
    if spec.bgp is None:
        return node
    bgp = msgspec.structs.replace(
        spec.bgp,
        as_number=canonical_as_number(spec.bgp.as_number),
        ipv4_address=canonical_interface(spec.bgp.ipv4_address),
        ipv6_address=canonical_interface(spec.bgp.ipv6_address),
    )
    return node.with_spec(msgspec.structs.replace(spec, bgp=bgp))


def among(node: Resource[Any], others: Sequence[Resource[Any]]) -> list[InvalidResource]:
    """Two nodes cannot have one address."""
    spec: NodeSpec = node.spec
    if spec.bgp is None:
        return []
    found: list[InvalidResource] = []
    for other in others:
        if other.key.kind != NODE or other.key == node.key or other.spec.bgp is None:
            continue
        for field, ours, theirs in (
            ("spec.bgp.ipv4Address", spec.bgp.ipv4_address, other.spec.bgp.ipv4_address),
            ("spec.bgp.ipv6Address", spec.bgp.ipv6_address, other.spec.bgp.ipv6_address),
        ):
            if ours and ours.partition("/")[0] == theirs.partition("/")[0]:
                rule = f"is also the address of {other.key}"
                found.append(InvalidResource(field, ours, rule, str(node.key), node.place(field)))
    return found


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    needs=(NODE,),
    among=among,
    kind=NODE,
    plural="nodes",
    spec=NodeSpec,
    aliases=("node", "no"),
    columns=(
        NAME,
        Column("ASN", lambda r: (r.spec.bgp.as_number if r.spec.bgp else None) or "(64512)", wide=True),
        Column("IPV4", lambda r: r.spec.bgp.ipv4_address if r.spec.bgp else "", wide=True),
        Column("IPV6", lambda r: r.spec.bgp.ipv6_address if r.spec.bgp else "", wide=True),
    ),
)
