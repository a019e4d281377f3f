"""IPPool: a range of addresses that pods (or tunnels) get theirs from (Calico: reference, resource IPPool)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.net.addresses import Interface, Prefix
from tortie.resources.findings import Findings, canonical_prefix
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.node import NETWORKS_ANNOTATION, NODE
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec, written

IP_POOL = Kind(CALICO, "IPPool")


class IPPoolSpec(Spec, frozen=True):
    """Modes are ``Never``, ``Always`` or ``CrossSubnet``; at most one of the two encapsulations is on. Without
    ``blockSize`` blocks are a /26, or a /122."""

    cidr: str = written("")
    vxlan_mode: str = written("Never")
    ipip_mode: str = written("Never")
    nat_outgoing: bool = False
    disabled: bool = False
    disable_bgp_export: bool = False
    block_size: int | None = None
    node_selector: str = written("all()")
    namespace_selector: str = ""
    allowed_uses: tuple[str, ...] = written(("Workload", "Tunnel"))
    assignment_mode: str = written("Automatic")

    @property
    def block_length(self) -> int:
        """The prefix length of its blocks: as set, or Calico's 26 and 122."""
        return self.block_size or (122 if ":" in self.cidr else 26)


MODES = ("Never", "Always", "CrossSubnet")
USES = ("Workload", "Tunnel", "LoadBalancer")
BLOCK_SIZES = {4: (20, 32), 6: (116, 128)}
NEVER_PODS = (
    ("link-local", Prefix.parse("169.254.0.0/16")),
    ("link-local", Prefix.parse("fe80::/10")),
    ("loopback", Prefix.parse("127.0.0.0/8")),
    ("loopback", Prefix.parse("::1/128")),
    ("multicast", Prefix.parse("224.0.0.0/4")),
    ("multicast", Prefix.parse("ff00::/8")),
)


def validate(pool: Resource[Any]) -> list[InvalidResource]:
    """Calico's rules for one pool by itself."""
    spec: IPPoolSpec = pool.spec
    found = Findings(pool)
    found.subdomain("metadata.name", pool.key.name)
    cidr = found.prefix("spec.cidr", spec.cidr) if found.required("spec.cidr", spec.cidr) else None
    found.one_of("spec.ipipMode", spec.ipip_mode, MODES)
    found.one_of("spec.vxlanMode", spec.vxlan_mode, MODES)
    found.one_of("spec.assignmentMode", spec.assignment_mode, ("Automatic", "Manual"))
    found.selector("spec.nodeSelector", spec.node_selector)
    found.selector("spec.namespaceSelector", spec.namespace_selector)
    ipip, vxlan = spec.ipip_mode not in ("", "Never"), spec.vxlan_mode not in ("", "Never")
    if ipip and vxlan:
        found.add(
            "spec.ipipMode", spec.ipip_mode, "is not Never while spec.vxlanMode is not Never: choose one"
        )
    for index, use in enumerate(spec.allowed_uses):
        found.one_of(f"spec.allowedUses[{index}]", use, USES)
    if "LoadBalancer" in spec.allowed_uses and len(set(spec.allowed_uses)) > 1:
        found.add("spec.allowedUses", ", ".join(spec.allowed_uses), "mixes LoadBalancer with other uses")
    low, high = BLOCK_SIZES[6 if ":" in spec.cidr else 4]
    found.between("spec.blockSize", spec.block_size, low, high)
    if cidr is None:
        return found.found
    if low <= spec.block_length <= high and cidr.length > spec.block_length:
        found.add("spec.cidr", spec.cidr, f"is smaller than a block (spec.blockSize is {spec.block_length})")
    for what, reserved in NEVER_PODS:
        if cidr.overlaps(reserved):
            found.add("spec.cidr", spec.cidr, f"overlaps the {what} addresses {reserved}")
            break
    if cidr.version == 6 and ipip:
        found.add("spec.ipipMode", spec.ipip_mode, "is not possible for an IPv6 pool")
    return found.found


