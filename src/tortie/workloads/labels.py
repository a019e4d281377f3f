"""Changing labels of what lives: a pod's reach its endpoints, a namespace's and a service account's their profile.

Calico's controllers do this; where none runs, whoever changes a label does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from tortie.datastore.store import Store
from tortie.errors import Conflict, InvalidDocument, NotFound
from tortie.resources import registry
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.profile import PROFILE
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.resources.service_account import SERVICE_ACCOUNT
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT

MOST_TRIES = 20

Change = Mapping[str, str | None]
"""Labels to set; None removes."""


def changed(labels: Mapping[str, str], change: Change) -> dict[str, str]:
    """The labels after the change."""
    kept = {label: value for label, value in labels.items() if label not in change}
    return kept | {label: value for label, value in change.items() if value is not None}


async def relabel(store: Store, key: ResourceKey, change: Change) -> Resource[Any]:
    """Change the resource's labels, and those that follow from them. Raises `NotFound`, `InvalidDocument`."""
    labelled = await _update(store, key, lambda resource: _with_labels(resource, change))
    if key.kind == POD:
        async for page in store.list(WORKLOAD_ENDPOINT, within=key.within):
            for update in page.updates:
                if isinstance(update, Put) and update.resource.spec.pod == key.name:
                    await _follow(store, update.key, lambda resource: _with_labels(resource, change))
    elif key.kind == NAMESPACE:
        await _follow_profile(store, f"kns.{key.name}", "pcns.", change)
    elif key.kind == SERVICE_ACCOUNT:
        await _follow_profile(store, f"ksa.{key.within}.{key.name}", "pcsa.", change)
    return labelled


def _with_labels(resource: Resource[Any], change: Change) -> Resource[Any]:
    labels = changed(resource.metadata.labels, change)
    return replace(resource, metadata=replace(resource.metadata, labels=labels))


async def _follow_profile(store: Store, name: str, prefix: str, change: Change) -> None:
    inherited = {prefix + label: value for label, value in change.items()}

    def edit(profile: Resource[Any]) -> Resource[Any]:
        labels = changed(profile.spec.labels_to_apply, inherited)
        return profile.with_spec(msgspec.structs.replace(profile.spec, labels_to_apply=labels))

    await _follow(store, ResourceKey(PROFILE, name), edit)


async def _follow(store: Store, key: ResourceKey, edit: Callable[[Resource[Any]], Resource[Any]]) -> None:
    """The same where the resource may have gone meanwhile, or may never have been made."""
    try:
        await _update(store, key, edit)
    except NotFound:
        return


async def _update(
    store: Store, key: ResourceKey, edit: Callable[[Resource[Any]], Resource[Any]]
) -> Resource[Any]:
    for _ in range(MOST_TRIES):
        old = await store.get(key)
        new = edit(old)
        if new.metadata.labels == old.metadata.labels and new.spec == old.spec:
            return old
        if wrong := registry.info(key.kind).validate(new):
            raise InvalidDocument(wrong)
        try:
            return await store.update(new)
        except Conflict:
            continue
    raise Conflict(str(key))
