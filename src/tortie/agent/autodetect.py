"""Which of its addresses a node should be known by: Calico's autodetection methods, pure.

In: the machine's interfaces as values. Out: an address with its network, and the interface that has it. Methods are written as
Calico's users write them (``first-found``, ``can-reach=192.0.2.1``, ``interface=eth.*,ens.*``, ``skip-interface=tun.*``,
``cidr=10.0.0.0/8,fd00::/8``; Calico: reference, "Configuring calico/node", IP autodetection).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tortie.errors import UsageError
from tortie.host.links import UNKNOWN_SEGMENTS, Link, LinkAddress, SegmentSizes
from tortie.net.addresses import Address, Interface, Prefix, Version

SKIPPED = (
    r"^docker.*",
    r"^cbr.*",
    r"^dummy.*",
    r"^podman.*",
    r"^virbr.*",
    r"^lxcbr.*",
    r"^veth.*",
    r"^lo$",
    r"^br-.*",
    r"^cali.*",
    r"^tunl.*",
    r"^flannel.*",
    r"^kube-ipvs.*",
    r"^cni.*",
    r"^vxlan\.calico.*",
    r"^vxlan-v6\.calico.*",
    r"^wireguard\.cali.*",
    r"^wg-v6\.cali.*",
    r"^nodelocaldns.*",
)
"""Interfaces that never carry a node's own address (Calico: ``DEFAULT_INTERFACES_TO_EXCLUDE``)."""
MTU_PATTERN = r"^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"
"""Felix's default of ``mtuIfacePattern``."""
DEFAULT_MTU = 1500

_WIDE_SCOPES = (0, 200)
"""RT_SCOPE_UNIVERSE and RT_SCOPE_SITE (rtnetlink(7))."""
_LINK_LOCAL = (Prefix.parse("169.254.0.0/16"), Prefix.parse("fe80::/10"))
_NEVER = (*_LINK_LOCAL, Prefix.parse("127.0.0.0/8"), Prefix.parse("224.0.0.0/4"), Prefix.parse("ff00::/8"))


@dataclass(frozen=True, kw_only=True)
class HostInterface:
    """One interface of the machine, in the kernel's order; ``addresses`` of both IP versions, the primary one first."""

    name: str
    up: bool = True
    mtu: int = DEFAULT_MTU
    segments: SegmentSizes = UNKNOWN_SEGMENTS
    addresses: tuple[Interface, ...] = ()


class Found(NamedTuple):
    """The address, with its network's length, and the interface that has it."""

    interface: str
    address: Interface


@dataclass(frozen=True)
class Method:
    """How to choose. ``patterns`` belong to ``interface`` and ``skip-interface``, ``cidrs`` to ``cidr``, ``target`` to
    ``can-reach``."""

    kind: Literal["first-found", "can-reach", "interface", "skip-interface", "cidr"]
    patterns: tuple[str, ...] = ()
    cidrs: tuple[Prefix, ...] = ()
    target: str = ""

    def __str__(self) -> str:
        said = ",".join(self.patterns) or ",".join(map(str, self.cidrs)) or self.target
        return f"{self.kind}={said}" if said else self.kind


def parse_method(text: str) -> Method:
    """Raises `UsageError` saying what the methods are."""
    kind, equals, rest = text.strip().partition("=")
    parts = tuple(part.strip() for part in rest.split(",") if part.strip())
    if kind == "first-found" and not equals:
        return Method("first-found")
    if kind == "can-reach" and rest.strip():
        return Method("can-reach", target=rest.strip())
    if kind in ("interface", "skip-interface") and parts:
        for pattern in parts:
            _check_pattern(text, pattern)
        return Method("interface" if kind == "interface" else "skip-interface", patterns=parts)
    if kind == "cidr" and parts:
        try:
            return Method("cidr", cidrs=tuple(Prefix.parse(part, strict=False) for part in parts))
        except ValueError as error:
            raise UsageError(f"autodetection method {text!r}: {error}") from None
    if kind == "kubernetes-internal-ip":
        raise UsageError(f"autodetection method {text!r} needs Kubernetes, and this datastore is none")
    raise UsageError(
        f"{text!r} is no autodetection method: use first-found, can-reach=ADDRESS, interface=PATTERNS, "
        "skip-interface=PATTERNS or cidr=CIDRS"
    )


