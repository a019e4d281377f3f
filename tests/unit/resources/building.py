"""Resources from the documents that a test writes, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from tortie.resources import codec, registry
from tortie.resources.resource import Resource


def resource(kind: str, spec: dict[str, Any], **metadata: Any) -> Resource[Any]:
    info = registry.find(kind)
    meta = {"name": "default", "namespace": "team" if info.namespaced else "", **metadata}
    return codec.decode(info, {"metadata": meta, **(spec if info.rooted else {"spec": spec})})


def findings(found: Resource[Any]) -> list[str]:
    info = registry.info(found.key.kind)
    return [str(each).removeprefix(f"{found.key}: ") for each in info.validate(info.normalise(found))]
