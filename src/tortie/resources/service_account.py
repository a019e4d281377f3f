"""ServiceAccount: as whom a pod runs; its labels are what a network reads of it. Its document has no ``spec``."""

from __future__ import annotations

from tortie.resources.kind_info import CORE, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

SERVICE_ACCOUNT = Kind(CORE, "ServiceAccount")


class ServiceAccountSpec(Spec, frozen=True):
    """Nothing that a network reads."""


INFO = KindInfo(
    kind=SERVICE_ACCOUNT,
    version="v1",
    plural="serviceaccounts",
    spec=ServiceAccountSpec,
    namespaced=True,
    aliases=("sa",),
    open=True,
    columns=(NAMESPACE, NAME),
)
