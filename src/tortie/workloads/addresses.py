"""Where a sandbox's addresses come from: our own IPAM, or a plugin that the configuration delegates to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from tortie.cni.errors import CNIError, Code
from tortie.cni.frames import DelegateEnd
from tortie.cni.request import Request
from tortie.cni.result import DNS
from tortie.cni.result import parse as parse_result
from tortie.datastore.store import Unchanged
from tortie.ipam.allocator import Allocator, AssignRequest, Leaving
from tortie.net.addresses import Address
from tortie.resources.resource import Resource
from tortie.workloads.means import Delegate
from tortie.workloads.sandbox import Sandbox
from tortie.workloads.wishes import Wishes

Along = Callable[[tuple[Address, ...]], Resource[Any]]
"""Makes an endpoint of its addresses."""


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """At most one address a family, IPv4 first; ``dns`` is what a delegated plugin told. ``stored`` is the endpoint, where
    it was stored with them."""

    addresses: tuple[Address, ...]
    stored: Resource[Any] | None = None
    dns: DNS = field(default_factory=DNS)


class AddressSource(Protocol):
    """One sandbox's. Everything is found again by the container's id."""

    async def held(self) -> tuple[Address, ...]:
        """What the sandbox has, where that can be told."""
        ...

    async def assign(
        self,
        wishes: Wishes,
        attributes: Mapping[str, str],
        namespace_labels: Mapping[str, str],
        along: Along | None,
        unchanged: Unchanged,
    ) -> Assigned:
        """Again for the same container: what it has. ``along`` may be stored with them, or not; when it was, what is
        ``unchanged`` was so.

        Raises `Outdated`, `AddressesExhausted`, `StoreError`, `CNIError`."""
        ...

    async def release(self, leaving: Leaving | None = None) -> None:
        """Give back all. Nothing to give back is success. ``leaving`` may be deleted with it. Raises `LeavingMoved`."""
        ...


def source_of(allocator: Allocator, sandbox: Sandbox, request: Request, delegate: Delegate) -> AddressSource:
    """As ``ipam.type`` says."""
    if request.config.ipam.is_built_in:
        return OwnAddresses(allocator, sandbox)
    return DelegatedAddresses(delegate, request.config.ipam.type)


class OwnAddresses:
    """From the pools, under the sandbox's handle."""

    def __init__(self, allocator: Allocator, sandbox: Sandbox) -> None:
        self._allocator = allocator
        self._sandbox = sandbox

    async def held(self) -> tuple[Address, ...]:
        return tuple(await self._allocator.by_handle(self._sandbox.handle))

    async def assign(
        self,
        wishes: Wishes,
        attributes: Mapping[str, str],
        namespace_labels: Mapping[str, str],
        along: Along | None,
        unchanged: Unchanged,
    ) -> Assigned:
        if wishes.addresses:
            return Assigned(addresses=await self._exactly(wishes.addresses, attributes))
        found = await self._allocator.assign(
            AssignRequest(
                handle=self._sandbox.handle,
                attributes=attributes,
                ipv4=_count(wishes.ipv4),
                ipv6=_count(wishes.ipv6),
                ipv4_pools=wishes.ipv4_pools,
                ipv6_pools=wishes.ipv6_pools,
                namespace_labels=namespace_labels,
                along=along,
                unchanged=unchanged,
            )
        )
        return Assigned(addresses=tuple(sorted(found)), stored=found.along)

    async def _exactly(
        self, wanted: tuple[Address, ...], attributes: Mapping[str, str]
    ) -> tuple[Address, ...]:
        """These, and none that an earlier ADD under other wishes left."""
        if set(await self.held()) - set(wanted):
            await self.release()
        for address in wanted:
            await self._allocator.assign_address(address, self._sandbox.handle, attributes)
        return tuple(sorted(wanted))

    async def release(self, leaving: Leaving | None = None) -> None:
        await self._allocator.release_handle(self._sandbox.handle, leaving=leaving)


class DelegatedAddresses:
    """From a plugin such as ``host-local``, which the shim runs."""

    def __init__(self, delegate: Delegate, plugin: str) -> None:
        self._delegate = delegate
        self._plugin = plugin

    async def held(self) -> tuple[Address, ...]:
        return ()

    async def assign(
        self,
        wishes: Wishes,
        attributes: Mapping[str, str],
        namespace_labels: Mapping[str, str],
        along: Along | None,
        unchanged: Unchanged,
    ) -> Assigned:
        end = await self._delegate("ADD", self._plugin)
        if end.status:
            # host-local refuses a second ADD for the same container: give back what a first one took.
            await self._delegate("DEL", self._plugin)
            end = await self._delegate("ADD", self._plugin)
        check_delegate(self._plugin, "ADD", end)
        result = parse_result(end.stdout, what=f"the result of {self._plugin}")
        if not result.ips:
            raise CNIError(Code.DELEGATE_FAILED, f"the IPAM plugin {self._plugin} gave no address")
        return Assigned(addresses=tuple(sorted(ip.address.address for ip in result.ips)), dns=result.dns)

    async def release(self, leaving: Leaving | None = None) -> None:
        check_delegate(self._plugin, "DEL", await self._delegate("DEL", self._plugin))


class _DelegateError(msgspec.Struct):
    code: int = 0
    msg: str = ""
    details: str = ""


def check_delegate(plugin: str, command: str, end: DelegateEnd) -> None:
    """Raises `CNIError` with the plugin's own code and words when it failed."""
    if end.status == 0:
        return
    try:
        said = msgspec.json.decode(end.stdout, type=_DelegateError)
    except msgspec.MsgspecError:
        said = _DelegateError(details=end.stdout[:500].decode(errors="replace"))
    message = said.msg or f"ended with status {end.status}"
    raise CNIError(
        said.code or Code.DELEGATE_FAILED, f"the IPAM plugin {plugin} {command}: {message}", said.details
    )


def _count(wanted: bool | None) -> int | None:
    return None if wanted is None else int(wanted)
