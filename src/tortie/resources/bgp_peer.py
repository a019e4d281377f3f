"""BGPPeer: a BGP session besides the mesh."""

from __future__ import annotations

import msgspec

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
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


INFO = KindInfo(
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
