"""Prints resources in the form that ``-o`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tortie import columns

if TYPE_CHECKING:
    from tortie.resources.resource import Resource, ResourceKey


def reference(resource: Resource[Any]) -> str:
    """``ippool.projectcalico.org/name``, as kubectl's ``-o name``."""
    kind = resource.key.kind
    group = f".{kind.group}" if kind.group else ""
    return f"{kind.name.lower()}{group}/{resource.key.name}"


def document(resource: Resource[Any], *, export: bool = False) -> dict[str, Any]:
    """The whole document; ``export`` leaves out what only this datastore gave it."""
    from tortie.resources import codec
    from tortie.resources.source import SOURCE_ANNOTATION

    found = codec.encode(resource, revision=not export)
    if export:
        for name in ("uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"):
            found["metadata"].pop(name, None)
        annotations = found["metadata"].get("annotations", {})
        annotations.pop(SOURCE_ANNOTATION, None)
        if not annotations:
            found["metadata"].pop("annotations", None)
        found.pop("status", None)
    return found


def show(
    resources: Sequence[Resource[Any]],
    *,
    output: str | None,
    single: bool = False,
    export: bool = False,
    namespaces: bool = False,
) -> None:
    """Print them. ``single``: one was asked for by name, so that its document stands alone and not in a list."""
    if output in ("json", "yaml"):
        documents = [document(each, export=export) for each in resources]
        whole: object = documents[0] if single and len(documents) == 1 else _list(resources, documents)
        click.echo(columns.as_json(whole) if output == "json" else columns.as_yaml(whole), nl=False)
    elif output == "name":
        click.echo("".join(reference(each) + "\n" for each in resources), nl=False)
    else:
        click.echo(_tables(resources, wide=output == "wide", namespaces=namespaces), nl=False)


def _list(resources: Sequence[Resource[Any]], documents: list[dict[str, Any]]) -> dict[str, Any]:
    from tortie.resources import registry

    kinds = {each.key.kind for each in resources}
    if len(kinds) == 1:
        info = registry.info(kinds.pop())
        return {"apiVersion": info.api_version, "kind": f"{info.kind.name}List", "items": documents}
    return {"apiVersion": "v1", "kind": "List", "items": documents}


def _tables(resources: Sequence[Resource[Any]], *, wide: bool, namespaces: bool) -> str:
    """One table a kind, a blank line between them."""
    from tortie.resources import registry

    kinds = dict.fromkeys(each.key.kind for each in resources)
    parts: list[str] = []
    for kind in kinds:
        info = registry.info(kind)
        shown = [each for each in info.columns if namespaces or each.heading != "NAMESPACE"]
        rows = [each for each in resources if each.key.kind == kind]
        parts.append(columns.table(rows, shown, wide=wide))
    return "\n".join(parts)


def summary(verb: str, keys: Sequence[ResourceKey]) -> str:
    """``Successfully applied 1 'IPPool' resource(s)``."""
    kinds = {key.kind for key in keys}
    kind = f" '{kinds.pop()}'" if len(kinds) == 1 else ""
    return f"Successfully {verb} {len(keys)}{kind} resource(s)"
