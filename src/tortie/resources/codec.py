"""Between documents (plain JSON values) and resources, losing nothing.

`decode` and `encode` speak the document that users see: ``apiVersion``, ``kind``, ``metadata``, ``spec``. `load` and `dump` speak
what the datastore holds: the same document without its ``resourceVersion``, or, for a bare kind, the spec's JSON alone.
Fields that no type knows are kept by path and written back.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from tortie.errors import InvalidResource
from tortie.resources import registry
from tortie.resources.kind_info import KindInfo
from tortie.resources.resource import NOTHING, Metadata, Resource, ResourceKey, Revision
from tortie.resources.shape import Path, dotted, is_array, is_object, shape_of, type_errors, unknown_in

_ROOT = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_BESIDE_SPEC = _ROOT - {"spec"}
METADATA = frozenset(
    {
        "name",
        "namespace",
        "labels",
        "annotations",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "generateName",
        "finalizers",
        "ownerReferences",
    }
)
SpecT = TypeVar("SpecT")

_from_json = msgspec.json.Decoder().decode
_to_json = msgspec.json.Encoder().encode


def decode(
    info: KindInfo,
    document: Mapping[str, Any] | bytes,
    *,
    key: ResourceKey | None = None,
    revision: Revision | None = None,
) -> Resource[Any]:
    """A document as a resource. Tolerant: unknown fields are kept, absent and null ones get their defaults.

    ``key`` says where it was found; without it the metadata does. ``revision`` likewise. Raises `InvalidResource`.
    """
    body: Any = _from_json(document) if isinstance(document, bytes) else document
    if not is_object(body):
        raise InvalidResource("(document)", None, "is not a mapping", str(key or info.kind))
    fields = as_ours(info, body)
    raw: Any = fields.get("metadata")
    meta: dict[str, Any] = raw if is_object(raw) else {}
    spec_fields: Any = fields.get("spec")
    if key is None and info.key_of is not None and is_object(spec_fields):
        key = info.key_of(str(meta.get("name") or ""), spec_fields)
    if key is None:
        name, within = meta.get("name"), meta.get("namespace")
        key = ResourceKey(
            info.kind,
            name if isinstance(name, str) else "",
            (within if isinstance(within, str) else "") if info.namespaced else "",
        )
    unknown: dict[Path, Any] = {}
    if extra := fields.keys() - _ROOT:
        unknown.update(((name,), fields[name]) for name in extra)
    if extra := meta.keys() - METADATA:
        unknown.update((("metadata", name), meta[name]) for name in extra)
    spec = _decode_spec(info, fields.get("spec"), key, unknown)
    version: Any = meta.get("resourceVersion")
    return Resource(
        key=key,
        metadata=_decode_metadata(meta, key),
        spec=spec,
        status=fields.get("status"),
        unknown=unknown or NOTHING,
        revision=revision if revision is not None or not version else Revision(str(version)),
    )


def encode(resource: Resource[Any], *, revision: bool = False) -> dict[str, Any]:
    """The whole document, unknown fields merged back; with ``revision`` its ``resourceVersion`` too."""
    info = registry.info(resource.key.kind)
    document: dict[str, Any] = {
        "apiVersion": info.api_version,
        "kind": info.kind.name,
        "metadata": _encode_metadata(resource, info, revision),
    }
    spec = _plain(resource.spec)
    if spec or not info.open:
        document["spec"] = spec
    if resource.status is not None:
        document["status"] = resource.status
    for path, value in resource.unknown.items():
        _put(document, path, value)
    if info.rooted:
        document.update(document.pop("spec", {}))
    return document


def as_ours(info: KindInfo, document: Mapping[str, Any]) -> dict[str, Any]:
    """A document in the kind's present version, the fields of its spec under ``spec`` wherever they stood."""
    body = dict(document)
    version: Any = body.get("apiVersion")
    if isinstance(version, str) and (upgrade := info.older.get(version)):
        body = {**upgrade(body), "apiVersion": info.api_version}
    if info.rooted:
        spec = {name: body.pop(name) for name in list(body) if name not in _BESIDE_SPEC}
        body["spec"] = spec
    return body


def decode_spec(
    info: KindInfo, key: ResourceKey, stored: Mapping[str, Any] | bytes
) -> tuple[Any, Mapping[Path, Any]]:
    """A bare kind's spec from its stored JSON, and its unknown fields. An empty value is an empty object."""
    body: Any = _from_json(stored or b"{}") if isinstance(stored, bytes) else stored
    if info.stored_names and is_object(body):
        ours = {theirs: name for name, theirs in info.stored_names.items()}
        body = {ours.get(name, name): value for name, value in body.items()}
    unknown: dict[Path, Any] = {}
    spec = _decode_spec(info, body, key, unknown)
    return info.complete(key, spec), unknown or NOTHING


def encode_spec(resource: Resource[Any]) -> dict[str, Any]:
    """A bare kind's stored JSON: its spec as IPAM writes it."""
    info = registry.info(resource.key.kind)
    document: dict[str, Any] = {"spec": _plain(info.trim(resource.spec) if info.trim else resource.spec)}
    for path, value in resource.unknown.items():
        if path[0] == "spec":
            _put(document, path, value)
    stored: dict[str, Any] = document["spec"]
    if info.stored_names:
        stored = {info.stored_names.get(name, name): value for name, value in stored.items()}
    return stored


