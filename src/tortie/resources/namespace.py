"""Namespace: its labels and annotations are what a network reads of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CORE, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

NAMESPACE = Kind(CORE, "Namespace")
NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceSpec(Spec, frozen=True):
    """Nothing that a network reads."""

    finalizers: tuple[str, ...] = ()


def validate(namespace: Resource[Any]) -> list[InvalidResource]:
    """The name."""
    found = Findings(namespace)
    found.dns_label("metadata.name", namespace.key.name)
    return found.found


def normalise(namespace: Resource[Any]) -> Resource[Any]:
    """With the label that Kubernetes' API server gives every namespace, for policies that name one."""
    metadata = namespace.metadata
    if not namespace.key.name or metadata.labels.get(NAME_LABEL) == namespace.key.name:
        return namespace
    labels = {**metadata.labels, NAME_LABEL: namespace.key.name}
    return replace(namespace, metadata=replace(metadata, labels=labels))


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
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
