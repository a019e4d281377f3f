"""HostEndpoint: an interface of a node itself, or all of them, that policies guard (Calico: reference, resource
HostEndpoint)."""

from __future__ import annotations

import re
from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.rules import WITH_PORTS, port_range, protocol_number
from tortie.resources.spec import Spec
from tortie.resources.workload_endpoint import EndpointPort

HOST_ENDPOINT = Kind(CALICO, "HostEndpoint")


class HostEndpointSpec(Spec, frozen=True):
    """``interface_name`` may be ``*``: all interfaces. Without it, the interface is found by ``expected_ips``.

    Policy with ``doNotTrack`` holds at ``*``, too. Calico leaves it out there, with a warning in Felix's log: where nodes of both
    share a cluster, select HostEndpoints of named interfaces for it.
    """

    node: str = ""
    interface_name: str = ""
    expected_ips: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


_INTERFACE = re.compile(r"\*|[a-zA-Z0-9_.-]{1,15}")


def validate(endpoint: Resource[Any]) -> list[InvalidResource]:
    """Whose it is, how its interface is found, and its ports."""
    spec: HostEndpointSpec = endpoint.spec
    found = Findings(endpoint)
    found.subdomain("metadata.name", endpoint.key.name)
    found.required("spec.node", spec.node)
    if not spec.interface_name and not spec.expected_ips:
        found.add("spec.interfaceName", None, "is required, or spec.expectedIPs")
    if spec.interface_name and not _INTERFACE.fullmatch(spec.interface_name):
        found.add("spec.interfaceName", spec.interface_name, "is neither the name of an interface nor *")
    for index, address in enumerate(spec.expected_ips):
        if found.required(f"spec.expectedIPs[{index}]", address):
            found.address(f"spec.expectedIPs[{index}]", address)
    for index, profile in enumerate(spec.profiles):
        found.subdomain(f"spec.profiles[{index}]", profile)
    for index, port in enumerate(spec.ports):
        at = f"spec.ports[{index}]"
        if found.required(f"{at}.name", port.name) and not _is_name(port.name):
            found.add(f"{at}.name", port.name, "is not a name that a rule's ports can be")
        found.port(f"{at}.port", port.port)
        try:
            fits = protocol_number(port.protocol) in WITH_PORTS
        except ValueError:
            fits = False
        if not fits:
            found.add(f"{at}.protocol", port.protocol or None, "is not TCP, UDP or SCTP")
    return found.found


def _is_name(port: str) -> bool:
    try:
        return port_range(port) is None
    except ValueError:
        return False


INFO = KindInfo(
    validate=validate,
    checked=True,
    kind=HOST_ENDPOINT,
    plural="hostendpoints",
    spec=HostEndpointSpec,
    aliases=("hep", "heps"),
    columns=(
        NAME,
        Column("NODE", lambda r: r.spec.node),
        Column("INTERFACE", lambda r: r.spec.interface_name, wide=True),
        Column("IPS", lambda r: r.spec.expected_ips, wide=True),
        Column("PROFILES", lambda r: r.spec.profiles, wide=True),
    ),
)
