"""`Store` over any `KeyValue`: one resource, one key, one compare-and-swap."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tortie.datastore.keyvalue import KeyValue
from tortie.datastore.layout import CalicoLayout
from tortie.datastore.store import NOTHING, Changes, Cursor, ResourcePage, Unchanged
from tortie.errors import AlreadyExists, Conflict, HistoryGone, InvalidResource, NotFound
from tortie.resources import codec, registry
from tortie.resources.resource import Delete, Invalid, Kind, Put, Resource, ResourceKey, Revision, Update
from tortie.resources.taking import readable

PAGE_SIZE = 500
BLIND_TRIES = 20
"""How often a write that expects nothing is tried against others' before it gives up."""


class KeyValueStore:
    """What cannot be decoded is `Invalid` in lists and watches, and `InvalidResource` from `get`."""

    def __init__(self, keyvalue: KeyValue, layout: CalicoLayout | None = None) -> None:
        self.keyvalue = keyvalue
        self.layout = layout or CalicoLayout()

    def __repr__(self) -> str:
        return f"KeyValueStore({self.keyvalue!r})"

    async def get(self, key: ResourceKey) -> Resource[Any]:
        path = self.layout.path(key)
        try:
            entry = await self.keyvalue.get(path)
        except NotFound:
            raise NotFound(str(key)) from None
        return codec.load(key, entry.value, Revision(str(entry.revision)))

    async def list(self, kind: Kind, *, within: str = "") -> AsyncIterator[ResourcePage]:
        async for page in self.keyvalue.scan(self.layout.prefix(kind, within), page_size=PAGE_SIZE):
            updates = [self._update(kind, *entry) for entry in page.entries]
            yield ResourcePage(
                tuple(update for update in updates if update is not None), Cursor(str(page.revision))
            )

    async def create(self, resource: Resource[Any]) -> Resource[Any]:
        path = self.layout.path(resource.key)
        resource = _born(resource)
        try:
            revision = await self.keyvalue.commit(expect={path: 0}, put={path: codec.dump(resource)})
        except Conflict:
            raise AlreadyExists(str(resource.key)) from None
        return replace(resource, revision=Revision(str(revision)))

    async def update(self, resource: Resource[Any]) -> Resource[Any]:
        if resource.revision is None:
            return await self._update_whatever(resource)
        path = self.layout.path(resource.key)
        try:
            revision = await self.keyvalue.commit(
                expect={path: _number(resource.revision, resource.key)}, put={path: codec.dump(resource)}
            )
        except Conflict:
            raise await self._missing_or_conflict(resource.key, path) from None
        return replace(resource, revision=Revision(str(revision)))

    async def _update_whatever(self, resource: Resource[Any]) -> Resource[Any]:
        """Over whatever stands there, keeping its identity, its status and what we do not know of it."""
        path = self.layout.path(resource.key)
        for _ in range(BLIND_TRIES):
            try:
                entry = await self.keyvalue.get(path)
            except NotFound:
                raise NotFound(str(resource.key)) from None
            merged = resource
            with contextlib.suppress(InvalidResource):
                merged = _over(codec.load(resource.key, entry.value), resource)
            try:
                revision = await self.keyvalue.commit(
                    expect={path: entry.revision}, put={path: codec.dump(merged)}
                )
            except Conflict:
                continue
            return replace(merged, revision=Revision(str(revision)))
        raise Conflict(str(resource.key))

    async def write(
        self,
        resources: Sequence[Resource[Any]],
        *,
        gone: Sequence[Resource[Any]] = (),
        unchanged: Unchanged = NOTHING,
    ) -> tuple[Resource[Any], ...]:
        """One transaction."""
        relied_on = {self.layout.path(key): key for key in unchanged}
        expect = {
            path: 0 if (stood := unchanged[key]) is None else _number(stood, key)
            for path, key in relied_on.items()
        }
        put: dict[str, bytes] = {}
        named: dict[str, Resource[Any]] = {}
        written: list[Resource[Any]] = []
        for resource in resources:
            path = self.layout.path(resource.key)
            named[path] = resource
            if resource.revision is None:
                resource = _born(resource)
                expect[path] = 0
            else:
                expect[path] = _number(resource.revision, resource.key)
            put[path] = codec.dump(resource)
            written.append(resource)
        leaving: set[str] = set()
        for resource in gone:
            path = self.layout.path(resource.key)
            named[path] = resource
            leaving.add(path)
            if resource.revision is not None:
                expect[path] = _number(resource.revision, resource.key)
        try:
            revision = await self.keyvalue.commit(expect=expect, put=put, gone=frozenset(leaving))
        except Conflict as conflict:
            if conflict.key in relied_on:
                raise Conflict(str(relied_on[conflict.key])) from None
            culprit = named[conflict.key]
            if culprit.revision is None:
                raise AlreadyExists(str(culprit.key)) from None
            raise await self._missing_or_conflict(culprit.key, conflict.key) from None
        return tuple(replace(resource, revision=Revision(str(revision))) for resource in written)

    async def delete(self, key: ResourceKey, *, revision: Revision | None = None) -> None:
        path = self.layout.path(key)
        if revision is not None:
            try:
                await self.keyvalue.commit(
                    expect={path: _number(revision, key)}, put={}, gone=frozenset({path})
                )
            except Conflict:
                raise await self._missing_or_conflict(key, path) from None
            return
        for _ in range(BLIND_TRIES):
            try:
                entry = await self.keyvalue.get(path)
            except NotFound:
                raise NotFound(str(key)) from None
            with contextlib.suppress(Conflict):
                await self.keyvalue.commit(expect={path: entry.revision}, put={}, gone=frozenset({path}))
                return
        raise Conflict(str(key))

    @contextlib.asynccontextmanager
    async def watch(
        self, kind: Kind, *, after: Cursor, within: str = ""
    ) -> AsyncIterator[AsyncIterator[Changes]]:
        try:
            revision = int(after)
        except ValueError:
            raise HistoryGone(f"{after!r} is no place in this datastore's history") from None
        async with self.keyvalue.watch(self.layout.prefix(kind, within), after=revision) as events:

            async def changes() -> AsyncIterator[Changes]:
                async for batch in events:
                    updates = [self._update(kind, *event) for event in batch.changes]
                    yield Changes(
                        tuple(update for update in updates if update is not None), Cursor(str(batch.revision))
                    )

            yield changes()

    async def close(self) -> None:
        await self.keyvalue.close()

    def _update(self, kind: Kind, path: str, value: bytes | None, revision: int) -> Update | None:
        key = self.layout.key(kind, path)
        if key is None:
            return None
        if value is None:
            return Delete(key)
        try:
            return Put(codec.load(key, value, Revision(str(revision))))
        except InvalidResource as error:
            return Invalid(key, error.finding, readable(key, value, Revision(str(revision))))

    async def _missing_or_conflict(self, key: ResourceKey, path: str) -> NotFound | Conflict:
        try:
            await self.keyvalue.get(path)
        except NotFound:
            return NotFound(str(key))
        return Conflict(str(key))


def _born(resource: Resource[Any]) -> Resource[Any]:
    """With the identity that creation gives; what is stored bare has none."""
    if registry.info(resource.key.kind).bare:
        return resource
    metadata = replace(
        resource.metadata,
        uid=str(uuid.uuid4()),
        creation_timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return replace(resource, metadata=metadata)


def _number(revision: Revision, key: ResourceKey) -> int:
    try:
        return int(revision)
    except ValueError:
        raise Conflict(str(key)) from None


def _over(stored: Resource[Any], new: Resource[Any]) -> Resource[Any]:
    metadata = replace(
        new.metadata,
        uid=stored.metadata.uid,
        creation_timestamp=stored.metadata.creation_timestamp,
    )
    # An unknown field inside a list belongs to an element, which may not be there any more.
    kept = {
        path: value for path, value in stored.unknown.items() if not any(isinstance(p, int) for p in path)
    }
    unknown: Mapping[tuple[str | int, ...], Any] = {**kept, **new.unknown}
    return replace(
        new, metadata=metadata, unknown=unknown, status=stored.status if new.status is None else new.status
    )
