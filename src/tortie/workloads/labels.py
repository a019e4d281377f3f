"""What follows from labels of what lives: a pod's are its endpoints', a namespace's and a service account's their profile's.

Calico's controllers see to it; where none runs, whoever changes a label does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
OWN_NAME = "projectcalico.org/name"
"""What every namespace and account gives its endpoints: its name."""
_CALICO = "projectcalico.org/"

Change = Mapping[str, str | None]
"""Labels to set; None removes."""


def changed(labels: Mapping[str, str], change: Change) -> dict[str, str]:
    """The labels after the change."""
    kept = {label: value for label, value in labels.items() if label not in change}
    return kept | {label: value for label, value in change.items() if value is not None}


async def relabel(store: Store, key: ResourceKey, change: Change) -> Resource[Any]:
    """Change the resource's labels, and those that follow from them. Raises `NotFound`, `InvalidDocument`."""

    async def edit(resource: Resource[Any]) -> Resource[Any]:
        return _with_labels(resource, changed(resource.metadata.labels, change))

    labelled = await _update(store, key, edit)
    await follow(store, key)
    return labelled


async def follow(store: Store, key: ResourceKey) -> None:
    """Bring what follows from this resource's labels up to date. Of another kind, or gone, nothing follows."""
    if key.kind == POD:
        async for page in store.list(WORKLOAD_ENDPOINT, within=key.within):
            for update in page.updates:
                if isinstance(update, Put) and update.resource.spec.pod == key.name:
                    await _endpoint_follows(store, update.key, key)
    elif key.kind == NAMESPACE:
        await _profile_follows(store, f"kns.{key.name}", "pcns.", key)
    elif key.kind == SERVICE_ACCOUNT:
        await _profile_follows(store, f"ksa.{key.within}.{key.name}", "pcsa.", key)


def source_of(profile: str) -> ResourceKey | None:
    """Whose labels the profile of this name passes on."""
    sort, _, rest = profile.partition(".")
    if sort == "kns" and rest:
        return ResourceKey(NAMESPACE, rest)
    namespace, _, account = rest.partition(".")
    if sort == "ksa" and namespace and account:
        return ResourceKey(SERVICE_ACCOUNT, account, namespace)
    return None


def _with_labels(resource: Resource[Any], labels: Mapping[str, str]) -> Resource[Any]:
    return replace(resource, metadata=replace(resource.metadata, labels=dict(labels)))


async def _endpoint_follows(store: Store, endpoint: ResourceKey, pod: ResourceKey) -> None:
    """Calico's own labels stay."""

    async def edit(old: Resource[Any]) -> Resource[Any]:
        own = {label: value for label, value in old.metadata.labels.items() if label.startswith(_CALICO)}
        return _with_labels(old, {**(await store.get(pod)).metadata.labels, **own})

    await _edit_if_there(store, endpoint, edit)


async def _profile_follows(store: Store, name: str, prefix: str, source: ResourceKey) -> None:
    async def edit(old: Resource[Any]) -> Resource[Any]:
        labels = (await store.get(source)).metadata.labels
        inherited = {prefix + label: value for label, value in labels.items()}
        kept = {
            label: value
            for label, value in old.spec.labels_to_apply.items()
            if label == prefix + OWN_NAME or not label.startswith(prefix)
        }
        return old.with_spec(msgspec.structs.replace(old.spec, labels_to_apply={**inherited, **kept}))

    await _edit_if_there(store, ResourceKey(PROFILE, name), edit)


async def _edit_if_there(
    store: Store, key: ResourceKey, edit: Callable[[Resource[Any]], Awaitable[Resource[Any]]]
) -> None:
    """Either may have gone meanwhile, or may never have been made."""
    try:
        await _update(store, key, edit)
    except NotFound:
        return


async def _update(
    store: Store, key: ResourceKey, edit: Callable[[Resource[Any]], Awaitable[Resource[Any]]]
) -> Resource[Any]:
    """``edit`` reads what it needs after the old was read: of two who edit at once, who writes last has seen the newest."""
    for _ in range(MOST_TRIES):
        old = await store.get(key)
        new = await edit(old)
        if new.metadata.labels == old.metadata.labels and new.spec == old.spec:
            return old
        if wrong := registry.info(key.kind).validate(new):
            raise InvalidDocument(wrong)
        try:
            return await store.update(new)
        except Conflict:
            continue
    raise Conflict(str(key))
