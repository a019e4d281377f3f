"""Node: a machine that runs pods, with its addresses and how it speaks BGP (Calico: reference, resource Node)."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

NODE = Kind(CALICO, "Node")


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


INFO = KindInfo(
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
