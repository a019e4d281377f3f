"""Tier: policies that are evaluated together, before or after other tiers (Calico: reference, resource Tier)."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

TIER = Kind(CALICO, "Tier")

DEFAULT = "default"
"""The tier of policies that name none; it exists even where nobody made it."""
BUILT_IN = {"kube-admin": 1_000.0, DEFAULT: 1_000_000.0, "kube-baseline": 10_000_000.0}
"""Orders of the tiers that Calico has built in."""
PASSING = ("kube-admin", "kube-baseline")
"""Built-in tiers whose end passes on."""


class TierSpec(Spec, frozen=True):
    """``default_action`` is what happens to a packet that no policy of the tier decided: ``Deny`` or ``Pass``."""

    order: float | None = None
    default_action: str = ""


def order_text(order: float | None) -> str | int | float:
    """As people write it: 1000, not 1000.0."""
    if order is None:
        return ""
    return int(order) if order.is_integer() else order


def default_action(name: str) -> str:
    """What the end of a tier does when it does not say."""
    return "Pass" if name in PASSING else "Deny"


def validate(tier: Resource[Any]) -> list[InvalidResource]:
    """The name, and what is fixed for the tiers that are built in."""
    spec: TierSpec = tier.spec
    name = tier.key.name
    found = Findings(tier)
    found.dns_label("metadata.name", name)
    found.number("spec.order", spec.order)
    found.one_of("spec.defaultAction", spec.default_action, ("Deny", "Pass"))
    if name in BUILT_IN:
        if spec.order != BUILT_IN[name]:
            found.add("spec.order", spec.order, f"is not {BUILT_IN[name]:.0f}, which tier {name} has")
        if spec.default_action in ("Deny", "Pass") and spec.default_action != default_action(name):
            found.add(
                "spec.defaultAction",
                spec.default_action,
                f"is not {default_action(name)}, which tier {name} has",
            )
    return found.found


def normalise(tier: Resource[Any]) -> Resource[Any]:
    """With its default action."""
    spec: TierSpec = tier.spec
    action = spec.default_action or default_action(tier.key.name)
    return tier.with_spec(msgspec.structs.replace(spec, default_action=action))


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    checked=True,
    kind=TIER,
    plural="tiers",
    spec=TierSpec,
    columns=(NAME, Column("ORDER", lambda r: order_text(r.spec.order))),
)
