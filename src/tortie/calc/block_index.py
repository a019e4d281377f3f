"""Which block an address lies in, whose block that is, and whose the address is in it."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tortie.net.addresses import Prefix
from tortie.resources.allocation_block import AllocationBlockSpec
from tortie.resources.resource import Resource
from tortie.resources.workload_endpoint import NETWORK_ANNOTATION, WorkloadEndpointSpec

CALICO_NETWORK = "k8s-pod-network"
"""The network's name in Calico's own configuration."""
_FREE = 0


def owner_token(handle: str) -> int:
    """A handle as a number: equal handles have equal numbers within this process. Never 0."""
    return hash(handle) or 1


def handle_of(endpoint: Resource[WorkloadEndpointSpec]) -> str:
    """Under which handle IPAM keeps the addresses of a pod's interface: ``k8s-pod-network.<container>``, and the interface
    where it is not the first (Calico has no others)."""
    network = endpoint.metadata.annotations.get(NETWORK_ANNOTATION, CALICO_NETWORK)
    handle = f"{network}.{endpoint.spec.container_id}"
    return handle if endpoint.spec.endpoint in ("", "eth0") else f"{handle}.{endpoint.spec.endpoint}"


@dataclass(frozen=True, eq=False)
class Block:
    """A block, small: its node ('' when it has none), and by ordinal the token of the handle that holds the address."""

    node: str
    owners: array[int]


class BlockIndex:
    """Blocks by prefix; finds the one around an address by trying the lengths that occur."""

    def __init__(self) -> None:
        self._blocks: dict[Prefix, Block] = {}
        self._lengths: Counter[tuple[int, int]] = Counter()

    def put(self, prefix: Prefix, block: Block) -> None:
        if prefix not in self._blocks:
            self._lengths[prefix.version, prefix.length] += 1
        self._blocks[prefix] = block

    def drop(self, prefix: Prefix) -> None:
        if self._blocks.pop(prefix, None) is not None:
            self._lengths[prefix.version, prefix.length] -= 1
            if not self._lengths[prefix.version, prefix.length]:
                del self._lengths[prefix.version, prefix.length]

    def get(self, prefix: Prefix) -> Block | None:
        return self._blocks.get(prefix)

    def around(self, single: Prefix) -> Iterator[tuple[Prefix, Block]]:
        """The blocks that hold this /32 or /128. Blocks do not overlap unless pools were made anew under them."""
        for version, length in self._lengths:
            if version == single.version:
                prefix = single.supernet(length)
                block = self._blocks.get(prefix)
                if block is not None:
                    yield prefix, block

    def owner(self, single: Prefix) -> int | None:
        """The token of the handle that IPAM gave the address to; None when no block knows."""
        for prefix, block in sorted(self.around(single), key=lambda found: -found[0].length):
            ordinal = single.value - prefix.value
            if ordinal < len(block.owners) and block.owners[ordinal] != _FREE:
                return block.owners[ordinal]
        return None


def block_of(spec: AllocationBlockSpec) -> Block:
    """What of a stored block matters here."""
    affinity = spec.affinity or ""
    node = affinity.removeprefix("host:") if affinity.startswith("host:") else ""
    tokens = [
        _FREE if attribute.released_at else owner_token(attribute.handle_id or "")
        for attribute in spec.attributes
    ]
    owners = array("q", [_FREE]) * len(spec.allocations)
    for ordinal, index in enumerate(spec.allocations):
        if index is not None and 0 <= index < len(tokens):
            owners[ordinal] = tokens[index]
    return Block(sys.intern(node), owners)
