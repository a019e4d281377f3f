"""IPReservation: addresses that automatic assignment leaves alone."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings, canonical_prefix
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

IP_RESERVATION = Kind(CALICO, "IPReservation")


class IPReservationSpec(Spec, frozen=True):
    """CIDRs and single addresses."""

    reserved_cidrs: tuple[str, ...] = ()


def validate(reservation: Resource[Any]) -> list[InvalidResource]:
    """Every entry is an address or a CIDR."""
    found = Findings(reservation)
    found.subdomain("metadata.name", reservation.key.name)
    for index, cidr in enumerate(reservation.spec.reserved_cidrs):
        found.prefix(f"spec.reservedCIDRs[{index}]", cidr)
    return found.found


def normalise(reservation: Resource[Any]) -> Resource[Any]:
    """The CIDRs in their canonical form."""
    spec: IPReservationSpec = reservation.spec
    cidrs = tuple(canonical_prefix(cidr) for cidr in spec.reserved_cidrs)
    return reservation.with_spec(msgspec.structs.replace(spec, reserved_cidrs=cidrs))


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    kind=IP_RESERVATION,
    plural="ipreservations",
    spec=IPReservationSpec,
    aliases=("ipres",),
    columns=(NAME, Column("CIDRS", lambda r: r.spec.reserved_cidrs, wide=True)),
)
