"""Host endpoints of this node as rows."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.calc.active_policies import HostPolicies
from tortie.calc.outlet import Outlet, Rows
from tortie.desired.host_endpoints import HOST_ENDPOINTS, HostEndpointRow
from tortie.net.addresses import Address
from tortie.resources.host_endpoint import HostEndpointSpec


@dataclass(frozen=True, kw_only=True)
class _Guarded:
    interface: str
    expected: tuple[Address, ...]


class HostEndpointsNode:
    """In: local HostEndpoints, and what holds for them. Out: HOST_ENDPOINTS."""

    def __init__(self, policies: Outlet[str, HostPolicies]) -> None:
        self.rows = Rows(HOST_ENDPOINTS)
        self._policies = policies
        self._guarded: dict[str, _Guarded] = {}
        self._dirty: set[str] = set()
        policies.subscribe(self._dirty.add)

    def put(self, name: str, spec: HostEndpointSpec) -> None:
        """Raises `ValueError`."""
        self._guarded[name] = _Guarded(
            interface=spec.interface_name, expected=tuple(map(Address.parse, spec.expected_ips))
        )
        self._dirty.add(name)

    def drop(self, name: str) -> None:
        if self._guarded.pop(name, None) is not None:
            self._dirty.add(name)

    def flush(self) -> None:
        for name in self._dirty:
            self.rows.want(name, self._row(name))
        self._dirty.clear()

    def _row(self, name: str) -> HostEndpointRow | None:
        guarded, applied = self._guarded.get(name), self._policies.get(name)
        if guarded is None or applied is None or not (guarded.interface or guarded.expected):
            return None
        return HostEndpointRow(
            interface=guarded.interface,
            expected=guarded.expected,
            ingress=applied.ingress,
            egress=applied.egress,
            forward_ingress=applied.forward_ingress,
            forward_egress=applied.forward_egress,
            untracked_ingress=applied.untracked_ingress,
            untracked_egress=applied.untracked_egress,
            pre_dnat=applied.pre_dnat,
        )
