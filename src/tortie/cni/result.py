"""What ADD returns, and what CHECK and DEL are given back: interfaces, addresses, routes, DNS.

One value for all spec versions; `render` writes it as a version wants it, `parse` reads any of them, also the
abbreviated result of an IPAM plugin (no interfaces).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tortie.cni.errors import CNIError, Code
from tortie.cni.versions import SpecVersion
from tortie.net.addresses import Address, Interface, Prefix


@dataclass(frozen=True, kw_only=True)
class ResultInterface:
    """``sandbox`` is the namespace's path as the runtime gave it; empty for the host's end. ``mtu`` 0: not told."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0


@dataclass(frozen=True, kw_only=True)
class ResultAddress:
    """``interface`` is an index into the result's interfaces."""

    address: Interface
    gateway: Address | None = None
    interface: int | None = None


@dataclass(frozen=True, kw_only=True)
class ResultRoute:
    destination: Prefix
    gateway: Address | None = None
    mtu: int = 0


@dataclass(frozen=True, kw_only=True)
class DNS:
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    interfaces: tuple[ResultInterface, ...] = ()
    ips: tuple[ResultAddress, ...] = ()
    routes: tuple[ResultRoute, ...] = ()
    dns: DNS = DNS()


def render(result: Result, version: SpecVersion) -> bytes:
    """The result as JSON of that spec version."""
    document: dict[str, Any] = {"cniVersion": str(version)}
    if result.interfaces:
        document["interfaces"] = [_interface(interface, version) for interface in result.interfaces]
    document["ips"] = [_address(address, version) for address in result.ips]
    if result.routes:
        document["routes"] = [_route(route, version) for route in result.routes]
    document["dns"] = _dns(result.dns)
    return msgspec.json.encode(document) + b"\n"


def _interface(interface: ResultInterface, version: SpecVersion) -> dict[str, Any]:
    out: dict[str, Any] = {"name": interface.name}
    if interface.mac:
        out["mac"] = interface.mac
    if interface.mtu and version.has_mtus:
        out["mtu"] = interface.mtu
    if interface.sandbox:
        out["sandbox"] = interface.sandbox
    return out


def _address(address: ResultAddress, version: SpecVersion) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if version.marks_families:
        out["version"] = str(address.address.address.version)
    out["address"] = str(address.address)
    if address.gateway is not None:
        out["gateway"] = str(address.gateway)
    if address.interface is not None:
        out["interface"] = address.interface
    return out


def _route(route: ResultRoute, version: SpecVersion) -> dict[str, Any]:
    out: dict[str, Any] = {"dst": str(route.destination)}
    if route.gateway is not None:
        out["gw"] = str(route.gateway)
    if route.mtu and version.has_mtus:
        out["mtu"] = route.mtu
    return out


def _dns(dns: DNS) -> dict[str, Any]:
    fields = {
        "nameservers": dns.nameservers,
        "domain": dns.domain,
        "search": dns.search,
        "options": dns.options,
    }
    return {name: value for name, value in fields.items() if value}


class _WireInterface(msgspec.Struct):
    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0


class _WireAddress(msgspec.Struct):
    address: str
    gateway: str = ""
    interface: int | None = None


class _WireRoute(msgspec.Struct):
    dst: str
    gw: str = ""
    mtu: int = 0


class _WireDNS(msgspec.Struct):
    nameservers: tuple[str, ...] | None = None
    domain: str = ""
    search: tuple[str, ...] | None = None
    options: tuple[str, ...] | None = None


class _Wire(msgspec.Struct):
    interfaces: tuple[_WireInterface, ...] | None = None
    ips: tuple[_WireAddress, ...] | None = None
    routes: tuple[_WireRoute, ...] | None = None
    dns: _WireDNS = msgspec.field(default_factory=_WireDNS)


def parse(document: Mapping[str, Any] | bytes, *, what: str = "prevResult") -> Result:
    """Read a result of any spec version that we speak. Raises `CNIError` with code 7; ``what`` names it there."""
    try:
        if isinstance(document, bytes):
            wire = msgspec.json.decode(document, type=_Wire)
        else:
            wire = msgspec.convert(dict(document), _Wire)
        return Result(
            interfaces=tuple(
                ResultInterface(name=i.name, mac=i.mac, sandbox=i.sandbox, mtu=i.mtu)
                for i in wire.interfaces or ()
            ),
            ips=tuple(
                ResultAddress(
                    address=Interface.parse(ip.address), gateway=_gateway(ip.gateway), interface=ip.interface
                )
                for ip in wire.ips or ()
            ),
            routes=tuple(
                ResultRoute(destination=Prefix.parse(r.dst, strict=False), gateway=_gateway(r.gw), mtu=r.mtu)
                for r in wire.routes or ()
            ),
            dns=DNS(
                nameservers=wire.dns.nameservers or (),
                domain=wire.dns.domain,
                search=wire.dns.search or (),
                options=wire.dns.options or (),
            ),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise CNIError(Code.INVALID_CONFIG, f"{what}: is not a CNI result: {error}") from error


def _gateway(text: str) -> Address | None:
    return Address.parse(text) if text else None
