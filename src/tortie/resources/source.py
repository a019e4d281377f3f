"""Which file a policy was applied from, and on which lines its rules stand: kept in an annotation, with a hash of the spec.

Whoever changes the spec by other means, with Calico's tools or with ``tortie patch``, leaves the annotation as it is: the hash
no longer fits then, and nothing is said rather than something stale. It is taken over the spec as Calico would write it, so
that a writer that fills in defaults or leaves them out changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from tortie.resources import registry
from tortie.resources.resource import Resource
from tortie.resources.shape import dotted

SOURCE_ANNOTATION = "tortie.io/source"


class Source(NamedTuple):
    """``ingress`` and ``egress`` hold one line for each rule; a line is 0 where it is not known (JSON)."""

    file: str
    line: int
    ingress: tuple[int, ...] = ()
    egress: tuple[int, ...] = ()


class _Kept(msgspec.Struct):
    """The annotation's JSON."""

    file: str
    line: int
    ingress: tuple[int, ...]
    egress: tuple[int, ...]
    hash: str


def source_of(resource: Resource[Any]) -> Source | None:
    """Where the policy was applied from; None when that is not known, or true no more."""
    text = resource.metadata.annotations.get(SOURCE_ANNOTATION)
    if not text:
        return None
    try:
        kept = msgspec.json.decode(text, type=_Kept)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    spec = resource.spec
    fits = len(kept.ingress) == len(spec.ingress) and len(kept.egress) == len(spec.egress)
    if not fits or kept.hash != spec_hash(resource):
        return None
    return Source(kept.file, kept.line, kept.ingress, kept.egress)


def with_source(resource: Resource[Any], file: str, line_of: Callable[[str], int]) -> Resource[Any]:
    """The policy with its place noted; ``line_of`` says on which line a field stands, and of ``""`` where the document does."""
    spec = resource.spec
    kept = _Kept(
        file=file,
        line=line_of(""),
        ingress=tuple(line_of(f"spec.ingress[{index}]") for index in range(len(spec.ingress))),
        egress=tuple(line_of(f"spec.egress[{index}]") for index in range(len(spec.egress))),
        hash=spec_hash(resource),
    )
    annotations = {**resource.metadata.annotations, SOURCE_ANNOTATION: msgspec.json.encode(kept).decode()}
    return replace(resource, metadata=replace(resource.metadata, annotations=annotations))


def spec_hash(resource: Resource[Any]) -> str:
    """Equal for specs that mean the same once their defaults are filled in."""
    normal = registry.info(resource.key.kind).normalise(resource)
    digest = hashlib.sha256(msgspec.json.encode(normal.spec, order="sorted"))
    unknown = {dotted(path): value for path, value in resource.unknown.items() if path[0] == "spec"}
    if unknown:
        digest.update(msgspec.json.encode(unknown, order="sorted"))
    return digest.hexdigest()[:32]
