"""What a node's set-up is told by its environment: Calico's variables, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tortie.agent.autodetect import Method, parse_method
from tortie.errors import UsageError
from tortie.net.addresses import Interface, Prefix, Version

DEFAULT_POOL_NAMES: Mapping[int, str] = {4: "default-ipv4-ippool", 6: "default-ipv6-ippool"}
POLL_SECONDS = 60.0

Want = Literal["keep", "autodetect", "none"] | Interface
"""``keep``: what the Node says, as long as the machine has that address; else autodetect."""


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """The pool that is made when there is none of its IP version. ``cidr`` None: one that is free, "none": no pool."""

    cidr: Prefix | Literal["none"] | None = None
    block_size: int | None = None
    nat_outgoing: bool
    node_selector: str = "all()"
    disable_bgp_export: bool = False
    ipip_mode: str = "Never"
    vxlan_mode: str = "Never"


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """One node's. ``want`` and ``methods`` by IP version; ``as_number`` None leaves what the Node says."""

    node: str
    want: Mapping[int, Want] = field(default_factory=lambda: {4: "keep", 6: "none"})
    methods: Mapping[int, Method] = field(
        default_factory=lambda: {4: Method("first-found"), 6: Method("first-found")}
    )
    as_number: int | str | None = None
    pools: Mapping[int, PoolOptions] = field(
        default_factory=lambda: {4: PoolOptions(nat_outgoing=True), 6: PoolOptions(nat_outgoing=False)}
    )
    default_pools: bool = True
    check_conflicts: bool = True
    cluster_type: str = "tortie"
    poll_seconds: float = POLL_SECONDS


def node_options(node: str, said: Mapping[str, str]) -> NodeOptions:
    """From the environment and the configuration file, under Calico's names (``IP``, ``IP_AUTODETECTION_METHOD``,
    ``AS``, ``CALICO_IPV4POOL_CIDR``, …). Raises `UsageError` naming the variable."""
    return NodeOptions(
        node=node,
        want={4: _want(said, "IP", 4), 6: _want(said, "IP6", 6)},
        methods={
            4: parse_method(said.get("IP_AUTODETECTION_METHOD") or "first-found"),
            6: parse_method(said.get("IP6_AUTODETECTION_METHOD") or "first-found"),
        },
        as_number=_as_number(said),
        pools={
            4: _pool(said, "CALICO_IPV4POOL_", 4, nat_outgoing=True),
            6: _pool(said, "CALICO_IPV6POOL_", 6, nat_outgoing=False),
        },
        default_pools=not _flag(said, "NO_DEFAULT_POOLS", default=False),
        check_conflicts=not _flag(said, "DISABLE_NODE_IP_CHECK", default=False),
        cluster_type=said.get("CLUSTER_TYPE") or "tortie",
        poll_seconds=_seconds(said, "AUTODETECT_POLL_INTERVAL", POLL_SECONDS),
    )


def _want(said: Mapping[str, str], name: str, version: Version) -> Want:
    text = (said.get(name) or "").strip()
    if not text:
        return "keep" if version == 4 else "none"
    if text == "autodetect":
        return "autodetect"
    if text == "none":
        return "none"
    try:
        address = Interface.parse(text)
    except ValueError:
        address = None
    if address is None or address.address.version != version:
        raise UsageError(f"{name} {text!r} is no IPv{version} address: write one, autodetect or none")
    return address


def _as_number(said: Mapping[str, str]) -> int | str | None:
    text = (said.get("AS") or "").strip()
    if not text:
        return None
    high, dot, low = text.partition(".")
    if not high.isdigit() or (dot and not low.isdigit()) or not 0 < int(high) < 1 << 32:
        raise UsageError(f"AS {text!r} is no AS number")
    return text if dot else int(text)


def _pool(said: Mapping[str, str], prefix: str, version: Version, *, nat_outgoing: bool) -> PoolOptions:
    cidr: Prefix | Literal["none"] | None = None
    text = (said.get(f"{prefix}CIDR") or "").strip()
    if text == "none":
        cidr = "none"
    elif text:
        try:
            cidr = Prefix.parse(text)
        except ValueError as error:
            raise UsageError(f"{prefix}CIDR {text!r}: {error}") from None
        if cidr.version != version:
            raise UsageError(f"{prefix}CIDR {text!r} is not IPv{version}")
    size = (said.get(f"{prefix}BLOCK_SIZE") or "").strip()
    if size and not size.isdigit():
        raise UsageError(f"{prefix}BLOCK_SIZE {size!r} is no prefix length")
    return PoolOptions(
        cidr=cidr,
        block_size=int(size) if size else None,
        nat_outgoing=_flag(said, f"{prefix}NAT_OUTGOING", default=nat_outgoing),
        node_selector=said.get(f"{prefix}NODE_SELECTOR") or "all()",
        disable_bgp_export=_flag(said, f"{prefix}DISABLE_BGP_EXPORT", default=False),
        ipip_mode=_mode(said, f"{prefix}IPIP") if version == 4 else "Never",
        vxlan_mode=_mode(said, f"{prefix}VXLAN"),
    )


_MODES = {"": "Never", "never": "Never", "off": "Never", "always": "Always", "crosssubnet": "CrossSubnet"}


def _mode(said: Mapping[str, str], name: str) -> str:
    text = said.get(name) or ""
    mode = _MODES.get(text.strip().lower().replace("-", ""))
    if mode is None:
        raise UsageError(f"{name} {text!r} is not Never, Always or CrossSubnet")
    return mode


def _flag(said: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = (said.get(name) or "").strip().lower()
    if not text:
        return default
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise UsageError(f"{name} {text!r} is neither true nor false")


def _seconds(said: Mapping[str, str], name: str, default: float) -> float:
    text = (said.get(name) or "").strip()
    if not text:
        return default
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"{name} {text!r} is no number of seconds such as 60s")
    return seconds
