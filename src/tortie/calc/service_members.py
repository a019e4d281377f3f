"""What stands behind each service, from EndpointSlices; from Endpoints where a service has no slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tortie.calc.rules import PROTOCOLS
from tortie.calc.set_definitions import ServiceSet
from tortie.desired.ipsets import Member
from tortie.net.addresses import Address, Prefix
from tortie.resources.endpoint_slice import EndpointSliceSpec, service_of
from tortie.resources.endpoints import EndpointsSpec
from tortie.resources.kubernetes import slices_of
from tortie.resources.resource import Resource

Service = tuple[str, str]
"""Namespace and name."""
Behind = tuple[Prefix, int, int]
"""An address, a protocol and a port; both 0 where a slice names no ports."""


class ServiceIndex:
    """Tells of the members of watched services' sets, through ``add`` and ``remove``: each as often as it is listed."""

    def __init__(self, add: Callable[[Member], None], remove: Callable[[Member], None]) -> None:
        self._add = add
        self._remove = remove
        self._slices: dict[Service, dict[str, tuple[Behind, ...]]] = {}
        self._service_of: dict[tuple[str, str], Service] = {}
        """Of a slice, by its namespace and name."""
        self._endpoints: dict[Service, tuple[Behind, ...]] = {}
        self._watched: dict[Service, dict[str, ServiceSet]] = {}

    def on_slice(self, namespace: str, name: str, resource: Resource[EndpointSliceSpec] | None) -> None:
        before = self._service_of.get((namespace, name))
        service = (namespace, service_of(resource)) if resource is not None else None
        if before is not None and before != service:
            self._change(before, name, None)
            del self._service_of[namespace, name]
        if resource is not None and service is not None and service[1]:
            self._service_of[namespace, name] = service
            self._change(service, name, tuple(_behind([resource.spec])))

    def on_endpoints(self, namespace: str, name: str, resource: Resource[EndpointsSpec] | None) -> None:
        service = (namespace, name)
        before = self._behind(service)
        if resource is None:
            self._endpoints.pop(service, None)
        else:
            self._endpoints[service] = tuple(_behind(each.spec for each in slices_of(resource)))
        self._tell(service, before)

    def _change(self, service: Service, name: str, behind: tuple[Behind, ...] | None) -> None:
        before = self._behind(service)
        slices = self._slices.setdefault(service, {})
        if behind is None:
            slices.pop(name, None)
        else:
            slices[name] = behind
        if not slices:
            del self._slices[service]
        self._tell(service, before)

    def _behind(self, service: Service) -> list[Behind]:
        slices = self._slices.get(service)
        if slices is None:
            return list(self._endpoints.get(service, ()))
        return [each for behind in slices.values() for each in behind]

    def _tell(self, service: Service, before: list[Behind]) -> None:
        now = self._behind(service)
        if now == before:
            return
        for name, definition in self._watched.get(service, {}).items():
            for member in _members(name, definition, now):
                self._add(member)
            for member in _members(name, definition, before):
                self._remove(member)

    def watch(self, name: str, definition: ServiceSet) -> None:
        service = (definition.namespace, definition.name)
        self._watched.setdefault(service, {})[name] = definition
        for member in _members(name, definition, self._behind(service)):
            self._add(member)

    def unwatch(self, name: str, definition: ServiceSet) -> None:
        service = (definition.namespace, definition.name)
        watched = self._watched[service]
        del watched[name]
        if not watched:
            del self._watched[service]
        for member in _members(name, definition, self._behind(service)):
            self._remove(member)


def _members(name: str, definition: ServiceSet, behind: Iterable[Behind]) -> Iterator[Member]:
    for prefix, protocol, port in behind:
        if not definition.with_ports:
            yield Member(name, prefix)
        elif port:
            yield Member(name, prefix, protocol, port)


def _behind(specs: Iterable[Any]) -> Iterator[Behind]:
    for spec in specs:
        ports = [
            (PROTOCOLS.get((port.protocol or "TCP").lower(), 0), port.port)
            for port in spec.ports
            if port.port is not None
        ] or [(0, 0)]
        for endpoint in spec.endpoints:
            for text in endpoint.addresses:
                try:
                    prefix = Address.parse(text).prefix
                except ValueError:
                    continue  # a name: slices of addressType FQDN hold those
                for protocol, port in ports:
                    yield prefix, protocol, port
