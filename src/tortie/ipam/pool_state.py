"""Whether a pool is being deleted, and how that is written down: as in Calico's status, and as Kubernetes marks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from tortie.ipam.blocks import stamp
from tortie.resources.resource import Resource

ALLOCATABLE = "Allocatable"


def is_terminating(pool: Resource[Any]) -> bool:
    """Deleted by a user, and kept until its last address is given back."""
    if pool.metadata.deletion_timestamp:
        return True
    condition = _allocatable(pool.status)
    return condition is not None and condition.get("reason") == "Terminating"


def as_terminating(pool: Resource[Any], now: datetime) -> Resource[Any]:
    """The pool with the mark. Its other conditions stay."""
    before: object = pool.status
    status: dict[str, Any] = dict(cast("Mapping[str, Any]", before)) if isinstance(before, Mapping) else {}
    others = [c for c in _conditions(status) if c.get("type") != ALLOCATABLE]
    status["conditions"] = [
        *others,
        {
            "type": ALLOCATABLE,
            "status": "False",
            "reason": "Terminating",
            "message": "deleted while addresses of it were in use; no new ones are given",
            "lastTransitionTime": stamp(now),
        },
    ]
    return replace(pool, status=status, metadata=replace(pool.metadata, deletion_timestamp=stamp(now)))


def _allocatable(status: Any) -> Mapping[str, Any] | None:
    return next((c for c in _conditions(status) if c.get("type") == ALLOCATABLE), None)


def _conditions(status: Any) -> list[Mapping[str, Any]]:
    if not isinstance(status, Mapping):
        return []
    found: object = cast("Mapping[str, Any]", status).get("conditions")
    if not isinstance(found, (list, tuple)):
        return []
    return [cast("Mapping[str, Any]", c) for c in cast("list[object]", found) if isinstance(c, Mapping)]
