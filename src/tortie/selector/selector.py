"""A parsed selector."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from tortie.selector.ast import All, And, Global, Node, Not, Or


class Selector:
    """Matches labels. Equal when its canonical form is, whatever was typed."""

    __slots__ = ("_canonical", "root")

    def __init__(self, root: Node) -> None:
        self.root = root
        self._canonical = str(root)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are selected."""
        return self.root.matches(labels)

    @property
    def unique_id(self) -> str:
        """Calico's id for it: equal selectors have equal ids, so that they can share one IP set."""
        digest = hashlib.sha224(f"s:{self._canonical}".encode()).digest()
        return "s:" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    @property
    def is_all(self) -> bool:
        """Whether it was written to select everything."""
        return isinstance(self.root, All)

    @property
    def has_global(self) -> bool:
        """Whether ``global()`` stands anywhere in it."""
        waiting: list[Node] = [self.root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Global):
                return True
            if isinstance(node, Not):
                waiting.append(node.operand)
            elif isinstance(node, And | Or):
                waiting.extend(node.operands)
        return False

    def __str__(self) -> str:
        return self._canonical

    def __repr__(self) -> str:
        return f"Selector({self._canonical!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and other._canonical == self._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)
