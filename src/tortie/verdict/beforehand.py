"""What passes or is dropped before any policy is asked, as in the kernel's chains."""

from __future__ import annotations

from tortie.desired.ipsets import ALL_HOSTS
from tortie.desired.policies import Direction
from tortie.desired.settings import SettingsRow
from tortie.verdict.packet import ICMPV6, UDP, Packet
from tortie.verdict.state import State

IPIP = 4
_NEIGHBOURS = (*range(130, 133), *range(133, 137))
"""Multicast listeners and neighbour discovery, without which IPv6 does not work."""


def is_neighbours_talk(packet: Packet) -> bool:
    return packet.protocol == ICMPV6 and packet.source.version == 6 and packet.icmp_type in _NEIGHBOURS


def tunnel_of_a_pod(packet: Packet, settings: SettingsRow) -> str:
    """Why a pod may not send this: a tunnel of its own would lead past its policy. Empty when it may."""
    if _is_vxlan(packet, settings) and not settings.vxlan_from_workloads:
        return f"pods may not send VXLAN (UDP port {settings.vxlan_port}) unless allowVXLANPacketsFromWorkloads is set"
    if _is_ipip(packet) and not settings.ipip_from_workloads:
        return "pods may not send IPIP (protocol 4) unless allowIPIPPacketsFromWorkloads is set"
    return ""


def is_tunnel_of_nodes(packet: Packet, direction: Direction, settings: SettingsRow, state: State) -> bool:
    """Pods' packets between nodes: what is in them meets policy of its own."""
    if not (_is_vxlan(packet, settings) or _is_ipip(packet)):
        return False
    return state.set_of(ALL_HOSTS).holds(packet.source if direction == "ingress" else packet.destination)


def _is_vxlan(packet: Packet, settings: SettingsRow) -> bool:
    return packet.protocol == UDP and packet.destination_port == settings.vxlan_port


def _is_ipip(packet: Packet) -> bool:
    return packet.protocol == IPIP and packet.source.version == 4
