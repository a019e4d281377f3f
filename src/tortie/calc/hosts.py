"""Nodes of the cluster, as the rest of the graph needs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tortie.calc.ipsets import IPSets
from tortie.calc.outlet import Outlet
from tortie.desired.ipsets import ALL_HOSTS
from tortie.net.addresses import Address, Interface, Prefix
from tortie.resources.node import NodeSpec
from tortie.resources.resource import Resource


@dataclass(frozen=True, kw_only=True)
class Host:
    """One node: what BGP says of it, and every address it is known by."""

    name: str
    ipv4: Address | None = None
    ipv6: Address | None = None
    as_number: int | None = None
    is_route_reflector: bool = False
    labels: Mapping[str, str]
    addresses: frozenset[Prefix] = frozenset()

    def address(self, version: int) -> Address | None:
        return self.ipv4 if version == 4 else self.ipv6


class HostsNode:
    """In: Node. Out: `hosts` by name, and the IP set of all their addresses."""

    def __init__(self, ipsets: IPSets) -> None:
        self.hosts: Outlet[str, Host] = Outlet()
        self._ipsets = ipsets
        self._users: dict[Prefix, int] = {}
        """How many nodes have each address."""
        self._dirty = True

    def on_update(self, name: str, resource: Resource[NodeSpec] | None) -> None:
        before = self.hosts.get(name)
        now = None if resource is None else _host(name, resource)
        was = frozenset[Prefix]() if before is None else before.addresses
        becomes = frozenset[Prefix]() if now is None else now.addresses
        for address in becomes - was:
            self._users[address] = self._users.get(address, 0) + 1
        for address in was - becomes:
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address]
        self._dirty = self._dirty or was != becomes
        if now is None:
            self.hosts.drop(name)
        else:
            self.hosts.put(name, now)

    def flush(self) -> None:
        if self._dirty:
            self._dirty = False
            self._ipsets.fill(ALL_HOSTS, frozenset(self._users))


def _host(name: str, resource: Resource[NodeSpec]) -> Host:
    spec = resource.spec
    bgp = spec.bgp
    ipv4 = _parsed(bgp.ipv4_address) if bgp else None
    ipv6 = _parsed(bgp.ipv6_address) if bgp else None
    listed = [_parsed(entry.address) for entry in spec.addresses]
    known = [ipv4, ipv6, *listed]
    return Host(
        name=sys.intern(name),
        ipv4=ipv4,
        ipv6=ipv6,
        as_number=as_number_of(bgp.as_number) if bgp else None,
        is_route_reflector=bool(bgp and bgp.route_reflector_cluster_id),
        labels=_interned(resource.metadata.labels),
        addresses=frozenset(address.prefix for address in known if address is not None),
    )


def _parsed(text: str | None) -> Address | None:
    """The address in ``172.30.0.11/24``; None for a name (a node may be listed with its host name) or nothing."""
    if not text:
        return None
    try:
        return Interface.parse(text).address
    except ValueError:
        return None


def _interned(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {sys.intern(key): sys.intern(value) for key, value in labels.items()}


def as_number_of(written: int | str | None) -> int | None:
    """An AS number in either notation of RFC 5396 (``4259905537``, ``65001.1``); None when unset. Raises `ValueError`."""
    if written is None or written == "":
        return None
    high, dot, low = str(written).partition(".")
    return (int(high) << 16) + int(low) if dot else int(high)


def labels_of(host: Host | None) -> Mapping[str, str]:
    """The labels of a node that may not be known."""
    return host.labels if host is not None else dict[str, str]()
