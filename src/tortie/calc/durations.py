"""Durations as Calico's documents write them."""

from __future__ import annotations

import re

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Seconds in Go's notation (``1m30s``, ``90s``, ``0``). Raises `ValueError`."""
    rest = text.strip()
    if rest == "0":
        return 0.0
    total, position = 0.0, 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None:
            raise ValueError(f"{text!r} is no duration such as 90s or 1m30s")
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if not rest:
        raise ValueError("a duration such as 90s is needed")
    return total
