"""CHECK: is what ADD promised still so? Interface, addresses, routes, switches, endpoint and IPAM, each by name."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

from tortie.cni.errors import CNIError, Code
from tortie.cni.request import Request
from tortie.cni.result import Result, ResultInterface
from tortie.cni.result import parse as parse_result
from tortie.errors import NotFound
from tortie.kernel.pod_link import HOST_MAC, PodLink, SeenLink
from tortie.net.addresses import Address
from tortie.resources.resource import Resource
from tortie.workloads.addresses import check_delegate, source_of
from tortie.workloads.means import Delegate, Means
from tortie.workloads.sandbox import Sandbox

_LINK_SCOPE = 253


async def check(means: Means, sandbox: Sandbox, request: Request, netns: int, delegate: Delegate) -> None:
    """Compare with ``prevResult``. Raises `CNIError` 110, whose details hold every difference; `StoreError`."""
    promised = parse_result(request.config.previous or {})
    mine = _own_end(promised, sandbox)
    if mine is None:
        raise CNIError(
            Code.INVALID_CONFIG,
            f"prevResult: names no interface {sandbox.ifname} inside {sandbox.netns or 'the pod'}",
        )
    addresses = _addresses(promised, mine)
    expected = dataclasses.replace(
        sandbox.wire,
        addresses=addresses,
        mac=mine.mac,
        mtu=mine.mtu or request.config.mtu,
        forwarding=request.config.container_settings.allow_ip_forwarding,
    )
    source = source_of(means.allocator, sandbox, request, delegate)
    seen, endpoint, held = await asyncio.gather(
        means.links.inspect(expected, netns), _endpoint(means, sandbox), source.held()
    )
    found = [*differences(expected, seen, sandbox.netns), *_records(sandbox, endpoint, addresses)]
    if request.config.ipam.is_built_in:
        found += [f"IPAM does not hold {a} for {sandbox.handle}" for a in addresses if a not in held]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise CNIError(Code.CHECK_FAILED, f"{sandbox}: {found[0]}{more}", "; ".join(found))
    if not request.config.ipam.is_built_in:
        plugin = request.config.ipam.type
        check_delegate(plugin, "CHECK", await delegate("CHECK", plugin))


def differences(expected: PodLink, seen: SeenLink, netns: str = "") -> Iterator[str]:
    """What is not as it was promised, one sentence each. Pure."""
    yield from _link_differences(expected, seen, f" in {netns}" if netns else "")
    if seen.pod is None:
        return
    carried = {found.interface.address for found in seen.addresses if found.scope != _LINK_SCOPE}
    for address in expected.addresses:
        if address not in carried:
            yield f"{expected.pod_name} does not have the address {address}"
    for address in sorted(carried - set(expected.addresses)):
        yield f"{expected.pod_name} has the address {address}, which ADD did not give"
    routes = {(route.prefix, route.gateway) for route in seen.routes}
    for route in expected.routes():
        if (route.prefix, route.gateway) not in routes:
            via = f" via {route.gateway}" if route.gateway else ""
            yield f"the pod has no route to {route.prefix}{via}"
    for name, value in expected.switches().items():
        if seen.switches.get(name) != value:
            yield f"{name} in the pod is {seen.switches.get(name)} instead of {value}"
    if seen.host is not None:
        led = {route.prefix for route in seen.host_routes}
        for address in expected.addresses:
            if address.prefix not in led:
                yield f"the node has no route to {address} by {expected.host_name}"


def _link_differences(expected: PodLink, seen: SeenLink, where: str) -> Iterator[str]:
    for name, link, mac in (
        (expected.host_name, seen.host, HOST_MAC),
        (expected.pod_name, seen.pod, expected.mac),
    ):
        if link is None:
            yield f"there is no interface {name}{where if name == expected.pod_name else ' on the node'}"
            continue
        if link.kind != "veth":
            yield f"{name} is of kind {link.kind or 'unknown'} instead of veth"
        if not link.up:
            yield f"{name} is down"
        if mac and link.mac != mac.lower():
            yield f"{name} has the MAC {link.mac} instead of {mac}"
        if expected.mtu and link.mtu != expected.mtu:
            yield f"{name} has the MTU {link.mtu} instead of {expected.mtu}"
    if seen.host and seen.pod and seen.pod.peer != seen.host.index:
        yield f"{expected.pod_name} is not wired to {expected.host_name}"


def _records(
    sandbox: Sandbox, endpoint: Resource[Any] | None, addresses: tuple[Address, ...]
) -> Iterator[str]:
    if endpoint is None:
        yield f"{sandbox.endpoint} does not exist"
        return
    if endpoint.spec.container_id != sandbox.container_id:
        yield f"{sandbox.endpoint} belongs to container {endpoint.spec.container_id}"
    for address in addresses:
        if str(address.prefix) not in endpoint.spec.ip_networks:
            yield f"{sandbox.endpoint} does not name {address.prefix}"


async def _endpoint(means: Means, sandbox: Sandbox) -> Resource[Any] | None:
    try:
        return await means.store.get(sandbox.endpoint)
    except NotFound:
        return None


def _own_end(promised: Result, sandbox: Sandbox) -> ResultInterface | None:
    for interface in promised.interfaces:
        if interface.name == sandbox.ifname and interface.sandbox:
            return interface
    return None


def _addresses(promised: Result, mine: ResultInterface) -> tuple[Address, ...]:
    place = promised.interfaces.index(mine)
    return tuple(ip.address.address for ip in promised.ips if ip.interface in (place, None))
