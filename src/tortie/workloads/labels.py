"""What follows from labels of what lives: a pod's are its endpoints', a namespace's and a service account's their profile's.

Calico's controllers see to it; where none runs, whoever changes a label does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, Conflict, InvalidDocument, NotFound
from tortie.resources import registry
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.profile import PROFILE, ProfileSpec
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.resources.rules import Rule
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


async def follow(store: Store, *keys: ResourceKey) -> None:
    """Bring what follows from these resources' labels up to date. Of another kind, or gone, nothing follows."""
    pods: dict[str, set[str]] = {}
    for key in keys:
        if key.kind == POD:
            pods.setdefault(key.within, set()).add(key.name)
        elif key.kind == NAMESPACE:
            await _profile_follows(store, f"kns.{key.name}", "pcns.", key)
        elif key.kind == SERVICE_ACCOUNT:
            await _profile_follows(store, f"ksa.{key.within}.{key.name}", "pcsa.", key)
    for namespace, names in pods.items():
        async for page in store.list(WORKLOAD_ENDPOINT, within=namespace):
            for update in page.updates:
                if isinstance(update, Put) and update.resource.spec.pod in names:
                    pod = ResourceKey(POD, update.resource.spec.pod, namespace)
                    await _endpoint_follows(store, update.key, pod)


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


def endpoint_after(old: Resource[Any], labels: Mapping[str, str]) -> Resource[Any]:
    """The endpoint of a pod with these labels. Calico's own stay."""
    own = {label: value for label, value in old.metadata.labels.items() if label.startswith(_CALICO)}
    return _with_labels(old, {**labels, **own})


def profile_after(old: Resource[Any], prefix: str, labels: Mapping[str, str]) -> Resource[Any]:
    """The profile of a namespace (``pcns.``) or an account (``pcsa.``) with these labels."""
    inherited = {prefix + label: value for label, value in labels.items()}
    kept = {
        label: value
        for label, value in old.spec.labels_to_apply.items()
        if label == prefix + OWN_NAME or not label.startswith(prefix)
    }
    return old.with_spec(msgspec.structs.replace(old.spec, labels_to_apply={**inherited, **kept}))


def profile_without(old: Resource[Any]) -> Resource[Any]:
    """The profile once the namespace or the account is gone that it stood for: its labels go, its name stays."""
    labels: Mapping[str, str] = old.spec.labels_to_apply
    own = {label: value for label, value in labels.items() if not label.startswith(("pcns.", "pcsa."))}
    plain = allow_all(old.key.name).spec.labels_to_apply
    return old.with_spec(msgspec.structs.replace(old.spec, labels_to_apply={**own, **plain}))


async def _endpoint_follows(store: Store, endpoint: ResourceKey, pod: ResourceKey) -> None:
    async def edit(old: Resource[Any]) -> Resource[Any]:
        return endpoint_after(old, (await store.get(pod)).metadata.labels)

    await _edit_if_there(store, endpoint, edit)


async def _profile_follows(store: Store, name: str, prefix: str, source: ResourceKey) -> None:
    async def edit(old: Resource[Any]) -> Resource[Any]:
        return profile_after(old, prefix, (await store.get(source)).metadata.labels)

    key = ResourceKey(PROFILE, name)
    try:
        await _update(store, key, edit)
    except NotFound:
        # Network sets have the namespace's labels too, before there is a pod.
        with suppress(NotFound, AlreadyExists):
            await store.get(source)
            await store.create(allow_all(name))
        await _edit_if_there(store, key, edit)


def allow_all(name: str) -> Resource[ProfileSpec]:
    """A profile that lets everything in and out, and gives its endpoints the name of what it stands for."""
    source = source_of(name)
    labels: dict[str, str] = {}
    if source is not None:
        labels[("pcsa." if source.within else "pcns.") + OWN_NAME] = source.name
    allow = (Rule(action="Allow"),)
    spec = ProfileSpec(ingress=allow, egress=allow, labels_to_apply=labels)
    return Resource(key=ResourceKey(PROFILE, name), spec=spec)


async def withdraw(store: Store, gone: ResourceKey) -> None:
    """The profile of a namespace or a service account that was deleted goes with it, unless a pod still needs it: then the
    labels go alone."""
    if gone.kind == NAMESPACE:
        name, within = f"kns.{gone.name}", gone.name
    elif gone.kind == SERVICE_ACCOUNT:
        name, within = f"ksa.{gone.within}.{gone.name}", gone.within
    else:
        return
    key = ResourceKey(PROFILE, name)

    async def edit(old: Resource[Any]) -> Resource[Any]:
        return profile_without(old)

    async for page in store.list(WORKLOAD_ENDPOINT, within=within):
        if any(isinstance(each, Put) and name in each.resource.spec.profiles for each in page.updates):
            await _edit_if_there(store, key, edit)
            return
    with suppress(NotFound):
        await store.delete(key)


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
