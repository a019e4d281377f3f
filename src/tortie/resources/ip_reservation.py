"""IPReservation: addresses that automatic assignment leaves alone."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

IP_RESERVATION = Kind(CALICO, "IPReservation")


class IPReservationSpec(Spec, frozen=True):
    """CIDRs and single addresses."""

    reserved_cidrs: tuple[str, ...] = ()


INFO = KindInfo(
    kind=IP_RESERVATION,
    plural="ipreservations",
    spec=IPReservationSpec,
    aliases=("ipres",),
    columns=(NAME, Column("CIDRS", lambda r: r.spec.reserved_cidrs, wide=True)),
)
