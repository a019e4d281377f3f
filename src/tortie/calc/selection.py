"""Selectors over labels, parsed once each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from tortie.selector.parser import parse

_parsed = lru_cache(maxsize=1024)(parse)


def selects(selector: str | None, labels: Mapping[str, str]) -> bool:
    """Whether the selector picks these labels. No selector picks nothing. Raises `SelectorSyntaxError`."""
    return bool(selector) and _parsed(selector).matches(labels)
