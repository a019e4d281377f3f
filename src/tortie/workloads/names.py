"""Names that follow from the pod or the container alone: anyone can compute them again, so that an undo needs no memory.

Source: Calico's ``libcalico-go/lib/names`` and ``cni-plugin/pkg/{plugin,k8s}``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from tortie.net.ifnames import MAX_LENGTH, container_interface, workload_interface

Orchestrator = Literal["k8s", "cni"]

DEFAULT_INTERFACE = "eth0"
DEFAULT_NAMESPACE = "default"
_RANDOM = re.compile(r"[0-9a-f-]{12}")


def handle_id(network: str, container_id: str, ifname: str) -> str:
    """Under this handle IPAM keeps the addresses of one interface of one container (Calico: without the interface)."""
    handle = f"{network}.{container_id}"
    return handle if ifname == DEFAULT_INTERFACE else f"{handle}.{ifname}"


def pod_interface(prefix: str, namespace: str, pod: str, ifname: str) -> str:
    """The host's end of a pod's wire, as Calico names it; further interfaces of one pod have names of their own."""
    return workload_interface(prefix, namespace, pod if ifname == DEFAULT_INTERFACE else f"{pod}.{ifname}")


def bare_interface(prefix: str, container_id: str, ifname: str) -> str:
    """The host's end for a container that no pod is named for: the id's first characters, as Calico has it.

    That is unique for the random hexadecimal ids of runtimes; any other id that is longer (``cnitool-…``) is hashed.
    """
    room = min(11, MAX_LENGTH - len(prefix))
    if ifname == DEFAULT_INTERFACE and (len(container_id) <= room or _RANDOM.match(container_id)):
        return container_interface(prefix, container_id)
    return workload_interface(prefix, container_id, ifname)


def pod_mac(container_id: str, ifname: str) -> str:
    """A locally administered address, the same for the same container: known before the interface is."""
    digest = hashlib.sha256(f"{container_id}.{ifname}".encode()).digest()
    return bytes([digest[0] & 0xFC | 0x02, *digest[1:6]]).hex(":")


def profile_names(namespace: str, service_account: str) -> tuple[str, ...]:
    """The profiles of a Kubernetes pod."""
    first = f"kns.{namespace}"
    return (first, f"ksa.{namespace}.{service_account}") if service_account else (first,)
