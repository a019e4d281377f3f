"""BGPPeer: a BGP session besides the mesh."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.net.addresses import Address
from tortie.resources.findings import Findings, canonical_as_number
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.secret import BGPPassword
from tortie.resources.spec import Spec

BGP_PEER = Kind(CALICO, "BGPPeer")


class BGPPeerSpec(Spec, frozen=True):
    """Without ``node`` and ``node_selector`` it is for every node."""

    node: str = ""
    node_selector: str = ""
    peer_ip: str = ""
    peer_selector: str = ""
    local_workload_selector: str = ""
    as_number: int | str | None = None
    local_as_number: int | str | None = None
    keep_original_next_hop: bool = False
    next_hop_mode: str | None = None
    password: BGPPassword | None = None
    source_address: str = ""
    max_restart_time: str | None = None
    keepalive_time: str | None = None
    num_allowed_local_as_numbers: int | None = msgspec.field(default=None, name="numAllowedLocalASNumbers")
    ttl_security: int | None = None
    reachable_by: str = ""
    filters: tuple[str, ...] = ()
    reverse_peering: str | None = None


_WITH_PORT = re.compile(r"\[([0-9a-fA-F:.]+)\]:([0-9]{1,5})|([0-9.]+):([0-9]{1,5})")


def peer_address(text: str) -> tuple[Address, int | None]:
    """The address and the port, if one is given, of ``10.0.0.1``, ``10.0.0.1:180``, ``fd00::1`` or ``[fd00::1]:180``.

    Raises `ValueError`.
    """
    match = _WITH_PORT.fullmatch(text)
    if match is None:
        return Address.parse(text), None
    port = int(match[2] or match[4])
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is not between 1 and 65535")
    return Address.parse(match[1] or match[3]), port


def validate(peer: Resource[Any]) -> list[InvalidResource]:
    """Calico's rules: who peers with whom must be said in exactly one way."""
    spec: BGPPeerSpec = peer.spec
    found = Findings(peer)
    found.subdomain("metadata.name", peer.key.name)
    for field, value in (
        ("nodeSelector", spec.node_selector),
        ("peerSelector", spec.peer_selector),
        ("localWorkloadSelector", spec.local_workload_selector),
    ):
        found.selector(f"spec.{field}", value)
    found.as_number("spec.asNumber", spec.as_number)
    found.as_number("spec.localASNumber", spec.local_as_number)
    if spec.peer_ip:
        try:
            peer_address(spec.peer_ip)
        except ValueError:
            found.add("spec.peerIP", spec.peer_ip, "is not an IP address, with or without a port")
    _combinations(found, spec)
    found.one_of("spec.nextHopMode", spec.next_hop_mode, ("Auto", "Self", "Keep"))
    found.one_of("spec.sourceAddress", spec.source_address, ("UseNodeIP", "None"))
    found.one_of("spec.reversePeering", spec.reverse_peering, ("Auto", "Manual"))
    found.duration("spec.maxRestartTime", spec.max_restart_time)
    found.duration("spec.keepaliveTime", spec.keepalive_time)
    found.between("spec.ttlSecurity", spec.ttl_security, 0, 255)
    found.between("spec.numAllowedLocalASNumbers", spec.num_allowed_local_as_numbers, 0, 255)
    found.address("spec.reachableBy", spec.reachable_by)
    return found.found


def _combinations(found: Findings, spec: BGPPeerSpec) -> None:
    if spec.node and spec.node_selector:
        found.add("spec.node", spec.node, "stands beside spec.nodeSelector: give one of them")
    ways = [
        name
        for name, value in (
            ("spec.peerIP", spec.peer_ip),
            ("spec.peerSelector", spec.peer_selector),
            ("spec.localWorkloadSelector", spec.local_workload_selector),
        )
        if value
    ]
    if not ways:
        found.add("spec.peerIP", None, "is required, or spec.peerSelector, or spec.localWorkloadSelector")
    elif len(ways) > 1:
        found.add(ways[0], None, f"stands beside {' and '.join(ways[1:])}: give one of them")
    if spec.peer_selector and spec.as_number is not None:
        found.add(
            "spec.asNumber", spec.as_number, "is given by the selected nodes when spec.peerSelector is set"
        )
    if (spec.peer_ip or spec.local_workload_selector) and spec.as_number is None:
        found.add("spec.asNumber", None, f"is required with {ways[0]}")
    if spec.reachable_by and not spec.peer_ip:
        found.add("spec.reachableBy", spec.reachable_by, "is possible only with spec.peerIP")
    if spec.keep_original_next_hop and spec.next_hop_mode:
        found.add("spec.keepOriginalNextHop", "true", "stands beside spec.nextHopMode, which replaces it")


def normalise(peer: Resource[Any]) -> Resource[Any]:
    """AS numbers as numbers."""
    spec: BGPPeerSpec = peer.spec
    return peer.with_spec(
        msgspec.structs.replace(
            spec,
            as_number=canonical_as_number(spec.as_number),
            local_as_number=canonical_as_number(spec.local_as_number),
        )
    )


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    kind=BGP_PEER,
    plural="bgppeers",
    spec=BGPPeerSpec,
    aliases=("bgpp",),
    columns=(
        NAME,
        Column("PEERIP", lambda r: r.spec.peer_ip),
        Column("NODE", lambda r: r.spec.node or r.spec.node_selector or "(global)"),
        Column("ASN", lambda r: r.spec.as_number),
    ),
)
