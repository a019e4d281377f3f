"""What of the datastore is taken as it stands: others write there too, and what they write is not always valid.

Of most kinds an invalid resource is absent. A policy that were absent would let through what it should stop: of an invalid one
`Invalid.readable` is what can be read of it, so that it can fail closed: its tier, order, types, flags and selectors, no rule.
What cannot be read of them is taken as wide as it could be meant: both types; the whole namespace for the selector. Of a global
policy with a selector that cannot be read there is nothing: it would stand over the whole cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tortie.errors import InvalidResource, SelectorSyntaxError
from tortie.resources import codec, registry
from tortie.resources.findings import Findings
from tortie.resources.global_network_policy import GLOBAL_NETWORK_POLICY
from tortie.resources.kind_info import KindInfo
from tortie.resources.kubernetes_network_policy import (
    KUBERNETES_NETWORK_POLICY,
    LabelSelector,
    check_selector,
)
from tortie.resources.network_policy import NETWORK_POLICY, TYPES
from tortie.resources.resource import Invalid, Kind, Metadata, Put, Resource, ResourceKey, Revision, Update
from tortie.resources.shape import is_array, is_object
from tortie.resources.staged_global_network_policy import STAGED_GLOBAL_NETWORK_POLICY
from tortie.resources.staged_kubernetes_network_policy import STAGED_KUBERNETES_NETWORK_POLICY
from tortie.resources.staged_network_policy import ACTIONS, STAGED_NETWORK_POLICY
from tortie.resources.tier import DEFAULT
from tortie.selector import parse

CALICO_POLICIES = (
    NETWORK_POLICY,
    GLOBAL_NETWORK_POLICY,
    STAGED_NETWORK_POLICY,
    STAGED_GLOBAL_NETWORK_POLICY,
)
KUBERNETES_POLICIES = (KUBERNETES_NETWORK_POLICY, STAGED_KUBERNETES_NETWORK_POLICY)
POLICIES: tuple[Kind, ...] = (*CALICO_POLICIES, *KUBERNETES_POLICIES)
"""The kinds that fail closed."""

_NOBODY: Resource[None] = Resource(key=ResourceKey(KUBERNETES_NETWORK_POLICY, "-"), spec=None)
_CRITERIA = ("ingress", "egress", "podSelector")


def taken(update: Update) -> Update:
    """The update as the calculation may have it: of the kinds that are `KindInfo.checked`, a resource with its defaults, or
    `Invalid`. Others' updates are as they were."""
    if not isinstance(update, Put):
        return update
    resource = update.resource
    info = registry.info(resource.key.kind)
    if not info.checked:
        return update
    found = _unknown_criteria(resource, info)
    normal = info.normalise(resource)
    found += info.validate(normal)
    if not found:
        return Put(normal)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    left = readable(resource.key, codec.encode(resource), resource.revision)
    return Invalid(resource.key, f"{found[0].finding}{more}", left)


def _unknown_criteria(resource: Resource[Any], info: KindInfo) -> list[InvalidResource]:
    """A criterion that we do not know would make a rule match more than it should."""
    if not resource.unknown or resource.key.kind not in POLICIES:
        return []
    return [
        InvalidResource(info.place(path), None, "is not a known field", str(resource.key))
        for path, value in resource.unknown.items()
        if value is not None  # a null says nothing
        and len(path) > 2
        and path[0] == "spec"
        and path[1] in _CRITERIA
    ]


def readable(
    key: ResourceKey, stored: bytes | Mapping[str, Any], revision: Revision | None = None
) -> Resource[Any] | None:
    """What can be read of a policy that is not valid; None of other kinds, where there is no document or no spec to read in,
    and where the selector of a global one is lost."""
    if key.kind not in POLICIES:
        return None
    document: Any = stored
    if isinstance(stored, bytes):
        try:
            document = msgspec.json.decode(stored)
        except msgspec.DecodeError:
            return None
    if not is_object(document):
        return None
    fields: Any = document.get("spec")
    if fields is None:
        fields = {}
    if not is_object(fields):
        return None
    read = _kubernetes if key.kind in KUBERNETES_POLICIES else _calico
    values = read(key, fields)
    if values is None:
        return None
    info = registry.info(key.kind)
    if "stagedAction" in fields and fields["stagedAction"] in ACTIONS:
        values["staged_action"] = fields["stagedAction"]
    return Resource(key=key, metadata=_metadata(document), spec=info.spec(**values), revision=revision)


def _metadata(document: Any) -> Metadata:
    raw: Any = document.get("metadata") if is_object(document) else None
    meta: dict[str, Any] = raw if is_object(raw) else {}
    strings: list[dict[str, str]] = []
    for name in ("labels", "annotations"):
        pairs: Any = meta.get(name)
        strings.append(
            {each: text for each, text in pairs.items() if isinstance(text, str)} if is_object(pairs) else {}
        )
    return Metadata(labels=strings[0], annotations=strings[1])


def _calico(key: ResourceKey, fields: dict[str, Any]) -> dict[str, Any] | None:
    values: dict[str, Any] = {}
    tier: Any = fields.get("tier")
    values["tier"] = tier if isinstance(tier, str) and _is_tier(tier) else DEFAULT
    order: Any = fields.get("order")
    if isinstance(order, int | float) and not isinstance(order, bool) and math.isfinite(order):
        values["order"] = float(order)
    selectors = [("selector", "selector"), ("serviceAccountSelector", "service_account_selector")]
    if not key.within:
        selectors.append(("namespaceSelector", "namespace_selector"))
        for name, field in (
            ("doNotTrack", "do_not_track"),
            ("preDNAT", "pre_dnat"),
            ("applyOnForward", "apply_on_forward"),
        ):
            values[field] = fields.get(name) is True
        values["do_not_track"] = values["do_not_track"] and not values["pre_dnat"]
        values["apply_on_forward"] |= values["do_not_track"] or values["pre_dnat"]
    for name, field in selectors:
        found = _selector(fields.get(name))
        if found is None and not key.within:
            return None
        values[field] = found or ""
    types = _types(fields.get("types"), fields, ("Egress",))
    values["types"] = ("Ingress",) if values.get("pre_dnat") else types
    return values


def _kubernetes(_: ResourceKey, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "pod_selector": _label_selector(fields.get("podSelector")),
        "policy_types": _types(fields.get("policyTypes"), fields, TYPES),
    }


def _types(given: Any, fields: dict[str, Any], of_egress_alone: tuple[str, ...]) -> tuple[str, ...]:
    """The directions that were meant: those given; else those of the rules, which need not be readable."""
    if given is None or given == []:
        if not fields.get("egress"):
            return ("Ingress",)
        return TYPES if fields.get("ingress") else of_egress_alone
    if not is_array(given) or any(each not in TYPES for each in given):
        return TYPES
    return tuple(each for each in TYPES if each in given)


def _is_tier(name: str) -> bool:
    found = Findings(_NOBODY)
    found.dns_label("spec.tier", name)
    return bool(name) and not found.found


def _selector(text: Any) -> str | None:
    """The selector; None for one that cannot be read."""
    if text is None:
        return ""
    if not isinstance(text, str):
        return None
    try:
        return None if parse(text).has_global else text
    except SelectorSyntaxError:
        return None


def _label_selector(value: Any) -> LabelSelector:
    """The selector, or that of all pods for one that cannot be read."""
    try:
        selector = msgspec.convert(codec.without_nulls({} if value is None else value), LabelSelector)
    except msgspec.ValidationError:
        return LabelSelector()
    found = Findings(_NOBODY)
    check_selector(found, "", selector)
    return LabelSelector() if found.found else selector
