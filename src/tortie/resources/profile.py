"""Profile: labels and rules that its endpoints inherit. Pods have ``kns.<namespace>`` and ``ksa.<namespace>.<account>``."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.rules import Rule, canonical_rules, check_rules
from tortie.resources.spec import Spec

PROFILE = Kind(CALICO, "Profile")


class ProfileSpec(Spec, frozen=True):
    """Rules that hold where no policy selects the endpoint."""

    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    labels_to_apply: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it


def validate(profile: Resource[Any]) -> list[InvalidResource]:
    """The name, and the shape of every rule."""
    found = Findings(profile)
    found.subdomain("metadata.name", profile.key.name)
    # There is nothing that a profile could pass to.
    check_rules(found, profile.spec.ingress, profile.spec.egress, actions=("Allow", "Deny", "Log"))
    return found.found


def normalise(profile: Resource[Any]) -> Resource[Any]:
    """Rules as Calico writes them."""
    spec: ProfileSpec = profile.spec
    return profile.with_spec(
        msgspec.structs.replace(
            spec, ingress=canonical_rules(spec.ingress), egress=canonical_rules(spec.egress)
        )
    )


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    checked=True,
    kind=PROFILE,
    plural="profiles",
    spec=ProfileSpec,
    aliases=("pro",),
    columns=(
        NAME,
        Column("LABELS", lambda r: [f"{k}={v}" for k, v in r.spec.labels_to_apply.items()], wide=True),
    ),
)
