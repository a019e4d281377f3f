"""How long to wait before trying again."""

from __future__ import annotations

import random


class Backoff:
    """Doubling delays with jitter: each between half and the whole of ``first``, 2·``first``, … ``most`` seconds."""

    def __init__(self, *, first_seconds: float = 0.1, most_seconds: float = 10.0) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._next = first_seconds

    def next_seconds(self) -> float:
        """The delay to wait now; the one after will be about twice as long."""
        delay = self._next
        self._next = min(self._next * 2, self._most)
        return delay * (0.5 + random.random() / 2)

    def reset(self) -> None:
        """It worked: begin small next time."""
        self._next = self._first
