"""Workload endpoints of the whole cluster: the local ones as rows, the others as numbers; who holds which address."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tortie.calc.active_policies import WorkloadPolicies
from tortie.calc.block_index import BlockIndex, handle_of, owner_token
from tortie.calc.outlet import Outlet, Rows
from tortie.calc.problems import Problems
from tortie.calc.scope import Scope
from tortie.desired.endpoints import ENDPOINTS, UNGUARDED, EndpointKey, EndpointRow
from tortie.desired.table import Problem
from tortie.net.addresses import Prefix
from tortie.resources.resource import Resource
from tortie.resources.workload_endpoint import WorkloadEndpointSpec


class Claim(NamedTuple):
    """One endpoint as the others see it: its node, the token of its handle, the addresses it lays claim to."""

    node: str
    owner: int
    addresses: tuple[Prefix, ...]


@dataclass(frozen=True, eq=False)
class Local:
    """What only a local endpoint's row needs."""

    interface: str
    mac: str
    allowed_sources: tuple[Prefix, ...]
    revision: str
    created: str


class EndpointsNode:
    """In: WorkloadEndpoint, and what holds for local ones. Out: ENDPOINTS, and `holder` of each address (`touched` says of which
    that may have changed).

    Of several endpoints with one address the one holds it whose handle IPAM gave it to; where that decides nothing, the first
    by namespace and name. So every node comes to the same holder, whatever it heard first.
    """

    def __init__(
        self,
        scope: Scope,
        blocks: BlockIndex,
        policies: Outlet[EndpointKey, WorkloadPolicies],
        problems: Problems,
    ) -> None:
        self.rows = Rows(ENDPOINTS)
        self.touched: set[Prefix] = set()
        self._scope = scope
        self._blocks = blocks
        self._policies = policies
        self._problems = problems
        self._claims: dict[EndpointKey, Claim] = {}
        self._locals: dict[EndpointKey, Local] = {}
        self._claimants: dict[Prefix, EndpointKey | tuple[EndpointKey, ...]] = {}
        """Nearly always one, and then without a tuple around it."""
        self._contested: set[Prefix] = set()
        self._dirty: set[EndpointKey] = set()
        policies.subscribe(self._dirty.add)

    def on_update(self, key: EndpointKey, resource: Resource[WorkloadEndpointSpec] | None) -> None:
        if resource is None:
            self._forget(key)
            return
        spec = resource.spec
        claim = Claim(
            sys.intern(spec.node),
            owner_token(handle_of(resource)),
            tuple(dict.fromkeys(Prefix.parse(network, strict=False) for network in spec.ip_networks)),
        )
        local: Local | None = None
        if self._scope.is_local(claim.node):
            local = Local(
                interface=spec.interface_name,
                mac=spec.mac,
                allowed_sources=tuple(
                    Prefix.parse(prefix, strict=False) for prefix in spec.allow_spoofed_source_prefixes
                ),
                revision=resource.revision or "",
                created=resource.metadata.creation_timestamp,
            )
        self._replace(key, claim)
        before = self._locals.pop(key, None)
        if local is not None:
            self._locals[key] = local
        if before is None and local is None:
            return
        self._dirty.add(key)
        if before is not None and local is not None and before.interface != local.interface:
            self.touched.update(claim.addresses)

    def _forget(self, key: EndpointKey) -> None:
        self._replace(key, None)
        if self._locals.pop(key, None) is not None:
            self._dirty.add(key)

    def _replace(self, key: EndpointKey, claim: Claim | None) -> None:
        before = self._claims.get(key)
        if before == claim:
            return
        if before is not None:
            for address in before.addresses:
                self._set_claimants(address, [other for other in self.claimants(address) if other != key])
        if claim is None:
            self._claims.pop(key, None)
        else:
            self._claims[key] = claim
            for address in claim.addresses:
                self._set_claimants(address, {*self.claimants(address), key})

    def _set_claimants(self, address: Prefix, keys: Iterable[EndpointKey]) -> None:
        found = sorted(keys)
        if not found:
            self._claimants.pop(address, None)
        elif len(found) == 1:
            self._claimants[address] = found[0]
        else:
            self._claimants[address] = tuple(found)
        if len(found) > 1:
            self._contested.add(address)
        else:
            self._contested.discard(address)
        self._touch(address)

    def _touch(self, address: Prefix) -> None:
        self.touched.add(address)
        self._dirty.update(key for key in self.claimants(address) if key in self._locals)

    def on_block(self, prefix: Prefix) -> None:
        """A block came, changed or went: who holds its addresses, and whether they are borrowed, is open again."""
        held = self._claimants
        if prefix.size <= len(self._locals):
            inside: Iterable[Prefix] = (
                a for a in prefix.subnets(32 if prefix.version == 4 else 128) if a in held
            )
        else:
            inside = (a for key in self._locals for a in self._claims[key].addresses if prefix.contains(a))
        for address in [*inside, *(a for a in self._contested if prefix.contains(a))]:
            self._touch(address)

    def on_allocation(self, prefix: Prefix) -> None:
        """The block gave or took addresses: that settles who holds a contested one, and concerns no other."""
        for address in [address for address in self._contested if prefix.contains(address)]:
            self._touch(address)

    def touch_all(self) -> None:
        """Something changed that concerns every local address."""
        for key in self._locals:
            self.touched.update(self._claims[key].addresses)

    def claimants(self, address: Prefix) -> tuple[EndpointKey, ...]:
        """The endpoints that lay claim to the address, in the order of their names."""
        found = self._claimants.get(address)
        if found is None:
            return ()
        return (found,) if isinstance(found, EndpointKey) else found

    def holder(self, address: Prefix) -> EndpointKey | None:
        """The endpoint that may use the address."""
        claimants = self.claimants(address)
        if len(claimants) < 2:
            return claimants[0] if claimants else None
        owner = self._blocks.owner(address)
        rightful = [key for key in claimants if self._claims[key].owner == owner]
        return (rightful or claimants)[0]

    def claimed(self, key: EndpointKey) -> tuple[Prefix, ...]:
        """The addresses that the endpoint lays claim to."""
        return self._claims[key].addresses

    def node_of(self, key: EndpointKey) -> str:
        return self._claims[key].node

    def interface_of(self, key: EndpointKey) -> str | None:
        """The interface of a local endpoint; None for another's."""
        local = self._locals.get(key)
        return None if local is None else local.interface

    def flush(self) -> None:
        for key in self._dirty:
            self._refresh(key)
        self._dirty.clear()

    def _refresh(self, key: EndpointKey) -> None:
        local = self._locals.get(key)
        if local is None:
            self.rows.want(key, None)
            self._problems.report(("endpoint", key), ())
            return
        wanted = self._claims[key].addresses
        held = tuple(address for address in wanted if self.holder(address) == key)
        applied = self._policies.get(key)
        row = EndpointRow(
            interface=local.interface,
            addresses=tuple(address.address for address in held),
            allowed_sources=local.allowed_sources,
            mac=local.mac,
            up=bool(held) or not wanted,
            ingress=UNGUARDED if applied is None else applied.ingress,
            egress=UNGUARDED if applied is None else applied.egress,
            revision=local.revision,
            created=local.created,
        )
        self.rows.want(key, row if local.interface else None)
        self._problems.report(("endpoint", key), list(self._complaints(key, local, held)))

    def _complaints(self, key: EndpointKey, local: Local, held: tuple[Prefix, ...]) -> Iterator[Problem]:
        subject = f"WorkloadEndpoint {key}"
        if not local.interface:
            yield Problem(
                subject, "spec.interfaceName", "names no interface, so nothing can be set up for it"
            )
        for address in self._claims[key].addresses:
            holder = self.holder(address)
            if address not in held and holder is not None:
                where = f"{holder} on {self._claims[holder].node}"
                down = "" if held else "; its interface is down, as it has no other address"
                yield Problem(subject, "spec.ipNetworks", f"{address.address} belongs to {where}{down}")
