"""IPAMConfiguration ``default``: how blocks are given to nodes. Stored at ``/calico/ipam/v2/config`` in IPAM's own JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec, written

IPAM_CONFIGURATION = Kind(CALICO, "IPAMConfiguration")
DEFAULT_MAX_BLOCKS_PER_HOST = 20
"""What 0 means (Calico: ``AutoAssign``)."""


class IPAMConfigurationSpec(Spec, frozen=True):
    """``max_blocks_per_host`` 0 means 20; ``ip_cooldown_seconds`` is how long a freed address rests."""

    strict_affinity: bool = written(False)
    auto_allocate_blocks: bool = written(True)
    max_blocks_per_host: int = written(0)
    kube_virt_vm_address_persistence: str = msgspec.field(default="", name="kubeVirtVMAddressPersistence")
    ip_cooldown_seconds: int = 0


def validate(configuration: Resource[Any]) -> list[InvalidResource]:
    """Calico's rules: some node must be able to get some address."""
    spec: IPAMConfigurationSpec = configuration.spec
    found = Findings(configuration)
    found.one_of("metadata.name", configuration.key.name, ("default",))
    found.between("spec.maxBlocksPerHost", spec.max_blocks_per_host, 0, 2**31 - 1)
    found.between("spec.ipCooldownSeconds", spec.ip_cooldown_seconds, 0, 1200)
    found.one_of(
        "spec.kubeVirtVMAddressPersistence", spec.kube_virt_vm_address_persistence, ("Enabled", "Disabled")
    )
    if not spec.strict_affinity and not spec.auto_allocate_blocks:
        found.add("spec.autoAllocateBlocks", "false", "is possible only while spec.strictAffinity is true")
    if spec.max_blocks_per_host > 0 and not spec.strict_affinity:
        found.add(
            "spec.maxBlocksPerHost",
            spec.max_blocks_per_host,
            "is possible only while spec.strictAffinity is true",
        )
    return found.found


INFO = KindInfo(
    validate=validate,
    kind=IPAM_CONFIGURATION,
    plural="ipamconfigurations",
    spec=IPAMConfigurationSpec,
    bare=True,
    aliases=("ipamconfig", "ipamconfigs"),
    stored_names={"strictAffinity": "strict_affinity", "autoAllocateBlocks": "auto_allocate_blocks"},
    columns=(
        NAME,
        Column("STRICTAFFINITY", lambda r: r.spec.strict_affinity),
        Column("AUTOALLOCATEBLOCKS", lambda r: r.spec.auto_allocate_blocks),
        Column("MAXBLOCKSPERHOST", lambda r: r.spec.max_blocks_per_host, wide=True),
    ),
)
