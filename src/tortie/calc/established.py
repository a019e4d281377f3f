"""The wish that a new deny cuts running connections: an annotation, so that Calico's tools still take the document."""

from __future__ import annotations

APPLIES_TO_ESTABLISHED = "tortie.io/applies-to-established"
"""On a policy, or on a FelixConfiguration for all policies."""


def is_true(value: str | None) -> bool:
    """Whether an annotation's value says yes."""
    return (value or "").strip().lower() in ("true", "yes", "enabled", "1")