def load(key: ResourceKey, stored: bytes, revision: Revision | None = None) -> Resource[Any]:
    """A resource from what the datastore holds at its key. Raises `InvalidResource`."""
    info = registry.info(key.kind)
    try:
        if not info.bare:
            found = None if info.open else _plain_document(info, key, stored, revision)
            return found or decode(info, stored, key=key, revision=revision)
        if not info.stored_names:
            # The hot path of IPAM: one pass, when there is nothing that we do not know.
            with contextlib.suppress(msgspec.ValidationError):
                spec = _reader(info.spec).decode(stored or b"{}")
                return Resource(key=key, spec=info.complete(key, spec), revision=revision)
        spec, unknown = decode_spec(info, key, stored)
    except msgspec.DecodeError as error:
        raise InvalidResource("(document)", None, f"is not JSON: {error}", str(key)) from None
    return Resource(key=key, spec=spec, unknown=unknown, revision=revision)


class _Document(msgspec.Struct, Generic[SpecT], forbid_unknown_fields=True):
    """A whole document that holds nothing unknown outside its metadata."""

    spec: SpecT
    apiVersion: str = ""  # noqa: N815
    kind: str = ""
    metadata: dict[str, Any] = {}
    status: Any = None


@functools.cache
def _reader(of: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(of)


@functools.cache
def _document_reader(spec: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Document[spec])


def _plain_document(
    info: KindInfo, key: ResourceKey, stored: bytes, revision: Revision | None
) -> Resource[Any] | None:
    """The hot path of watches: one pass. None when the document holds something that we do not know, or is wrong."""
    try:
        found: _Document[Any] = _document_reader(info.spec).decode(stored)
    except msgspec.ValidationError:
        return None
    meta = found.metadata
    unknown: dict[Path, Any] = {("metadata", name): meta[name] for name in meta.keys() - METADATA}
    return Resource(
        key=key,
        metadata=_decode_metadata(meta, key),
        spec=found.spec,
        status=found.status,
        unknown=unknown or NOTHING,
        revision=revision,
    )


def dump(resource: Resource[Any]) -> bytes:
    """What the datastore holds of a resource."""
    info = registry.info(resource.key.kind)
    if not info.bare:
        return _to_json(encode(resource))
    if not resource.unknown and not info.stored_names and not info.trim:
        return _to_json(resource.spec)
    return _to_json(encode_spec(resource))


def _plain(spec: Any) -> Any:
    """A spec as plain JSON values: lists, not tuples, so that documents compare equal."""
    return _from_json(_to_json(spec))


def _decode_spec(info: KindInfo, value: Any, key: ResourceKey, unknown: dict[Path, Any]) -> Any:
    if value is None:
        value = {}
    if not info.open:
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(value, info.spec)
    known: Any = unknown_in(value, shape_of(info.spec), ("spec",), unknown) if is_object(value) else value
    with contextlib.suppress(msgspec.ValidationError):
        return msgspec.convert(known, info.spec)
    known = without_nulls(known)
    for path, wrong, rule in type_errors(known, info.spec, ("spec",)):
        raise InvalidResource(info.place(path), wrong, rule, str(key))
    return msgspec.convert(known, info.spec)


def without_nulls(value: Any) -> Any:
    """The same without members that are null: Go writes an empty list or map so. A list's nulls stay."""
    if is_object(value):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    if is_array(value):
        return [without_nulls(each) for each in value]
    return value


def _strings(meta: dict[str, Any], name: str, key: ResourceKey) -> dict[str, str]:
    value: Any = meta.get(name)
    if value is None:
        return {}
    if not is_object(value):
        raise InvalidResource(f"metadata.{name}", value, "is not a mapping", str(key))
    for each, text in value.items():
        if not isinstance(text, str):
            raise InvalidResource(dotted(("metadata", name, str(each))), text, "is not a string", str(key))
    return value


_intern = sys.intern


def _decode_metadata(meta: dict[str, Any], key: ResourceKey) -> Metadata:
    labels = _strings(meta, "labels", key)
    return Metadata(
        labels={_intern(name): _intern(value) for name, value in labels.items()},
        annotations=_strings(meta, "annotations", key),
        uid=meta.get("uid") or "",
        creation_timestamp=str(meta.get("creationTimestamp") or ""),
        deletion_timestamp=str(meta.get("deletionTimestamp") or ""),
        generate_name=meta.get("generateName") or "",
        finalizers=tuple(meta.get("finalizers") or ()),
        owners=tuple(meta.get("ownerReferences") or ()),
    )


def _encode_metadata(resource: Resource[Any], info: KindInfo, revision: bool) -> dict[str, Any]:
    meta = resource.metadata
    fields: dict[str, Any] = {"name": resource.key.name}
    if info.namespaced:
        fields["namespace"] = resource.key.within
    if revision and resource.revision is not None:
        fields["resourceVersion"] = resource.revision
    more: dict[str, Any] = {
        "generateName": meta.generate_name,
        "uid": meta.uid,
        "creationTimestamp": meta.creation_timestamp,
        "deletionTimestamp": meta.deletion_timestamp,
        "labels": dict(meta.labels),
        "annotations": dict(meta.annotations),
        "finalizers": list(meta.finalizers),
        "ownerReferences": [dict(owner) for owner in meta.owners],
    }
    fields.update((name, value) for name, value in more.items() if value)
    return fields


def _put(document: dict[str, Any], path: Path, value: Any) -> None:
    """Set an unknown field. When the list or object that held it is gone, it goes too."""
    at: Any = document
    *parents, last = path
    for depth, part in enumerate(parents):
        if isinstance(part, int):
            if not is_array(at) or part >= len(at):
                return
            at = at[part]
        elif not is_object(at) or (part not in at and depth > 0):
            return
        else:
            at = at.setdefault(part, {})
    if is_object(at):
        at.setdefault(str(last), value)
