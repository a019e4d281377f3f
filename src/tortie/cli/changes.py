"""Stores what a user wrote. All of it is checked, against what is stored too, before the first write: bad input changes
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, Conflict, InvalidDocument, InvalidResource, NotFound, TortieError
from tortie.resources import codec, registry
from tortie.resources.resource import Kind, Put, Resource, ResourceKey
from tortie.workloads.labels import follow

Verb = Literal["apply", "create", "replace"]
MOST_TRIES = 10
"""How often a write is tried again when others write the same resource."""


async def stored(store: Store, key: ResourceKey) -> Resource[Any] | None:
    """What stands at the key, or None."""
    try:
        return await store.get(key)
    except NotFound:
        return None


async def list_all(store: Store, kind: Kind, within: str = "") -> list[Resource[Any]]:
    """Every readable resource of the kind."""
    return [
        update.resource
        async for page in store.list(kind, within=within)
        for update in page.updates
        if isinstance(update, Put)
    ]


async def write(
    store: Store, resources: Sequence[Resource[Any]], verb: Verb, *, skip_exists: bool = False
) -> list[Resource[Any]]:
    """Store them all, with what follows from their labels, and return them as they now stand; those that ``skip_exists``
    skipped are left out.

    Raises `InvalidDocument` for what breaks a rule among what is stored, `AlreadyExists` (create), `NotFound` (replace),
    `Conflict` when a given ``resourceVersion`` is not the stored one; before any write.
    """
    found = {each.key: await stored(store, each.key) for each in resources}
    if verb == "create":
        if not skip_exists:
            for key, old in found.items():
                if old is not None:
                    raise AlreadyExists(str(key))
        resources = [each for each in resources if found[each.key] is None]
    for each in resources:
        old = found[each.key]
        if old is None and verb == "replace":
            raise NotFound(str(each.key))
        if verb != "create" and each.revision is not None and (old is None or old.revision != each.revision):
            raise Conflict(str(each.key))
    await _check(store, resources, found)
    done: list[Resource[Any]] = []
    for each in resources:
        try:
            done.append(await _write(store, each, found[each.key], verb))
            await follow(store, each.key)
        except TortieError as error:
            if done:
                error.add_note(f"{len(done)} of {len(resources)} resources were written before this")
            raise
    return done


async def _check(
    store: Store, resources: Sequence[Resource[Any]], found: dict[ResourceKey, Resource[Any] | None]
) -> None:
    """Rules between the new, the old and their neighbours, as they would stand after the write."""
    findings: list[InvalidResource] = []
    needed = {kind for each in resources for kind in registry.info(each.key.kind).needs}
    around: dict[Kind, dict[ResourceKey, Resource[Any]]] = {
        kind: {each.key: each for each in await list_all(store, kind)} for kind in needed
    }
    for each in resources:
        if each.key.kind in around:
            around[each.key.kind][each.key] = each
    for each in resources:
        info = registry.info(each.key.kind)
        old = found[each.key]
        if old is not None:
            findings.extend(info.changes(old, each))
        neighbours = [other for kind in info.needs for other in around[kind].values()]
        findings.extend(info.among(each, neighbours))
    if findings:
        raise InvalidDocument(findings)


async def _write(
    store: Store, resource: Resource[Any], old: Resource[Any] | None, verb: Verb
) -> Resource[Any]:
    for _ in range(MOST_TRIES):
        if old is None:
            try:
                return await store.create(replace(resource, revision=None))
            except AlreadyExists:
                if verb == "create":
                    raise
        else:
            new = over(old, resource, keep_annotations=verb == "apply")
            if codec.encode(new) == codec.encode(old):
                return old
            try:
                return await store.update(new)
            except Conflict:
                if resource.revision is not None:
                    raise
            except NotFound:
                if verb == "replace":
                    raise
        old = await stored(store, resource.key)
        if old is not None and (wrong := registry.info(resource.key.kind).changes(old, resource)):
            raise InvalidDocument(wrong)
        if old is None and verb == "replace":
            raise NotFound(str(resource.key))
    raise Conflict(str(resource.key))


def over(old: Resource[Any], new: Resource[Any], *, keep_annotations: bool) -> Resource[Any]:
    """The new in place of the old: its identity, its status, a deletion under way and the fields that nobody here knows stay."""
    metadata = replace(
        new.metadata,
        uid=old.metadata.uid,
        creation_timestamp=old.metadata.creation_timestamp,
        deletion_timestamp=old.metadata.deletion_timestamp,
        finalizers=new.metadata.finalizers or old.metadata.finalizers,
        owners=new.metadata.owners or old.metadata.owners,
        annotations={**old.metadata.annotations, **new.metadata.annotations}
        if keep_annotations
        else new.metadata.annotations,
    )
    # An unknown field inside a list belongs to an element, which may not be there any more.
    kept = {
        path: value for path, value in old.unknown.items() if not any(isinstance(part, int) for part in path)
    }
    return replace(
        new,
        metadata=metadata,
        status=new.status if new.status is not None else old.status,
        unknown={**kept, **new.unknown},
        revision=old.revision,
    )
