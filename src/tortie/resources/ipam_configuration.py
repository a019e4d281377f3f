"""IPAMConfiguration ``default``: how blocks are given to nodes. Stored at ``/calico/ipam/v2/config`` in IPAM's own JSON."""

from __future__ import annotations

import msgspec

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
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


INFO = KindInfo(
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
