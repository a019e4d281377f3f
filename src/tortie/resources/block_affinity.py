"""BlockAffinity: which node a block belongs to.

Key: ``within`` is the node (``virtual:<name>`` for a virtual owner such as ``virtual:load-balancer``), ``name`` the block
with ``-`` for ``/``: ``10.65.0.0-26``. Stored bare: only ``state`` and ``deleted`` are written, the rest is in the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings, canonical_prefix
from tortie.resources.kind_info import CALICO, KindInfo
from tortie.resources.resource import Kind, Resource, ResourceKey
from tortie.resources.spec import Spec, written

BLOCK_AFFINITY = Kind(CALICO, "BlockAffinity")

PENDING = "pending"
CONFIRMED = "confirmed"
PENDING_DELETION = "pendingDeletion"
VIRTUAL = "virtual:"


class BlockAffinitySpec(Spec, frozen=True):
    """An empty stored value reads as confirmed, as Calico takes it; ``node``, ``cidr`` and ``type`` come from the key."""

    state: str = written(CONFIRMED)
    node: str = ""
    type: str = ""
    cidr: str = ""
    deleted: bool = written(False)


def block_name(cidr: str) -> str:
    """``10.65.0.0/26`` → ``10.65.0.0-26``, as Calico's keys have it."""
    return cidr.replace("/", "-")


def block_cidr(name: str) -> str:
    """``10.65.0.0-26`` → ``10.65.0.0/26``."""
    return name.replace("-", "/")


def affinity_key(node: str, cidr: str) -> ResourceKey:
    """The key of a node's affinity to a block."""
    return ResourceKey(BLOCK_AFFINITY, block_name(cidr), node)


def _complete(key: ResourceKey, spec: BlockAffinitySpec) -> BlockAffinitySpec:
    kind, node = (
        ("virtual", key.within[len(VIRTUAL) :]) if key.within.startswith(VIRTUAL) else ("host", key.within)
    )
    return msgspec.structs.replace(spec, node=node, type=kind, cidr=block_cidr(key.name))


def _trim(spec: BlockAffinitySpec) -> BlockAffinitySpec:
    return BlockAffinitySpec(state=spec.state, deleted=spec.deleted)


def _key_of(name: str, spec: Mapping[str, Any]) -> ResourceKey:
    node, cidr = str(spec.get("node") or ""), str(spec.get("cidr") or "")
    within = VIRTUAL + node if spec.get("type") == "virtual" else node
    return ResourceKey(BLOCK_AFFINITY, block_name(canonical_prefix(cidr)) if cidr else name, within)


def validate(affinity: Resource[Any]) -> list[InvalidResource]:
    """Which block, whose, and in which state."""
    spec: BlockAffinitySpec = affinity.spec
    found = Findings(affinity)
    found.one_of("spec.state", spec.state, (PENDING, CONFIRMED, PENDING_DELETION))
    found.one_of("spec.type", spec.type, ("host", "virtual"))
    found.required("spec.node", affinity.key.within)
    if found.required("spec.cidr", spec.cidr):
        found.prefix("spec.cidr", spec.cidr)
    return found.found


INFO = KindInfo(
    validate=validate,
    key_of=_key_of,
    kind=BLOCK_AFFINITY,
    plural="blockaffinities",
    spec=BlockAffinitySpec,
    bare=True,
    aliases=("affinity", "affinities"),
    complete=_complete,
    trim=_trim,
    columns=(
        Column("NODE", lambda r: r.key.within),
        Column("CIDR", lambda r: block_cidr(r.key.name)),
        Column("STATE", lambda r: r.spec.state),
    ),
)
