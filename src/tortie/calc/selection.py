"""Selectors over labels."""

from __future__ import annotations

from collections.abc import Mapping

from tortie.selector import parse


def selects(selector: str | None, labels: Mapping[str, str]) -> bool:
    """Whether the selector picks these labels. No selector picks nothing. Raises `SelectorSyntaxError`."""
    return bool(selector) and parse(selector).matches(labels)


def check_selector(selector: str | None, field: str) -> None:
    """Raises `SelectorSyntaxError` for one that cannot be parsed."""
    if selector:
        parse(selector, field)
