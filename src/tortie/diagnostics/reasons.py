"""Why a packet does not arrive: the likely reason, from what the agents on both sides hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tortie.diagnostics.cases import Leg, Place
from tortie.net.addresses import Address, Prefix


class RouteSeen(NamedTuple):
    """One route of a node's FIB."""

    destination: Prefix
    blackhole: bool
    interface: str


class InterfaceSeen(NamedTuple):
    """The host's end of a pod's wire; ``name`` empty: the agent knows of none."""

    name: str
    up: bool


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """What one node's agent told: its FIB, its BGP sessions by peer node (state), its pods' interfaces by pod, and those
    interfaces with an address that BGP knows the node by that are down."""

    routes: tuple[RouteSeen, ...] = ()
    sessions: Mapping[str, str] = field(default_factory=dict[str, str])
    interfaces: Mapping[str, InterfaceSeen] = field(default_factory=dict[str, InterfaceSeen])
    uplinks_down: tuple[str, ...] = ()


def likely_reason(leg: Leg, views: Mapping[str, NodeView]) -> str | None:
    """The first thing on the way there, or on the way back, that is not as it should be; None when all looks well."""
    for place in (leg.source, leg.destination):
        if (reason := _interface_reason(place, views.get(place.node))) is not None:
            return reason
    if leg.source.node != leg.destination.node:
        for node in (leg.source.node, leg.destination.node):
            view = views.get(node)
            if view is not None and view.uplinks_down:
                return f"interface down: {', '.join(view.uplinks_down)} of {node}"
    there = _route_reason(leg.source.node, leg.destination.node, leg.address, views)
    if there is not None:
        return there
    back = leg.source.address(leg.address.version)
    return None if back is None else _route_reason(leg.destination.node, leg.source.node, back, views)


def _interface_reason(place: Place, view: NodeView | None) -> str | None:
    if place.kind == "node":
        return None
    if view is None:
        return f"the agent of {place.node} does not answer"
    interface = view.interfaces.get(place.name)
    if interface is None or not interface.name:
        return f"{place.node} has no interface for {place.name}"
    return None if interface.up else f"interface down: {interface.name} of {place.name} on {place.node}"


def _route_reason(node: str, other: str, address: Address, views: Mapping[str, NodeView]) -> str | None:
    view = views.get(node)
    if view is None:
        return f"the agent of {node} does not answer"
    route = best_route(view.routes, address)
    if route is not None and not route.blackhole and route.destination.length > 0:
        return None
    state = view.sessions.get(other)
    if node != other and state is not None and state != "Established":
        return f"BGP session down: {node} and {other} are {state}, so {node} has no route to {address}"
    if route is not None and route.blackhole:
        return f"no route: {node} has only the blackhole of its block {route.destination} for {address}"
    return f"no route: {node} has none to {address}"


def best_route(routes: Iterable[RouteSeen], address: Address) -> RouteSeen | None:
    """The longest prefix that holds the address."""
    holding = [route for route in routes if route.destination.holds(address)]
    return max(holding, key=lambda route: route.destination.length, default=None)
