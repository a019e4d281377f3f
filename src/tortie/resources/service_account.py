"""ServiceAccount: as whom a pod runs; its labels are what a network reads of it. Its document has no ``spec``."""

from __future__ import annotations

from typing import Any

from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CORE, NAME, NAMESPACE, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

SERVICE_ACCOUNT = Kind(CORE, "ServiceAccount")


class ServiceAccountSpec(Spec, frozen=True):
    """Nothing that a network reads."""


def validate(account: Resource[Any]) -> list[InvalidResource]:
    """Names."""
    found = Findings(account)
    found.subdomain("metadata.name", account.key.name)
    found.dns_label("metadata.namespace", account.key.within)
    found.required("metadata.namespace", account.key.within)
    return found.found


INFO = KindInfo(
    validate=validate,
    kind=SERVICE_ACCOUNT,
    version="v1",
    plural="serviceaccounts",
    spec=ServiceAccountSpec,
    namespaced=True,
    aliases=("sa",),
    open=True,
    columns=(NAMESPACE, NAME),
)
