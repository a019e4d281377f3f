"""Which key a resource has in the datastore, and the way back: Calico's own layout (libcalico-go ``backend/model``).

Kubernetes' own kinds, which Calico does not store, stand under ``/tortie``, where it does not look.
"""

from __future__ import annotations

from tortie.errors import InvalidResource
from tortie.resources import registry
from tortie.resources.allocation_block import ALLOCATION_BLOCK
from tortie.resources.block_affinity import BLOCK_AFFINITY, VIRTUAL
from tortie.resources.ipam_configuration import IPAM_CONFIGURATION
from tortie.resources.ipam_handle import IPAM_HANDLE
from tortie.resources.kind_info import CALICO, KindInfo
from tortie.resources.resource import Kind, ResourceKey

IPAM = "/calico/ipam/v2/"
IPAM_CONFIG = IPAM + "config"
CALICO_RESOURCES = f"/calico/resources/v3/{CALICO}/"
KUBERNETES_RESOURCES = "/tortie/resources/"


def _family(cidr: str) -> str:
    return "ipv6" if ":" in cidr else "ipv4"


class CalicoLayout:
    """Keys as Calico writes them. Stateless; raises `UsageError` for a kind that nobody knows."""

    def path(self, key: ResourceKey) -> str:
        """Where the resource stands. Raises `InvalidResource` for a name that cannot be part of a key."""
        for field, part in (("metadata.name", key.name), ("metadata.namespace", key.within)):
            if "/" in part or "\0" in part:
                raise InvalidResource(field, part, "has a character that no name may have", str(key))
        if not key.name:
            raise InvalidResource("metadata.name", None, "is missing", str(key))
        if key.kind == ALLOCATION_BLOCK:
            return f"{IPAM}assignment/{_family(key.name)}/block/{key.name}"
        if key.kind == IPAM_HANDLE:
            return f"{IPAM}handle/{key.name}"
        if key.kind == IPAM_CONFIGURATION:
            if key.name != "default":
                raise InvalidResource(
                    "metadata.name", key.name, "is not 'default', the only one there is", str(key)
                )
            return IPAM_CONFIG
        if key.kind == BLOCK_AFFINITY:
            if not key.within:
                raise InvalidResource("spec.node", None, "is missing", str(key))
            return f"{IPAM}{_owner(key.within)}{_family(key.name)}/block/{key.name}"
        info = registry.info(key.kind)
        if not info.namespaced:
            return _folder(info) + key.name
        if not key.within:
            raise InvalidResource("metadata.namespace", None, "is missing", str(key))
        return f"{_folder(info)}{key.within}/{key.name}"

    def prefix(self, kind: Kind, within: str = "") -> str:
        """What all keys of the kind, or of its part ``within``, begin with. A BlockAffinity's part is its node; without one,
        those of all nodes are meant and none of virtual owners."""
        if kind == ALLOCATION_BLOCK:
            return f"{IPAM}assignment/"
        if kind == IPAM_HANDLE:
            return f"{IPAM}handle/"
        if kind == IPAM_CONFIGURATION:
            return IPAM_CONFIG
        if kind == BLOCK_AFFINITY:
            return f"{IPAM}{_owner(within)}" if within else f"{IPAM}host/"
        info = registry.info(kind)
        return f"{_folder(info)}{within}/" if within else _folder(info)

    def key(self, kind: Kind, path: str) -> ResourceKey | None:
        """Whose resource of the kind stands at this key; None for a key that has another form."""
        if kind == IPAM_CONFIGURATION:
            return ResourceKey(kind, "default") if path == IPAM_CONFIG else None
        if kind in (ALLOCATION_BLOCK, IPAM_HANDLE):
            name = path.rpartition("/")[2]
            found = ResourceKey(kind, name)
        elif kind == BLOCK_AFFINITY:
            parts = path.removeprefix(IPAM).split("/")
            if len(parts) != 5 or parts[0] not in ("host", "virtual"):
                return None
            found = ResourceKey(kind, parts[4], parts[1] if parts[0] == "host" else VIRTUAL + parts[1])
            name = parts[4]
        else:
            info = registry.info(kind)
            within, slash, name = path.removeprefix(_folder(info)).rpartition("/")
            if bool(slash) != info.namespaced or "/" in within:
                return None
            found = ResourceKey(kind, name, within)
        return found if name and (kind == IPAM_HANDLE or self.path(found) == path) else None


def _owner(within: str) -> str:
    if within.startswith(VIRTUAL):
        return f"virtual/{within[len(VIRTUAL) :]}/"
    return f"host/{within}/"


def _folder(info: KindInfo) -> str:
    if info.kind.group == CALICO:
        return f"{CALICO_RESOURCES}{info.plural}/"
    return f"{KUBERNETES_RESOURCES}{info.kind.group or 'core'}/{info.version}/{info.plural}/"
