"""Documents as YAML gives them, and the few ways to look into one."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def listed(document: Document, field: str) -> list[Any]:
    """The field's items; none when it is absent or null."""
    return document.get(field) or []


def within(document: Document, field: str) -> Document:
    """What stands in the field; nothing when it is absent or null."""
    return document.get(field) or {}


def named(document: Document) -> tuple[str, str]:
    """Namespace and name."""
    metadata = document["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
