"""Names of what several share that stay while they change together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

M = TypeVar("M", bound=Hashable)


class Sharers(Generic[M]):
    """Those who share a thing, with a token each; the thing is named after the least of these, its leader.

    Tokens are made of what does not change, and an older sharer's is less. So the name depends on who shares the thing alone, not
    on what it is or how they came to share it: a new agent finds the same. When all of them move on to another thing its name is
    the old one's, and what stands under that name is changed in place. Who comes brings no other name, and of those who go only
    the oldest.
    """

    def __init__(self) -> None:
        self.leader = ""
        """As `elect` found it."""
        self._tokens: dict[M, str] = {}

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def __iter__(self) -> Iterator[M]:
        return iter(self._tokens)

    def join(self, sharer: M, token: str) -> None:
        self._tokens[sharer] = token

    def leave(self, sharer: M) -> None:
        self._tokens.pop(sharer, None)

    def elect(self) -> bool:
        """Whether there is another leader now."""
        before, self.leader = self.leader, min(self._tokens.values(), default="")
        return self.leader != before
