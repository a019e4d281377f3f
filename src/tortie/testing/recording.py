"""A dataplane that makes everything real in a dictionary, and remembers what it was told.

It passes the suite that the Linux dataplane passes (``tests/contract/test_dataplane.py``). Failures, hangs and drift are
put in by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

from tortie.dataplane.api import Applied
from tortie.desired.order import ORDER
from tortie.desired.table import Delta, DesiredKey, Flush
from tortie.errors import TortieError


class RecordingDataplane:
    """``real`` holds what is real, by table name; ``writes`` each change made to it, in order."""

    def __init__(self) -> None:
        self.real: dict[str, dict[Any, Any]] = {}
        self.writes: list[DesiredKey] = []
        self.flushes: list[Flush] = []
        self.resyncs = 0
        self.started = False
        self.closed = False
        self.failing: dict[DesiredKey, TortieError] = {}
        """Rows that cannot be made real while they are named here."""
        self.broken: TortieError | None = None
        """Nothing at all can be done while this is set."""
        self.open = asyncio.Event()
        """Cleared: `apply` hangs until it is set again."""
        self.open.set()
        self._wanted: dict[str, dict[Any, Any]] = {}
        self._failed: dict[DesiredKey, TortieError] = {}
        self._in_sync = False
        self._generation = 0

    async def start(self) -> None:
        if self.broken is not None:
            raise self.broken
        self.started = True

    async def apply(self, flush: Flush) -> Applied:
        self.flushes.append(flush)
        for delta in flush.deltas:
            self._remember(delta)
        self._generation = flush.generation
        self._in_sync = self._in_sync or flush.in_sync
        return await self._settle()

    async def resync(self) -> Applied:
        self.resyncs += 1
        return await self._settle()

    async def close(self) -> None:
        self.closed = True

    def _remember(self, delta: Delta[Any, Any]) -> None:
        rows = self._wanted.setdefault(delta.table.name, {})
        for key in delta.gone:
            rows.pop(key, None)
        rows.update(delta.put)

    async def _settle(self) -> Applied:
        await self.open.wait()
        if self.broken is not None:
            raise self.broken
        if self._in_sync:
            self._failed = {}
            for table in ORDER:
                for key, row in self._wanted.get(table.name, {}).items():
                    self._put(table.name, key, row)
            for table in reversed(ORDER):
                wanted = self._wanted.get(table.name, {})
                for key in [key for key in self.real.get(table.name, {}) if key not in wanted]:
                    self._remove(table.name, key)
        return Applied(self._generation, dict(self._failed))

    def _put(self, table: str, key: Hashable, row: object) -> None:
        if self._refused(table, key):
            return
        rows = self.real.setdefault(table, {})
        if rows.get(key) != row:
            rows[key] = row
            self.writes.append(DesiredKey(table, key))

    def _remove(self, table: str, key: Hashable) -> None:
        if not self._refused(table, key):
            del self.real[table][key]
            self.writes.append(DesiredKey(table, key))

    def _refused(self, table: str, key: Hashable) -> bool:
        error = self.failing.get(DesiredKey(table, key))
        if error is not None:
            self._failed[DesiredKey(table, key)] = error
        return error is not None
