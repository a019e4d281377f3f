"""Which endpoints are real, at which revision: what an ADD waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from tortie.dataplane.api import Applied
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.routes import ROUTES
from tortie.desired.table import DesiredKey, Flush
from tortie.errors import DeadlineExceeded, TortieError
from tortie.resources.resource import ResourceKey, Revision


class RealisedEndpoints:
    """Follows flushes and what became of them. One event loop; nothing here does I/O."""

    def __init__(self, on_wait: Callable[[float], None] = lambda seconds: None) -> None:
        """``on_wait`` hears how long each wait took that ended well."""
        self._on_wait = on_wait
        self._wanted: dict[EndpointKey, EndpointRow] = {}
        self._fresh: set[EndpointKey] = set()
        self._real: dict[EndpointKey, str] = {}
        self._failed: Mapping[DesiredKey, TortieError] = {}
        self._announced_as: dict[EndpointKey, str] = {}
        """The revision that a row without one got when it was stored."""
        self._waiters: dict[EndpointKey, list[tuple[str, asyncio.Future[None]]]] = {}

    def flushed(self, flush: Flush) -> None:
        """These rows go to the dataplane now."""
        for delta in flush.deltas:
            if delta.table.name != ENDPOINTS.name:
                continue
            for key, row in delta.put.items():
                before = self._wanted.get(key)
                self._wanted[key] = row
                self._announced_as.pop(key, None)
                if before is not None and self._is_same_and_real(key, before, row):
                    # It was announced, and is real already: now its revision is known.
                    self._real[key] = row.revision
                    self._wake(key, row.revision)
                else:
                    self._fresh.add(key)
            for key in delta.gone:
                self._wanted.pop(key, None)
                self._announced_as.pop(key, None)
                self._real.pop(key, None)
                self._fresh.discard(key)

    def stored(self, key: EndpointKey, revision: str) -> None:
        """What was announced without a revision is stored now, unchanged, as this one: real is real."""
        row = self._wanted.get(key)
        if row is None or row.revision:
            return
        self._announced_as[key] = revision
        if self._real.get(key) == "":
            self._wake(key, revision)

    def _is_same_and_real(self, key: EndpointKey, before: EndpointRow, row: EndpointRow) -> bool:
        return self._real.get(key) == before.revision and replace(before, revision=row.revision) == row

    def applied(self, applied: Applied) -> set[EndpointKey]:
        """Everything that was flushed is real, but what failed. Returns the endpoints that became real or ceased to be."""
        before = {key.key for key in self._failed if key.table == ENDPOINTS.name}
        self._failed = applied.failed
        now = {key.key for key in applied.failed if key.table == ENDPOINTS.name}
        changed: set[EndpointKey] = set()
        failed_routes = {key.key for key in applied.failed if key.table == ROUTES.name}
        suspects = self._fresh | {key for key in before | now if isinstance(key, EndpointKey)}
        if failed_routes:
            suspects |= set(self._wanted)
        still_fresh: set[EndpointKey] = set()
        for key in suspects:
            row = self._wanted.get(key)
            if row is None:
                continue
            if key in now or any(address.prefix in failed_routes for address in row.addresses):
                still_fresh.add(key)
                if self._real.pop(key, None) is not None:
                    changed.add(key)
            elif self._real.get(key) != row.revision:
                self._real[key] = row.revision
                changed.add(key)
                self._wake(key, row.revision)
        self._fresh = still_fresh
        return changed

    def _wake(self, key: EndpointKey, revision: str) -> None:
        revision = revision or self._announced_as.get(key, "")
        for wanted, future in self._waiters.get(key, ()):
            if wanted == revision and not future.done():
                future.set_result(None)

    async def wait(self, endpoint: ResourceKey, revision: Revision, *, timeout_seconds: float) -> None:
        """Return when this very revision of the endpoint is in the kernel: interface, routes and rules.

        Raises `DeadlineExceeded`, or the error for which the dataplane could not make it real.
        """
        key = EndpointKey(endpoint.within, endpoint.name)
        real = self._real.get(key)
        if real == revision or (real == "" and self._announced_as.get(key) == revision):
            self._on_wait(0.0)
            return
        started = asyncio.get_running_loop().time()
        with self._waiter(key, str(revision)) as future:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await future
            except TimeoutError:
                error = self.error_of(key)
                if error is not None:
                    raise error from None
                raise DeadlineExceeded(f"programming {endpoint}", timeout_seconds) from None
        self._on_wait(asyncio.get_running_loop().time() - started)

    def error_of(self, key: EndpointKey) -> TortieError | None:
        """Why this endpoint is not real, where the dataplane said so."""
        error = self._failed.get(DesiredKey(ENDPOINTS.name, key))
        row = self._wanted.get(key)
        if error is None and row is not None:
            failures = (self._failed.get(DesiredKey(ROUTES.name, a.prefix)) for a in row.addresses)
            error = next((failure for failure in failures if failure is not None), None)
        return error

    def is_real(self, key: EndpointKey) -> bool:
        """Whether the endpoint is in the kernel as it should be."""
        row = self._wanted.get(key)
        return row is not None and self._real.get(key) == row.revision

    @property
    def endpoints(self) -> Mapping[EndpointKey, EndpointRow]:
        """What should be real."""
        return self._wanted

    @contextmanager
    def _waiter(self, key: EndpointKey, revision: str) -> Iterator[asyncio.Future[None]]:
        entry = (revision, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(key, []).append(entry)
        try:
            yield entry[1]
        finally:
            self._waiters[key].remove(entry)
            if not self._waiters[key]:
                del self._waiters[key]
