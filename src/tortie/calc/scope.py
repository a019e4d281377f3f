"""Whose view is calculated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scope:
    """Which endpoints count as local. A ``node`` of None is everywhere: every node's endpoints and blocks at once, which
    explains and previews ask for."""

    node: str | None

    def is_local(self, node: str) -> bool:
        return self.node is None or node == self.node
