"""The pools that a cluster without any gets, and what pools mean for a node. Pure but for the random IPv6 prefix."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tortie.agent.autodetect import HostInterface
from tortie.agent.node_options import DEFAULT_POOL_NAMES, PoolOptions
from tortie.errors import UsageError
from tortie.host.links import COMMON_SEGMENTS, SegmentSizes
from tortie.net.addresses import Prefix, Version
from tortie.resources.ip_pool import INFO, IP_POOL, IPPoolSpec
from tortie.resources.resource import Resource, ResourceKey

_IPIP_BYTES, _VXLAN_BYTES, _VXLAN_V6_BYTES = 20, 50, 70
_PREFERRED = Prefix.parse("192.168.0.0/16")
_OTHERS = Prefix.parse("172.16.0.0/12")
_UNIQUE_LOCAL = Prefix.parse("fd00::/8")


def default_pool(
    version: Version, options: PoolOptions, interfaces: Sequence[HostInterface]
) -> Resource[IPPoolSpec] | None:
    """The pool as it is created; None when none is wanted. Raises `UsageError` when there is no room, `InvalidResource`."""
    if options.cidr == "none":
        return None
    cidr = options.cidr or _free(version, interfaces)
    pool = Resource(
        key=ResourceKey(IP_POOL, DEFAULT_POOL_NAMES[version]),
        spec=IPPoolSpec(
            cidr=str(cidr),
            block_size=options.block_size or (26 if version == 4 else 122),
            nat_outgoing=options.nat_outgoing,
            node_selector=options.node_selector,
            disable_bgp_export=options.disable_bgp_export,
            ipip_mode=options.ipip_mode,
            vxlan_mode=options.vxlan_mode,
        ),
    )
    for finding in INFO.validate(pool):
        raise finding
    return INFO.normalise(pool)


def _free(version: Version, interfaces: Sequence[HostInterface]) -> Prefix:
    """Calico's choice: 192.168.0.0/16 unless the machine uses it; for IPv6 a random /48 (RFC 4193)."""
    used = [address.network for each in interfaces for address in each.addresses]
    for candidate in _candidates(version):
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise UsageError(
        "192.168.0.0/16 and all of 172.16.0.0/12 overlap this machine's own networks: set CALICO_IPV4POOL_CIDR"
    )


def _candidates(version: Version) -> Iterator[Prefix]:
    if version == 4:
        yield _PREFERRED
        yield from _OTHERS.subnets(16)
    else:
        while True:
            yield Prefix(6, _UNIQUE_LOCAL.value | secrets.randbits(40) << 80, 48)


def pool_overlaps(spec: IPPoolSpec, network: Prefix) -> bool:
    """Whether a pool that hands out addresses lies over a network. One address (a tunnel's) is no network."""
    if spec.disabled or network.is_single:
        return False
    try:
        return Prefix.parse(spec.cidr).overlaps(network)
    except ValueError:
        return False


class PodSizes(NamedTuple):
    """What the wires of pods get."""

    mtu: int
    segments: SegmentSizes


def pod_sizes(link: PodSizes, pools: Iterable[Resource[IPPoolSpec]]) -> PodSizes:
    """``link``: the uplinks'. The MTU less the widest encapsulation that a pool asks for; packets to be cut as large as the
    uplinks', but no larger than a tunnel takes where one may be in the way, nor than IPv6's forwarding does (ADR 14)."""
    added = [0]
    for pool in pools:
        if pool.spec.ipip_mode != "Never":
            added.append(_IPIP_BYTES)
        if pool.spec.vxlan_mode != "Never":
            added.append(_VXLAN_V6_BYTES if ":" in pool.spec.cidr else _VXLAN_BYTES)
    ipv4, ipv6 = link.segments
    if max(added):
        ipv4 = min(ipv4, COMMON_SEGMENTS)
    return PodSizes(link.mtu - max(added), SegmentSizes(ipv4, min(ipv6, COMMON_SEGMENTS)))
