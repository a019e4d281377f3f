"""Namespace: its labels and annotations are what a network reads of it."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CORE, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

NAMESPACE = Kind(CORE, "Namespace")


class NamespaceSpec(Spec, frozen=True):
    """Nothing that a network reads."""

    finalizers: tuple[str, ...] = ()


def validate(namespace: Resource[Any]) -> list[InvalidResource]:
    """The name."""
    found = Findings(namespace)
    found.dns_label("metadata.name", namespace.key.name)
    return found.found


INFO = KindInfo(
    validate=validate,
    kind=NAMESPACE,
    version="v1",
    plural="namespaces",
    spec=NamespaceSpec,
    aliases=("ns",),
    open=True,
    columns=(
        NAME,
        Column("LABELS", lambda r: [f"{k}={v}" for k, v in sorted(r.metadata.labels.items())], wide=True),
    ),
)
