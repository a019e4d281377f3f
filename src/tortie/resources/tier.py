"""Tier: policies that are evaluated together, before or after other tiers (Calico: reference, resource Tier)."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec, written

TIER = Kind(CALICO, "Tier")

DEFAULT = "default"
"""The tier of policies that name none; it exists although nobody made it."""
BUILT_IN = {"kube-admin": 1_000.0, DEFAULT: 1_000_000.0, "kube-baseline": 10_000_000.0}
"""Orders of the tiers that Calico has built in."""


class TierSpec(Spec, frozen=True):
    """``default_action`` is what happens to a packet that no policy of the tier decided."""

    order: float | None = None
    default_action: str = written("Deny")


INFO = KindInfo(
    kind=TIER,
    plural="tiers",
    spec=TierSpec,
    columns=(NAME, Column("ORDER", lambda r: r.spec.order)),
)