def normalise(pool: Resource[Any]) -> Resource[Any]:
    """The CIDR in its canonical form, the block size filled in."""
    spec: IPPoolSpec = pool.spec
    return pool.with_spec(
        msgspec.structs.replace(
            spec,
            cidr=canonical_prefix(spec.cidr),
            block_size=spec.block_size if spec.block_size is not None else spec.block_length,
            node_selector=spec.node_selector or "all()",
            ipip_mode=spec.ipip_mode or "Never",
            vxlan_mode=spec.vxlan_mode or "Never",
            assignment_mode=spec.assignment_mode or "Automatic",
            allowed_uses=spec.allowed_uses or ("Workload", "Tunnel"),
        )
    )


def changes(old: Resource[Any], new: Resource[Any]) -> list[InvalidResource]:
    """Blocks are cut from the pool once and for all, so neither its CIDR nor their size may change."""
    was, now = old.spec, new.spec
    found: list[InvalidResource] = []
    for field, before, after in (
        ("spec.cidr", canonical_prefix(was.cidr), canonical_prefix(now.cidr)),
        ("spec.blockSize", was.block_length, now.block_length),
    ):
        if before != after:
            rule = f"differs from the stored {before}, and cannot change: make a new pool"
            found.append(InvalidResource(field, after, rule, str(new.key), new.place(field)))
    return found


def among(pool: Resource[Any], others: Sequence[Resource[Any]]) -> list[InvalidResource]:
    """Overlaps with other pools and with the networks that nodes stand in; each names both sides."""
    try:
        cidr = Prefix.parse(pool.spec.cidr)
    except ValueError:
        return []
    found: list[InvalidResource] = []
    for other in others:
        if other.key != pool.key:
            found.extend(
                InvalidResource(
                    "spec.cidr", pool.spec.cidr, f"overlaps {what}", str(pool.key), pool.place("spec.cidr")
                )
                for what in overlapping(cidr, other)
            )
    return found


def overlapping(cidr: Prefix, other: Resource[Any]) -> list[str]:
    """What of a pool or a node overlaps the CIDR, in words."""
    if other.key.kind == IP_POOL:
        try:
            theirs = Prefix.parse(other.spec.cidr)
        except ValueError:
            return []
        return [f"{other.key} ({theirs})"] if cidr.overlaps(theirs) else []
    if other.key.kind != NODE:
        return []
    bgp = other.spec.bgp
    texts = [bgp.ipv4_address, bgp.ipv6_address] if bgp is not None else []
    words: list[str] = []
    for text in (*texts, *other.metadata.annotations.get(NETWORKS_ANNOTATION, "").split(",")):
        try:
            network = Interface.parse(text).network
        except ValueError:
            continue
        if cidr.overlaps(network):
            words.append(
                f"the network of {other.key} ({text})"
                if text in texts
                else f"a network of {other.key} ({text})"
            )
    return words


INFO = KindInfo(
    validate=validate,
    normalise=normalise,
    changes=changes,
    needs=(IP_POOL, NODE),
    among=among,
    kind=IP_POOL,
    plural="ippools",
    spec=IPPoolSpec,
    aliases=("pool", "pools", "ipp"),
    columns=(
        NAME,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("NAT", lambda r: r.spec.nat_outgoing, wide=True),
        Column("IPIPMODE", lambda r: r.spec.ipip_mode, wide=True),
        Column("VXLANMODE", lambda r: r.spec.vxlan_mode, wide=True),
        Column("DISABLED", lambda r: r.spec.disabled, wide=True),
        Column("DISABLEBGPEXPORT", lambda r: r.spec.disable_bgp_export, wide=True),
        Column("SELECTOR", lambda r: r.spec.node_selector),
        Column("ASSIGNMENTMODE", lambda r: r.spec.assignment_mode, wide=True),
    ),
)
