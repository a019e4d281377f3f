"""Profile: labels and rules that its endpoints inherit. Pods have ``kns.<namespace>`` and ``ksa.<namespace>.<account>``."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.rules import Rule
from tortie.resources.spec import Spec

PROFILE = Kind(CALICO, "Profile")


class ProfileSpec(Spec, frozen=True):
    """Rules that hold where no policy selects the endpoint."""

    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    labels_to_apply: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it


INFO = KindInfo(
    kind=PROFILE,
    plural="profiles",
    spec=ProfileSpec,
    aliases=("pro",),
    columns=(
        NAME,
        Column("LABELS", lambda r: [f"{k}={v}" for k, v in r.spec.labels_to_apply.items()], wide=True),
    ),
)
