"""On which terms addresses are given: pools, reservations, the configuration and the node's labels, as one value.

`read_terms` reads them; what follows from them is pure. Reading costs four requests, so an allocator that lives long
keeps them up to date from watches instead (`tortie.ipam.live_terms`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tortie.datastore.store import Store
from tortie.errors import TortieError
from tortie.ipam.blocks import reserved_ordinals
from tortie.ipam.pool_state import is_terminating
from tortie.ipam.records import find, resources
from tortie.net.addresses import Address, Prefix, Version
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.ip_reservation import IP_RESERVATION
from tortie.resources.ipam_configuration import (
    DEFAULT_MAX_BLOCKS_PER_HOST,
    IPAM_CONFIGURATION,
    IPAMConfigurationSpec,
)
from tortie.resources.node import NODE
from tortie.resources.resource import Resource, ResourceKey
from tortie.selector import parse

Use = Literal["Workload", "Tunnel"]

CONFIGURATION_KEY = ResourceKey(IPAM_CONFIGURATION, "default")


@dataclass(frozen=True, eq=False)
class Pool:
    """A pool whose CIDR can be read."""

    name: str
    cidr: Prefix
    block_length: int
    spec: IPPoolSpec
    terminating: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.cidr})"

    def holds_block(self, block: Prefix) -> bool:
        return self.cidr.contains(block)


@dataclass(frozen=True, eq=False)
class Terms:
    """``node_labels`` is None when there is no such Node."""

    configuration: IPAMConfigurationSpec
    pools: tuple[Pool, ...]
    reservations: tuple[Prefix, ...]
    node_labels: Mapping[str, str] | None
    _reserved: dict[Prefix, Collection[int]] = field(
        default_factory=dict[Prefix, Collection[int]], init=False
    )

    @property
    def block_limit(self) -> int:
        """How many blocks of a family one node may have."""
        return self.configuration.max_blocks_per_host or DEFAULT_MAX_BLOCKS_PER_HOST

    def reserved(self, block: Prefix) -> Collection[int]:
        """The ordinals of this block that are not given out by themselves."""
        found = self._reserved.get(block)
        if found is None:
            found = self._reserved[block] = reserved_ordinals(block, self.reservations)
        return found

    def pool_of(self, address: Address | Prefix) -> Pool | None:
        """The pool that holds this address or block."""
        prefix = address.prefix if isinstance(address, Address) else address
        return next((pool for pool in self.pools if pool.cidr.contains(prefix)), None)

    def wants_block(self, block: Prefix) -> bool:
        """Whether this node may still get addresses of this block: its pool exists and selects the node."""
        pool = self.pool_of(block)
        return pool is not None and self.why_not_here(pool) is None

    def why_not_here(self, pool: Pool) -> str | None:
        """Why this node cannot have blocks of that pool, whatever for."""
        return self._why_closed(pool) or self._why_not_selected(
            pool.spec.node_selector, self.node_labels or {}, "nodeSelector", "this node"
        )

    @staticmethod
    def _why_closed(pool: Pool) -> str | None:
        if pool.spec.disabled:
            return "is disabled"
        return "is being deleted" if pool.terminating else None

    def choose(
        self,
        version: Version,
        *,
        use: Use = "Workload",
        requested: Sequence[str] = (),
        namespace_labels: Mapping[str, str] | None = None,
    ) -> tuple[list[Pool], list[str]]:
        """The pools to take from, in order, and why the others are not among them.

        Pools that were asked for, by name or CIDR, are taken whatever they select, unless disabled or being deleted.
        """
        if requested:
            return self._requested(version, use, requested)
        chosen: list[Pool] = []
        reasons: list[str] = []
        for pool in self.pools:
            if pool.cidr.version != version:
                continue
            why = self._why_closed(pool) or self._why_unfit(pool, use, namespace_labels or {})
            if why is None:
                chosen.append(pool)
            else:
                reasons.append(f"pool {pool} {why}")
        return chosen, reasons

    def withheld(
        self, version: Version, *, use: Use, namespace_labels: Mapping[str, str] | None
    ) -> list[str]:
        """Pools of which one that asks for nothing special would have had an address, were they not closed just now.

        It is refused then, and not left without that family, which others have. A disabled IPv6 pool is another matter: as in
        Calico, nobody has to have IPv6.
        """
        return [
            f"pool {pool} {self._why_closed(pool)}"
            for pool in self.pools
            if pool.cidr.version == version
            and (pool.terminating or (pool.spec.disabled and version == 4))
            and self._why_unfit(pool, use, namespace_labels or {}) is None
        ]

    def _why_unfit(self, pool: Pool, use: Use, namespace_labels: Mapping[str, str]) -> str | None:
        """Why it is not for this use, node and namespace, open or not."""
        spec = pool.spec
        why = self._why_not_selected(spec.node_selector, self.node_labels or {}, "nodeSelector", "this node")
        if why is None and use not in spec.allowed_uses:
            why = f"is not for {use} addresses"
        if why is None and spec.assignment_mode == "Manual":
            why = "has assignmentMode Manual"
        return why or self._why_not_selected(
            spec.namespace_selector, namespace_labels, "namespaceSelector", "the namespace"
        )

    def _requested(
        self, version: Version, use: Use, requested: Sequence[str]
    ) -> tuple[list[Pool], list[str]]:
        chosen: list[Pool] = []
        reasons: list[str] = []
        for wanted in requested:
            pool = next((pool for pool in self.pools if wanted in (pool.name, str(pool.cidr))), None)
            if pool is None:
                reasons.append(f"there is no pool {wanted}")
            elif pool.cidr.version != version:
                reasons.append(f"pool {pool} is not an IPv{version} pool")
            elif pool.spec.disabled:
                reasons.append(f"pool {pool} is disabled")
            elif pool.terminating:
                reasons.append(f"pool {pool} is being deleted")
            elif use not in pool.spec.allowed_uses:
                reasons.append(f"pool {pool} is not for {use} addresses")
            else:
                chosen.append(pool)
        return chosen, reasons

    @staticmethod
    def _why_not_selected(selector: str, labels: Mapping[str, str], field_name: str, whom: str) -> str | None:
        if not selector or selector == "all()":
            return None
        try:
            selects = parse(selector).matches(labels)
        except TortieError as error:
            return f"has an unreadable {field_name}: {error}"
        return None if selects else f"does not select {whom} ({field_name}: {selector})"


def make_terms(
    *,
    configuration: Resource[Any] | None,
    pools: Sequence[Resource[Any]],
    reservations: Sequence[Resource[Any]],
    node: Resource[Any] | None,
) -> Terms:
    """From resources. A pool or reservation that cannot be read is absent: validation reports it."""
    ranges: list[Prefix] = []
    for reservation in reservations:
        for text in reservation.spec.reserved_cidrs:
            try:
                ranges.append(Prefix.parse(text, strict=False))
            except ValueError:
                continue
    usable: list[Pool] = []
    for resource in sorted(pools, key=lambda each: each.key.name):
        try:
            cidr = Prefix.parse(resource.spec.cidr, strict=False)
        except ValueError:
            continue
        spec = resource.spec
        usable.append(Pool(resource.key.name, cidr, spec.block_length, spec, is_terminating(resource)))
    return Terms(
        configuration=configuration.spec if configuration is not None else IPAMConfigurationSpec(),
        pools=tuple(usable),
        reservations=tuple(ranges),
        node_labels=node.metadata.labels if node is not None else None,
    )


async def read_terms(store: Store, node: str) -> Terms:
    """As they stand now. A tool that is no node gives an empty name."""
    configuration, pools, reservations, labelled = await asyncio.gather(
        find(store, CONFIGURATION_KEY),
        resources(store, IP_POOL),
        resources(store, IP_RESERVATION),
        _node(store, node),
    )
    return make_terms(configuration=configuration, pools=pools, reservations=reservations, node=labelled)


async def _node(store: Store, name: str) -> Resource[Any] | None:
    return await find(store, ResourceKey(NODE, name)) if name else None
