"""IPPool: a range of addresses that pods (or tunnels) get theirs from (Calico: reference, resource IPPool)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec, written

IP_POOL = Kind(CALICO, "IPPool")


class IPPoolSpec(Spec, frozen=True):
    """Modes are ``Never``, ``Always`` or ``CrossSubnet``; at most one of the two encapsulations is on."""

    cidr: str = written("")
    vxlan_mode: str = written("Never")
    ipip_mode: str = written("Never")
    nat_outgoing: bool = False
    disabled: bool = False
    disable_bgp_export: bool = False
    block_size: int | None = None
    node_selector: str = written("all()")
    namespace_selector: str = ""
    allowed_uses: tuple[str, ...] = written(("Workload", "Tunnel"))
    assignment_mode: str = written("Automatic")

    @property
    def block_length(self) -> int:
        """The prefix length of its blocks: as set, or Calico's 26 and 122."""
        return self.block_size or (122 if ":" in self.cidr else 26)


INFO = KindInfo(
    kind=IP_POOL,
    plural="ippools",
    spec=IPPoolSpec,
    aliases=("pool", "pools", "ipp"),
    columns=(
        NAME,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("NAT", lambda r: r.spec.nat_outgoing, wide=True),
        Column("IPIPMODE", lambda r: r.spec.ipip_mode, wide=True),
        Column("VXLANMODE", lambda r: r.spec.vxlan_mode, wide=True),
        Column("DISABLED", lambda r: r.spec.disabled, wide=True),
        Column("DISABLEBGPEXPORT", lambda r: r.spec.disable_bgp_export, wide=True),
        Column("SELECTOR", lambda r: r.spec.node_selector),
        Column("ASSIGNMENTMODE", lambda r: r.spec.assignment_mode, wide=True),
    ),
)
