"""Routes of this node: local workloads, and blocks of its own as blackholes."""

from __future__ import annotations

from tortie.calc.block_index import Block, BlockIndex, block_of
from tortie.calc.endpoints import EndpointsNode
from tortie.calc.outlet import Outlet, Rows
from tortie.calc.pools import Pool
from tortie.calc.scope import Scope
from tortie.desired.routes import ROUTES, RouteRow
from tortie.net.addresses import Prefix
from tortie.resources.allocation_block import AllocationBlockSpec
from tortie.resources.block_affinity import CONFIRMED, PENDING, BlockAffinitySpec
from tortie.resources.resource import Resource


class RoutesNode:
    """In: AllocationBlock, BlockAffinity, `EndpointsNode`, `pools`. Out: ROUTES.

    A block is a node's own when the block says so and the affinity is confirmed: a pending one is as good as none, and where two
    nodes hold an affinity for one block, the block itself decides. What BGP should spread is marked: own blocks, and each
    local address in a pool whose block is known and not ours (it is borrowed). An address in a block that we are just
    claiming waits for the block: an endpoint may be heard of before its block is.
    """

    def __init__(
        self, scope: Scope, blocks: BlockIndex, endpoints: EndpointsNode, pools: Outlet[str, Pool]
    ) -> None:
        self.rows = Rows(ROUTES)
        self._scope = scope
        self._blocks = blocks
        self._endpoints = endpoints
        self._pools = pools
        self._affinities: dict[tuple[str, Prefix], str] = {}
        """The states of local nodes' affinities."""
        self._dirty: set[Prefix] = set()
        pools.subscribe(self._on_pool)

    def _on_pool(self, _: str) -> None:
        self._endpoints.touch_all()

    def on_block(self, prefix: Prefix, resource: Resource[AllocationBlockSpec] | None) -> None:
        before = self._blocks.get(prefix)
        now: Block | None = None
        if resource is None or resource.spec.deleted:
            self._blocks.drop(prefix)
        else:
            now = block_of(resource.spec)
            self._blocks.put(prefix, now)
        if before is None or now is None or before.node != now.node:
            self._on_owner(prefix)
        elif before.owners != now.owners:
            self._endpoints.on_allocation(prefix)

    def on_affinity(self, node: str, prefix: Prefix, resource: Resource[BlockAffinitySpec] | None) -> None:
        if not self._scope.is_local(node):
            return
        before = self._affinities.pop((node, prefix), None)
        if resource is not None and not resource.spec.deleted:
            self._affinities[node, prefix] = resource.spec.state
        if self._affinities.get((node, prefix)) == before:
            return
        self._on_owner(prefix)

    def _on_owner(self, prefix: Prefix) -> None:
        self._dirty.add(prefix)
        self._endpoints.on_block(prefix)

    def flush(self) -> None:
        self._dirty |= self._endpoints.touched
        self._endpoints.touched.clear()
        for prefix in self._dirty:
            self.rows.want(prefix, self._row(prefix))
        self._dirty.clear()

    def _row(self, prefix: Prefix) -> RouteRow | None:
        holder = self._endpoints.holder(prefix)
        interface = None if holder is None else self._endpoints.interface_of(holder)
        if holder is not None and interface:
            node = self._endpoints.node_of(holder)
            return RouteRow(
                kind="local-workload", interface=interface, advertised=self._borrowed(node, prefix)
            )
        if not prefix.is_single and self._own(prefix):
            return RouteRow(kind="blackhole", advertised=True)
        return None

    def _own(self, prefix: Prefix) -> bool:
        block = self._blocks.get(prefix)
        return block is not None and self._affinities.get((block.node, prefix)) == CONFIRMED

    def _borrowed(self, node: str, single: Prefix) -> bool:
        known = False
        for prefix, block in self._blocks.around(single):
            known = True
            claimed = self._affinities.get((node, prefix)) in (CONFIRMED, PENDING)
            if block.node == node and claimed and not prefix.is_single:
                return False
        return known and any(pool.prefix.contains(single) for pool in self._pools.values())