def _check_pattern(text: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"autodetection method {text!r}: {pattern!r} is no regular expression: {error}"
        ) from None


def choose(
    method: Method, version: Version, interfaces: Sequence[HostInterface], source: Address | None = None
) -> Found | None:
    """The first address that the method allows. ``source`` is the machine's own address towards the target of ``can-reach``."""
    for interface in interfaces:
        if not interface.up or not _allows(method, interface.name):
            continue
        for address in interface.addresses:
            if address.address.version != version or any(net.holds(address.address) for net in _NEVER):
                continue
            if method.cidrs and not any(cidr.holds(address.address) for cidr in method.cidrs):
                continue
            if method.kind == "can-reach" and address.address != source:
                continue
            return Found(interface.name, address)
    return None


def _allows(method: Method, name: str) -> bool:
    if method.kind == "interface":
        return _matches(name, method.patterns)
    if method.kind == "can-reach":
        return True
    return not _matches(name, SKIPPED) and not (
        method.kind == "skip-interface" and _matches(name, method.patterns)
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def why_none(method: Method, version: Version, interfaces: Sequence[HostInterface]) -> str:
    """Why `choose` found nothing: each interface and what speaks against it."""
    reasons: list[str] = []
    for interface in interfaces:
        own = [address for address in interface.addresses if address.address.version == version]
        usable = [address for address in own if not any(net.holds(address.address) for net in _NEVER)]
        if not _allows(method, interface.name):
            reasons.append(f"{interface.name} is passed over")
        elif not interface.up:
            reasons.append(f"{interface.name} is down")
        elif not usable:
            reasons.append(f"{interface.name} has no IPv{version} address")
        else:
            reasons.append(f"{interface.name} has {', '.join(map(str, usable))}, which does not match")
    return "; ".join(reasons) or "there is no interface"


def other_networks(interfaces: Iterable[HostInterface], own: Iterable[Interface]) -> list[Prefix]:
    """The networks that the machine stands in besides those of its ``own`` addresses: of second uplinks, second addresses."""
    known = {each.network for each in own}
    return sorted(
        {
            address.network
            for interface in interfaces
            if not _matches(interface.name, SKIPPED)
            for address in interface.addresses
            if not address.network.is_single and not any(net.holds(address.address) for net in _NEVER)
        }
        - known
    )


def holder(address: Address, interfaces: Iterable[HostInterface]) -> Found | None:
    """The interface that has this address, up or down."""
    for interface in interfaces:
        for each in interface.addresses:
            if each.address == address:
                return Found(interface.name, each)
    return None


def link_mtu(pattern: str, interfaces: Iterable[HostInterface]) -> int:
    """The smallest MTU of the interfaces that are up and match: what fits through each of them. 1500 when none does."""
    return min((each.mtu for each in _uplinks(pattern, interfaces)), default=DEFAULT_MTU)


def link_segments(pattern: str, interfaces: Iterable[HostInterface]) -> SegmentSizes:
    """The smallest of the same interfaces: what each of them takes without the CPU's help. Unknown when one's is."""
    sizes = [each.segments for each in _uplinks(pattern, interfaces)]
    return SegmentSizes(
        min((each.ipv4 for each in sizes), default=0), min((each.ipv6 for each in sizes), default=0)
    )


def _uplinks(pattern: str, interfaces: Iterable[HostInterface]) -> list[HostInterface]:
    expression = re.compile(pattern)
    return [each for each in interfaces if each.up and expression.search(each.name)]


def host_interface(link: Link, addresses: Iterable[LinkAddress]) -> HostInterface:
    """From what the kernel says: global addresses that have passed duplicate detection, those that last first."""
    usable = [each for each in addresses if each.scope in _WIDE_SCOPES and not each.tentative]
    usable.sort(key=lambda each: not each.permanent)
    return HostInterface(
        name=link.name,
        up=link.up,
        mtu=link.mtu,
        segments=link.segments,
        addresses=tuple(each.interface for each in usable),
    )
