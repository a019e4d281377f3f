"""The typed face of every datastore: resources in, resources out, one at a time by compare-and-swap.

IPAM, the CLI and the agent use nothing below this page. Implementations: `KeyValueStore` over any `KeyValue`; the
Kubernetes API joins later. One suite holds them to it: ``tests/contract/test_store.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, NewType, Protocol

from tortie.resources.resource import Kind, Resource, ResourceKey, Revision, Update

Cursor = NewType("Cursor", str)
"""Where a kind's watch resumes. Opaque."""


MOST_AT_ONCE = 100
"""Resources in one `Store.write`: etcd takes 128 operations a transaction."""

Unchanged = Mapping[ResourceKey, Revision | None]
"""What a write relies on: where these resources stood when they were looked at. None: they did not exist."""

NOTHING: Unchanged = MappingProxyType({})


class ResourcePage(NamedTuple):
    """A part of a list. ``updates`` holds `Put` and `Invalid`; every page of one list carries the same cursor."""

    updates: tuple[Update, ...]
    cursor: Cursor


class Changes(NamedTuple):
    """What changed, in order; empty ``updates`` say progress. Resume after ``cursor``."""

    updates: tuple[Update, ...]
    cursor: Cursor


class Store(Protocol):
    """Single-resource compare-and-swap over typed resources. Raises the errors of `KeyValue` plus those named here."""

    async def get(self, key: ResourceKey) -> Resource[Any]:
        """Raises `NotFound`; `InvalidResource` when what is stored cannot be taken."""
        ...

    def list(self, kind: Kind, *, within: str = "") -> AsyncIterator[ResourcePage]:
        """Every resource of the kind, in key order, in pages of at most 500; at least one page."""
        ...

    async def create(self, resource: Resource[Any]) -> Resource[Any]:
        """Store a new resource; returns it with its revision, uid and creation time. Raises `AlreadyExists`."""
        ...

    async def update(self, resource: Resource[Any]) -> Resource[Any]:
        """Replace what stands at the key if its revision is still ``resource.revision`` (None: whatever stands
        there). Raises `NotFound`, `Conflict`."""
        ...

    async def write(
        self,
        resources: Sequence[Resource[Any]],
        *,
        gone: Sequence[Resource[Any]] = (),
        unchanged: Unchanged = NOTHING,
    ) -> tuple[Resource[Any], ...]:
        """Several compare-and-swaps at the price of one: create each that has no revision and update each that has one,
        then delete what is ``gone``, at its revision. At most `MOST_AT_ONCE`, of all three together.

        First of all what is ``unchanged`` must stand at that revision, or not at all; else `Conflict` names it.
        Each stands for itself, in this order, and none is tried after one that fails; a datastore with transactions does
        all or nothing. So nobody may rely on more than the order. Raises what `create`, `update` and `delete` raise,
        naming the culprit.
        """
        ...

    async def delete(self, key: ResourceKey, *, revision: Revision | None = None) -> None:
        """Remove it, if ``revision`` is still its own or None. Raises `NotFound`, `Conflict`."""
        ...

    def watch(
        self, kind: Kind, *, after: Cursor, within: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[Changes]]:
        """Changes after the cursor. Raises `HistoryGone`, `StoreUnavailable` as `KeyValue.watch` does."""
        ...

    async def close(self) -> None:
        """Let go of the datastore. Idempotent."""
        ...
