"""Settings that stand at several places: the narrower place wins, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tortie.resources.resource import Resource

DEFAULT = "default"


def layers_of(
    resources: Mapping[str, Resource[Any]], node: str | None, selects: Callable[[Resource[Any]], bool]
) -> list[Any]:
    """The specs that hold for the node, the widest first."""
    return [resource.spec for resource in resources_of(resources, node, selects)]


def resources_of(
    resources: Mapping[str, Resource[Any]], node: str | None, selects: Callable[[Resource[Any]], bool]
) -> list[Resource[Any]]:
    """The resources that hold for the node, the widest first: ``default``, those that select it, ``node.<name>``.

    Of several that select it the last by name is the narrowest, so that the result does not depend on their order of arrival.
    """
    found = [resources[DEFAULT]] if DEFAULT in resources else []
    if node is None:
        return found
    own = f"node.{node}"
    found.extend(
        resources[name]
        for name in sorted(resources)
        if name not in (DEFAULT, own) and selects(resources[name])
    )
    if own in resources:
        found.append(resources[own])
    return found


def narrowest(layers: Iterable[Any], field: str, *, empty_is_set: bool = False) -> Any:
    """The value of the narrowest layer that sets the field; None when none does. An empty string or list is not set, unless
    it means something of its own."""
    value: Any = None
    for spec in layers:
        set_here = getattr(spec, field)
        if set_here is not None and (empty_is_set or set_here not in ("", ())):
            value = set_here
    return value
