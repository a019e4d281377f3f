"""Routes of the kernel's FIB."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tortie.net.addresses import Address, Prefix

RouteKind = Literal["unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw", "other"]
Scope = Literal["global", "site", "link", "host", "nowhere"]

MAIN_TABLE = 254
PROTOCOL_KERNEL = 2
PROTOCOL_BOOT = 3
PROTOCOL_STATIC = 4
PROTOCOL_BIRD = 12
PROTOCOL_TORTIE = 80
"""Calico's own number: routes that are to be spread by BGP, and blackholes of blocks."""
DEFAULT_METRIC_V6 = 1024
"""What the kernel makes of metric 0 in IPv6."""


class RouteKey(NamedTuple):
    """What makes a route unique in its table. The metric belongs to it: another metric is another route."""

    prefix: Prefix
    metric: int = 0
    table: int = MAIN_TABLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One route with one next hop (``multipath``: it has several, of which none is told here).

    ``interface`` names the device; ``ifindex`` is how the kernel knows it and is no part of the comparison.
    IPv6 has no scopes: the kernel reports ``global`` whatever was asked.
    """

    prefix: Prefix
    kind: RouteKind = "unicast"
    interface: str = ""
    ifindex: int = field(default=0, compare=False)
    gateway: Address | None = None
    onlink: bool = False
    scope: Scope = "global"
    metric: int = 0
    protocol: int = PROTOCOL_BOOT
    prefsrc: Address | None = None
    table: int = MAIN_TABLE
    multipath: bool = False

    @property
    def key(self) -> RouteKey:
        metric = DEFAULT_METRIC_V6 if self.prefix.version == 6 and self.metric == 0 else self.metric
        return RouteKey(self.prefix, metric, self.table)

    def __str__(self) -> str:
        parts: list[str] = [] if self.kind == "unicast" else [self.kind]
        parts.append(str(self.prefix))
        if self.gateway:
            parts.append(f"via {self.gateway}")
        if self.interface or self.ifindex:
            parts.append(f"dev {self.interface or f'#{self.ifindex}'}")
        return " ".join([*parts, f"proto {self.protocol}", f"metric {self.metric}"])
