"""Names of host interfaces, as Calico derives them (calico: ``cni-plugin`` veth names)."""

from __future__ import annotations

import hashlib
from functools import lru_cache

MAX_LENGTH = 15
"""The kernel's IFNAMSIZ less its closing zero byte."""


@lru_cache(4096)  # asked several times in a pod's ADD and DEL, and a digest takes its time
def workload_interface(prefix: str, namespace: str, pod: str) -> str:
    """The host's end of a Kubernetes pod's veth: the prefix and the first 11 hex digits of SHA-1 of ``ns.pod``."""
    digest = hashlib.sha1(f"{namespace}.{pod}".encode(), usedforsecurity=False).hexdigest()
    return prefix + digest[: min(11, MAX_LENGTH - len(prefix))]


def container_interface(prefix: str, container_id: str) -> str:
    """The host's end for a container that no pod is named for: the prefix and the id's first characters."""
    return prefix + container_id[: min(11, MAX_LENGTH - len(prefix))]
