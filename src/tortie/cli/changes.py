"""Stores what a user wrote. All of it is checked, against what is stored too, before the first write: bad input changes
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from tortie.datastore.store import Store
from tortie.errors import (
    AlreadyExists,
    Conflict,
    InvalidDocument,
    InvalidResource,
    NotFound,
    SelectorSyntaxError,
    TortieError,
)
from tortie.resources import codec, registry
from tortie.resources.documents import Document
from tortie.resources.kind_info import KindInfo
from tortie.resources.patching import patched
from tortie.resources.reading import read_document
from tortie.resources.resource import Kind, Put, Resource, ResourceKey
from tortie.resources.shape import is_object
from tortie.workloads.labels import follow

Verb = Literal["apply", "create", "replace"]
MOST_TRIES = 10
"""How often a write is tried again when others write the same resource."""


UNREADABLE: Resource[None] = Resource(key=ResourceKey(Kind("", ""), ""), spec=None)
"""Something stands at the key that cannot be read: it is replaced whole."""


async def stored(store: Store, key: ResourceKey) -> Resource[Any] | None:
    """What stands at the key, or None; `UNREADABLE` for what cannot be read."""
    try:
        return await store.get(key)
    except NotFound:
        return None
    except InvalidResource:
        return UNREADABLE


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
        except TortieError as error:
            if done:
                error.add_note(f"{len(done)} of {len(resources)} resources were written before this")
            raise
    await follow(store, *(each.key for each in done))
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
        if old is not None and old is not UNREADABLE:
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
        elif old is UNREADABLE:
            try:
                return await store.update(replace(resource, revision=None))
            except NotFound:
                if verb == "replace":
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
        if old is not None and old is not UNREADABLE:
            wrong = registry.info(resource.key.kind).changes(old, resource)
            if wrong:
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


async def patch(store: Store, key: ResourceKey, change: Any, form: str) -> Resource[Any]:
    """Change what is stored by a patch, and check it as if it had been written so.

    Raises `NotFound`, `InvalidResource` for a patch that cannot be applied, `InvalidDocument` for what it would make.
    """
    info = registry.info(key.kind)
    for _ in range(MOST_TRIES):
        old = await store.get(key)
        new = replace(_made(info, old, change, form), revision=old.revision)
        await _check(store, [new], {key: old})
        if codec.encode(new) == codec.encode(old):
            return old
        try:
            written = await store.update(new)
        except Conflict:
            continue
        await follow(store, written.key)
        return written
    raise Conflict(str(key))


def _made(info: KindInfo, old: Resource[Any], change: Any, form: str) -> Resource[Any]:
    """What the patch makes of the resource. Unknown fields that are stored stay, and no new ones come."""
    document = patched(codec.encode(old), change, form, group=old.key.kind.group)
    if not is_object(document):
        raise InvalidResource("(patch)", None, "leaves no resource", str(old.key))
    fixed = {"apiVersion": info.api_version, "kind": info.kind.name}
    findings = [
        InvalidResource(field, document.get(field), f"cannot be changed: it is {value}", str(old.key))
        for field, value in fixed.items()
        if document.get(field) != value
    ]
    if findings:
        raise InvalidDocument(findings)
    try:
        new = read_document(Document(document, ""), old.key.within, allow_unknown=True)
    except InvalidDocument as error:
        raise InvalidDocument([_without_origin(each) for each in error.findings]) from None
    if new.key != old.key:
        raise InvalidResource("metadata.name", new.key.name, "cannot be changed", str(old.key))
    added = [path for path in new.unknown if path not in old.unknown and path[-1] not in info.known]
    if added and not info.open:
        raise InvalidDocument(
            [InvalidResource(info.place(path), None, "is not a known field", str(old.key)) for path in added]
        )
    return replace(new, origin=None)


def _without_origin(finding: InvalidResource) -> InvalidResource:
    """A patch is no file."""
    if isinstance(finding, SelectorSyntaxError):
        return SelectorSyntaxError(
            finding.field, finding.value, finding.column, finding.expected, finding.key
        )
    return InvalidResource(finding.field, finding.value, finding.rule, finding.key)
