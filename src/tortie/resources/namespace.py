"""Namespace: its labels and annotations are what a network reads of it."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CORE, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

NAMESPACE = Kind(CORE, "Namespace")


class NamespaceSpec(Spec, frozen=True):
    """Nothing that a network reads."""

    finalizers: tuple[str, ...] = ()


INFO = KindInfo(
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
