"""Selectors over labels, parsed once each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    from tortie.selector.parser import parse

    return parse(text)


def selects(selector: str | None, labels: Mapping[str, str]) -> bool:
    """Whether the selector picks these labels. No selector picks nothing. Raises `SelectorSyntaxError`."""
    if not selector:
        return False
    return bool(_parsed(selector).matches(labels))
