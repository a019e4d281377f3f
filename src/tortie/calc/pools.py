"""Pools: whose traffic is masqueraded, what is inside the cluster, and what BGP may spread."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.calc.ipsets import IPSets
from tortie.calc.outlet import Outlet
from tortie.desired.ipsets import ALL_POOLS, MASQUERADE_POOLS
from tortie.net.addresses import Prefix
from tortie.resources.ip_pool import IPPoolSpec
from tortie.resources.resource import Resource


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What of a pool matters to traffic. A disabled one hands out no addresses, but traffic into it is still inside: Calico's
    users make disabled pools to except ranges from masquerading (Calico documentation, "Configure outgoing NAT")."""

    prefix: Prefix
    masquerade: bool
    export: bool


class PoolsNode:
    """In: IPPool. Out: `pools` by name, and the IP sets of pools."""

    def __init__(self, ipsets: IPSets) -> None:
        self.pools: Outlet[str, Pool] = Outlet()
        self.pools.subscribe(self._changed)
        self._ipsets = ipsets
        self._dirty = True

    def _changed(self, _: str) -> None:
        self._dirty = True

    def on_update(self, name: str, resource: Resource[IPPoolSpec] | None) -> None:
        if resource is None:
            self.pools.drop(name)
        else:
            self.pools.put(name, _pool(resource))

    def flush(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        pools = list(self.pools.values())
        self._ipsets.fill(MASQUERADE_POOLS, frozenset(pool.prefix for pool in pools if pool.masquerade))
        self._ipsets.fill(ALL_POOLS, frozenset(pool.prefix for pool in pools))


def _pool(resource: Resource[IPPoolSpec]) -> Pool:
    spec = resource.spec
    return Pool(
        prefix=Prefix.parse(spec.cidr),
        masquerade=bool(spec.nat_outgoing),
        # Also of a disabled pool, whose pods keep their network (Calico documentation, "Migrate from one IP pool to another").
        export=not spec.disable_bgp_export,
    )
