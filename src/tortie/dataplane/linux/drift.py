"""What netlink events tell of drift: which interfaces, routes and switches to look at anew. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tortie.dataplane.linux.drivers.links import GATEWAY_V6, SWITCHES
from tortie.dataplane.linux.managers.links import LinkKey
from tortie.dataplane.linux.managers.node import switch_value
from tortie.host.links import Link
from tortie.host.routes import Route, RouteKey
from tortie.kernel.monitor import AddressEvent, Event, EventsLost, LinkEvent, RouteEvent, SwitchEvent


@dataclass
class Hints:
    """Where the kernel may differ from what we think. ``everything``: events were lost."""

    interfaces: set[str] = field(default_factory=set[str])
    routes: dict[RouteKey, Route | None] = field(default_factory=dict[RouteKey, "Route | None"])
    rules: bool = False
    addresses: bool = False
    switches: bool = False
    everything: bool = False

    def __bool__(self) -> bool:
        some = self.interfaces or self.routes or self.rules or self.addresses or self.switches
        return bool(some or self.everything)


class DriftWatch:
    """Compares events with what we believe, and keeps those that say something new."""

    def __init__(
        self,
        *,
        links: Mapping[str, Link],
        wanted_interfaces: Callable[[], Collection[str]],
        wanted_aspects: Collection[LinkKey],
        wanted_routes: Mapping[RouteKey, Route],
        wanted_switches: Mapping[str, str],
        wants_addresses: Callable[[], bool],
        own_port: int,
        owns: Callable[[Route, str], bool],
    ) -> None:
        self.hints = Hints()
        self._links = links
        self._wanted_interfaces = wanted_interfaces
        self._wanted_aspects = wanted_aspects
        self._wanted_routes = wanted_routes
        self._wanted_switches = wanted_switches
        self._wants_addresses = wants_addresses
        self._own_port = own_port
        self._owns = owns
        self._names: dict[int, str] = {}

    def hear(self, events: Iterable[Event]) -> tuple[bool, bool]:
        """Whether there is drift to repair at once, and whether there is some that may be the start of a DEL.

        An interface that vanishes is, as a rule, followed by its endpoint.
        """
        now, later = False, False
        events = list(events)
        last = {_subject(event): event for event in events}
        for event in events:
            if _subject(event) is not None and last[_subject(event)] is not event:
                # It was so for a moment; what counts is how it is, and which name it had.
                if isinstance(event, LinkEvent):
                    self._names.setdefault(event.link.index, event.link.name)
                continue
            if isinstance(event, EventsLost):
                self.hints.everything = now = True
            elif isinstance(event, LinkEvent):
                at_once, soon = self._link(event)
                now, later = now or at_once, later or soon
            elif isinstance(event, AddressEvent):
                at_once, soon = self._address(event)
                now, later = now or at_once, later or soon
            elif isinstance(event, SwitchEvent):
                now = self._switch(event) or now
            elif event.port != self._own_port:
                now = self._route(event) or now
        return now, later

    def _link(self, event: LinkEvent) -> tuple[bool, bool]:
        link = event.link
        wanted = self._wanted_interfaces()
        before = self._names.pop(link.index, None)
        if not event.gone:
            self._names[link.index] = link.name
        known = self._links.get(link.name)
        renamed = before not in (None, link.name) and before in wanted
        if renamed and before is not None:
            self.hints.interfaces.add(before)
        if link.name not in wanted:
            return renamed, False
        if event.gone:
            self.hints.interfaces.add(link.name)
            return renamed, True
        if known is not None and (known.index, known.up) == (link.index, link.up):
            return renamed, False
        self.hints.interfaces.add(link.name)
        return True, False

    def _address(self, event: AddressEvent) -> tuple[bool, bool]:
        """Which interface a HostEndpoint means may depend on it. Of a workload's interface the gateway counts, which goes too
        when somebody switches IPv6 off there."""
        name = self._names.get(event.address.index, "")
        if name in self._wanted_interfaces():
            lost = event.gone and event.address.interface.address == GATEWAY_V6.address
            return False, lost and self._lacks(LinkKey(name, "ipv6"))
        concerns = self._wants_addresses()
        self.hints.addresses = self.hints.addresses or concerns
        return concerns, False

    def _lacks(self, aspect: LinkKey) -> bool:
        if aspect not in self._wanted_aspects:
            return False
        self.hints.interfaces.add(aspect.interface)
        return True

    def _switch(self, event: SwitchEvent) -> bool:
        if event.index:
            version: Literal["ipv4", "ipv6"] = "ipv4" if event.name.startswith("ipv4/") else "ipv6"
            if event.value == str(SWITCHES[event.name]):
                return False
            return self._lacks(LinkKey(self._names.get(event.index, ""), version))
        wanted = self._wanted_switches.get(event.name)
        if wanted is None or switch_value(event.name, event.value) == wanted:
            return False  # we may have set it ourselves
        self.hints.switches = True
        return True

    def _route(self, event: RouteEvent) -> bool:
        route, key = event.route, event.route.key
        wanted = self._wanted_routes.get(key)
        name = self._names.get(route.ifindex, "")
        seen = dataclasses.replace(route, interface=name)
        if wanted is None and not self._owns(seen, name):
            return False
        if wanted is not None and not event.gone and seen == wanted:
            self.hints.routes.pop(key, None)
            return False
        self.hints.routes[key] = None if event.gone else seen
        return True

    def learn(self, names: Mapping[int, str]) -> None:
        """These interfaces are there, by index."""
        self._names.update(names)

    def forget_unwanted(self) -> None:
        """An interface that vanished and is no workload's any more needs no look."""
        wanted = self._wanted_interfaces()  # many: not to be gone through for a few
        self.hints.interfaces = {name for name in self.hints.interfaces if name in wanted}

    def take(self) -> Hints:
        """What was heard since the last time."""
        hints, self.hints = self.hints, Hints()
        return hints


def _subject(event: Event) -> object:
    """What it tells how it is now; None where each event counts for itself."""
    match event:
        case LinkEvent():
            return event.link.index
        case AddressEvent():
            return event.address.index, event.address.interface.address
        case SwitchEvent():
            return event.index, event.name
        case _:
            return None
