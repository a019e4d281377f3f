"""What in the datastore cannot be taken as it is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from tortie.desired.table import Problem


class Problems:
    """All problems that stand now, by who found them."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Problem, ...]] = {}

    def report(self, finder: Hashable, problems: Sequence[Problem]) -> None:
        """From now on these are the finder's problems, and no others."""
        if problems:
            self._found[finder] = tuple(problems)
        else:
            self._found.pop(finder, None)

    def all(self) -> tuple[Problem, ...]:
        """In an order of their own, whatever order they were found in."""
        return tuple(sorted({problem for found in self._found.values() for problem in found}))
