"""Services by their addresses: policy is asked of what stands behind one, after the translation, never of the service itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tortie.diagnostics.ports import Port
from tortie.net.addresses import Address
from tortie.resources.endpoint_slice import ENDPOINT_SLICE, service_of
from tortie.resources.endpoints import ENDPOINTS
from tortie.resources.resource import Resource
from tortie.resources.service import SERVICE, ServicePort
from tortie.resources.shape import is_array, is_object

MOST_SHOWN = 10


class Backend(NamedTuple):
    """A port of an address behind a service; ``port`` is the name that the service's port has, too."""

    address: Address
    port: str
    protocol: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """``name`` is NAMESPACE/NAME; ``cluster_ips`` are some of ``addresses``."""

    name: str
    cluster_ips: frozenset[Address]
    addresses: frozenset[Address]
    ports: tuple[ServicePort, ...]
    backends: tuple[Backend, ...]

    def behind(self, port: Port | None) -> Iterator[Backend]:
        """The backends of a port, of any without one."""
        names = {
            each.name
            for each in self.ports
            if port is None
            or (each.protocol.lower() == port.protocol_name and port.shown in (each.port, each.name))
        }
        for each in self.backends:
            if each.port in names and (port is None or each.protocol.lower() == port.protocol_name):
                yield each

    @property
    def shown_ports(self) -> str:
        return ", ".join(f"{each.port}/{each.protocol.lower()}" for each in self.ports) or "none"


def services(resources: Sequence[Resource[Any]]) -> Iterator[Service]:
    """Every service that has an address, with what is ready behind it."""
    behind: dict[tuple[str, str], dict[Backend, None]] = {}
    for each in resources:
        if each.key.kind == ENDPOINT_SLICE:
            found = behind.setdefault((each.key.within, service_of(each)), {})
            found.update(dict.fromkeys(_of_slice(each.spec)))
        elif each.key.kind == ENDPOINTS:
            found = behind.setdefault((each.key.within, each.key.name), {})
            found.update(dict.fromkeys(_of_endpoints(each.spec)))
    for each in resources:
        if each.key.kind != SERVICE:
            continue
        spec = each.spec
        own = frozenset(_parsed((spec.cluster_ip, *spec.cluster_ips)))
        addresses = own | frozenset(
            _parsed((*spec.external_ips, spec.load_balancer_ip, *_balanced(each.status)))
        )
        if addresses:
            yield Service(
                name=f"{each.key.within}/{each.key.name}",
                cluster_ips=own,
                addresses=addresses,
                ports=spec.ports,
                backends=tuple(behind.get((each.key.within, each.key.name), ())),
            )


def _of_slice(spec: Any) -> Iterator[Backend]:
    for endpoint in spec.endpoints:
        if endpoint.conditions.ready is not False:
            for address in _parsed(endpoint.addresses[:1]):
                for port in spec.ports:
                    if port.port is not None:
                        yield Backend(address, port.name or "", port.protocol or "TCP", port.port)


def _of_endpoints(spec: Any) -> Iterator[Backend]:
    for subset in spec.subsets:
        for address in _parsed(each.ip for each in subset.addresses):
            for port in subset.ports:
                yield Backend(address, port.name, port.protocol, port.port)


def _balanced(status: object) -> Iterator[str]:
    """What a load balancer's controller has written."""
    balancer: Any = status.get("loadBalancer") if is_object(status) else None
    listed: Any = balancer.get("ingress") if is_object(balancer) else None
    for each in listed if is_array(listed) else ():
        if is_object(each) and isinstance(each.get("ip"), str):
            yield each["ip"]


def _parsed(texts: Iterable[str]) -> Iterator[Address]:
    """Those that are addresses: a headless service says ``None``."""
    for text in texts:
        try:
            yield Address.parse(text)
        except ValueError:
            continue
