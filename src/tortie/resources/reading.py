"""From text that a user wrote to resources that may be stored: everything wrong with it at once, or all of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from tortie.errors import InvalidDocument, InvalidResource
from tortie.resources import codec, registry
from tortie.resources.documents import Document, pieces
from tortie.resources.kind_info import KindInfo
from tortie.resources.resource import Resource, ResourceKey
from tortie.resources.shape import Path, dotted, is_array, is_object, shape_of, type_errors, unknown_in
from tortie.resources.source import with_source
from tortie.resources.taking import POLICIES

ROOT = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
METADATA = codec.METADATA | {"generation", "managedFields", "selfLink", "deletionGracePeriodSeconds"}


def read(
    text: str, file: str, *, namespace: str = "default", allow_unknown: bool = False
) -> list[Resource[Any]]:
    """The resources of a YAML or JSON text, with defaults filled in, validated one by one.

    ``namespace`` is for those that name none. Raises `InvalidDocument` with all findings, each with file and line.
    """
    resources: list[Resource[Any]] = []
    findings: list[InvalidResource] = []
    for document in pieces(text, file):
        try:
            if isinstance(document, InvalidDocument):
                raise document
            resources.append(_with_source(read_document(document, namespace, allow_unknown), document))
        except InvalidDocument as error:
            findings.extend(error.findings)
    if findings:
        raise InvalidDocument(findings)
    return resources


def refuse_duplicates(resources: Iterable[Resource[Any]]) -> None:
    """Raises `InvalidDocument` when two of them have one key."""
    first: dict[ResourceKey, Resource[Any]] = {}
    findings: list[InvalidResource] = []
    for each in resources:
        if each.key in first:
            name = "metadata.name"
            rule = f"stands twice, first at {first[each.key].place(name)}"
            findings.append(InvalidResource(name, each.key.name, rule, str(each.key), each.place(name)))
        first.setdefault(each.key, each)
    if findings:
        raise InvalidDocument(findings)


def read_document(document: Document, namespace: str, allow_unknown: bool) -> Resource[Any]:
    """One document as `read` takes it. Raises `InvalidDocument` with everything that is wrong with it."""
    info = _kind(document)
    value: dict[str, Any] = codec.as_ours(info, codec.without_nulls(document.value))
    findings = [] if allow_unknown or info.open else list(_unknown(document, value, info))
    wrong_types = list(_types(document, value, info))
    if wrong_types:
        findings += [*wrong_types, *_beside(document, value, info, namespace)]
        raise InvalidDocument(sorted(findings, key=lambda each: document.line_of(each.field)))
    try:
        resource = codec.decode(info, document.value)
    except InvalidResource as error:
        placed = document.finding(error.field, error.value, error.rule, error.key)
        raise InvalidDocument([*findings, placed]) from None
    if info.namespaced and not resource.key.within:
        resource = replace(resource, key=resource.key._replace(within=namespace))
    resource = replace(info.normalise(resource), origin=document.origin)
    findings += [*_scope(document, value, info), *info.validate(resource)]
    if findings:
        raise InvalidDocument(sorted(findings, key=lambda each: document.line_of(each.field)))
    return resource


def _with_source(resource: Resource[Any], document: Document) -> Resource[Any]:
    """Of a policy, where it stands, to be told when it decides."""
    if resource.key.kind not in POLICIES:
        return resource
    known = bool(document.lines)
    return with_source(resource, document.file, lambda field: document.line_of(field) if known else 0)


def _kind(document: Document) -> KindInfo:
    value = document.value
    if not is_object(value):
        raise InvalidDocument([document.finding("(document)", None, "is not a mapping of fields")])
    findings = [
        document.finding(
            name, value.get(name), "is required" if value.get(name) is None else "is not a string"
        )
        for name in ("apiVersion", "kind")
        if not isinstance(value.get(name), str)
    ]
    if findings:
        raise InvalidDocument(findings)
    info = registry.by_document(value["apiVersion"], value["kind"])
    if info is None:
        same = [each.api_version for each in registry.KINDS if each.kind.name == value["kind"]]
        if same:
            rule = f"is not the version of {value['kind']}, which is {' or '.join(same)}"
            raise InvalidDocument([document.finding("apiVersion", value["apiVersion"], rule)])
        kinds = ", ".join(dict.fromkeys(each.kind.name for each in registry.KINDS if each.for_users))
        raise InvalidDocument(
            [document.finding("kind", value["kind"], f"is not a kind that Tortie has: {kinds}")]
        )
    if not info.for_users:
        raise InvalidDocument(
            [document.finding("kind", value["kind"], "is kept by IPAM; `tortie ipam` shows and changes it")]
        )
    return info


def _name(document: Document, info: KindInfo) -> str:
    metadata: Any = document.value.get("metadata")
    name: Any = metadata.get("name") if is_object(metadata) else None
    within: Any = metadata.get("namespace") if is_object(metadata) and info.namespaced else None
    if not isinstance(name, str):
        return info.title
    return f"{info.title} {within}/{name}" if isinstance(within, str) and within else f"{info.title} {name}"


def _unknown(document: Document, value: dict[str, Any], info: KindInfo) -> Iterator[InvalidResource]:
    paths: dict[Path, Any] = {(name,): value[name] for name in value.keys() - ROOT}
    metadata: Any = value.get("metadata")
    if is_object(metadata):
        paths.update({("metadata", name): metadata[name] for name in metadata.keys() - METADATA})
    spec: Any = value.get("spec")
    if is_object(spec):
        unknown_in(spec, shape_of(info.spec), ("spec",), paths)
    for path in sorted(paths, key=lambda each: document.line_of(dotted(each))):
        if len(path) == 2 and path[0] == "spec" and path[1] in info.known:
            continue
        yield document.finding(info.place(path), None, "is not a known field", _name(document, info))


def _types(document: Document, value: dict[str, Any], info: KindInfo) -> Iterator[InvalidResource]:
    key = _name(document, info)
    metadata: Any = value.get("metadata", {})
    if not is_object(metadata):
        yield document.finding("metadata", None, "is not a mapping", key)
        return
    for name in ("name", "namespace", "uid", "generateName"):
        if name in metadata and not isinstance(metadata[name], str):
            yield document.finding(f"metadata.{name}", metadata[name], "is not a string", key)
    for name in ("labels", "annotations"):
        pairs: Any = metadata.get(name, {})
        if not is_object(pairs):
            yield document.finding(f"metadata.{name}", None, "is not a mapping", key)
            continue
        for each, text in pairs.items():
            if not isinstance(text, str):
                yield document.finding(
                    dotted(("metadata", name, each)), text, "is not a string: write it in quotes", key
                )
    for name in ("finalizers", "ownerReferences"):
        if not is_array(metadata.get(name, [])):
            yield document.finding(f"metadata.{name}", None, "is not a list", key)
    for path, wrong, rule in type_errors(value.get("spec", {}), info.spec, ("spec",)):
        shown = None if is_object(wrong) or is_array(wrong) else wrong
        yield document.finding(info.place(path), shown, rule, key)


def _beside(
    document: Document, value: dict[str, Any], info: KindInfo, namespace: str
) -> Iterator[InvalidResource]:
    """What else is wrong where some fields have the wrong type.

    Of the list elements that those stand in only what is wrong with a value by itself is said: what is missing there, or does
    not fit, and is told without a value, may follow from the field of the wrong type.
    """
    spec: Any = value.get("spec", {})
    if info.rooted or not is_object(spec):
        return
    rest: dict[str, Any] = copy.deepcopy(spec)
    removed: list[tuple[str, str]] = []
    """Each field, and the list element that it stands in."""
    for path, *_ in type_errors(spec, info.spec, ("spec",)):
        *above, last = path[1:]
        parent: Any = rest
        for part in above:
            parent = parent[part]
        parent[last] = {}
        if not isinstance(last, int):
            del parent[last]
        first = next((index + 1 for index, part in enumerate(path) if isinstance(part, int)), len(path))
        removed.append((dotted(path), dotted(path[:first])))
    try:
        resource = codec.decode(info, {**value, "spec": rest})
    except InvalidResource:
        return
    if info.namespaced and not resource.key.within:
        resource = replace(resource, key=resource.key._replace(within=namespace))
    for each in info.validate(replace(info.normalise(resource), origin=document.origin)):
        if not any(
            _within(each.field, field) or (_within(each.field, element) and each.value is None)
            for field, element in removed
        ):
            yield each


def _within(field: str, other: str) -> bool:
    return field == other or field.startswith((f"{other}.", f"{other}["))


def _scope(document: Document, value: dict[str, Any], info: KindInfo) -> Iterator[InvalidResource]:
    metadata: dict[str, Any] = value.get("metadata", {})
    key = _name(document, info)
    if metadata.get("namespace") and not info.namespaced:
        rule = f"is given, but a {info.title} is in no namespace"
        yield document.finding("metadata.namespace", metadata["namespace"], rule, key)
    if info.bare:
        for name in ("labels", "annotations"):
            if metadata.get(name):
                yield document.finding(f"metadata.{name}", None, f"cannot be stored with a {info.title}", key)
