"""Pods of a lab: a Pod document in the datastore, a sandbox, and the CNI plugin called as a container runtime calls it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tortie.aio.backoff import Backoff
from tortie.cni.errors import Code
from tortie.datastore.store import Store
from tortie.errors import AlreadyExists, NotFound, TortieError, UsageError
from tortie.kernel import netns
from tortie.lab import fabric
from tortie.lab.runtime import PluginFailed, Sandbox
from tortie.lab.topology import Topology
from tortie.resources import codec, registry
from tortie.resources.namespace import NAMESPACE
from tortie.resources.pod import POD
from tortie.resources.resource import Kind, ResourceKey
from tortie.resources.service_account import SERVICE_ACCOUNT

_MOST_FILE_NAME = 250
"""255 bytes, less a suffix for a file that is being written."""
_PATIENCE_SECONDS = 60.0
"""How long a DEL is tried again that an ADD left owing."""


class PodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A pod as ``tortie lab pod add`` takes it. ``ports`` are (name, protocol, number)."""

    name: str
    node: str
    namespace: str = "default"
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    ports: Sequence[tuple[str, str, int]] = ()
    service_account: str = "default"


class LabPod(msgspec.Struct, kw_only=True):
    """A pod that runs: what the lab remembers of it, beside the datastore."""

    namespace: str
    name: str
    node: str
    netns: str
    container_id: str
    result: dict[str, Any] = {}

    @property
    def ips(self) -> list[str]:
        """Its addresses, without prefix length."""
        return [str(ip["address"]).partition("/")[0] for ip in self.result.get("ips", [])]

    @property
    def interface(self) -> str:
        """The host's end of its wire."""
        ends = [end["name"] for end in self.result.get("interfaces", []) if not end.get("sandbox")]
        return str(ends[0]) if ends else ""


def pods_of(topology: Topology) -> list[LabPod]:
    """Every pod of the lab, by namespace and name."""
    return [_read(path) for path in sorted(_directory(topology).glob("*.json"))]


async def add_pod(topology: Topology, store: Store, request: PodRequest) -> LabPod:
    """Store the document, make the sandbox, attach it. What fails leaves nothing behind.

    Raises `AlreadyExists`, `InvalidResource`, `PluginFailed`.
    """
    node = topology.node(request.node)
    path = _path(topology, request.namespace, request.name)
    document = _pod_document(request)
    pod = codec.decode(registry.info(POD), document)
    findings = registry.info(POD).validate(pod)
    if findings:
        raise findings[0]
    sandbox = topology.pod_netns(request.namespace, request.name)
    for file in (path.name, sandbox):
        if len(file.encode()) > _MOST_FILE_NAME:
            raise UsageError(
                f"pod {request.namespace}/{request.name}: the name is {len(file.encode()) - _MOST_FILE_NAME} characters "
                f"too long for a lab, which keeps a file of that name"
            )
    made = LabPod(
        namespace=request.namespace,
        name=request.name,
        node=node.name,
        netns=sandbox,
        container_id=secrets.token_hex(32),
    )
    _claim(path, made)
    try:
        await _ensure(store, NAMESPACE, request.namespace)
        await _ensure(store, SERVICE_ACCOUNT, request.service_account, request.namespace)
        stored = await store.create(pod)
    except BaseException:
        path.unlink()  # nothing else is there yet
        raise
    try:
        await fabric.add_namespace(sandbox)
        made.result = await _sandbox(topology, made).add()
        await store.update(replace(stored, status=_pod_status(made), revision=None))
    except BaseException:
        await remove_pod(topology, store, made, forgiving=True)
        raise
    _write(path, made)
    return made


async def remove_pod(topology: Topology, store: Store, pod: LabPod, *, forgiving: bool = False) -> None:
    """Detach it, and forget it. ``forgiving``: go on when the plugin fails, as after an ADD that did not complete."""
    try:
        if netns.path_of(pod.netns).exists() or not forgiving:
            await _detach(_sandbox(topology, pod), pod.result, patient=forgiving)
    except TortieError:
        if not forgiving:
            raise
    fabric.delete_namespaces([pod.netns])
    with suppress(NotFound):
        await store.delete(ResourceKey(POD, pod.name, pod.namespace))
    _path(topology, pod.namespace, pod.name).unlink(missing_ok=True)


async def _detach(sandbox: Sandbox, result: dict[str, Any], *, patient: bool) -> None:
    """``patient``: as a kubelet, which owes a DEL for each ADD that failed, try again while the plugin says to."""
    backoff = Backoff(first_seconds=0.2, most_seconds=2.0)
    give_up = time.monotonic() + (_PATIENCE_SECONDS if patient else 0)
    while True:
        try:
            await sandbox.delete(result or None)
            return
        except PluginFailed as error:
            if error.code != Code.TRY_LATER or time.monotonic() > give_up:
                raise
        await asyncio.sleep(backoff.next_seconds())


def find_pod(topology: Topology, name: str) -> LabPod:
    """By ``NAMESPACE/POD``, or ``POD`` in the namespace ``default``. Raises `UsageError`."""
    namespace, _, pod = name.rpartition("/")
    path = _path(topology, namespace or "default", pod)
    if not path.exists():
        raise UsageError(
            f"lab {topology.name} has no pod {namespace or 'default'}/{pod}: 'tortie lab status' lists them"
        )
    return _read(path)


def _sandbox(topology: Topology, pod: LabPod) -> Sandbox:
    return Sandbox(
        node_netns=topology.node(pod.node).netns,
        bin_dir=topology.cni_bin_dir(pod.node),
        conf_dir=topology.cni_conf_dir(pod.node),
        container_id=pod.container_id,
        netns=pod.netns,
        arguments={
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": pod.namespace,
            "K8S_POD_NAME": pod.name,
            "K8S_POD_INFRA_CONTAINER_ID": pod.container_id,
        },
    )


def _pod_document(request: PodRequest) -> dict[str, Any]:
    ports = [
        {"name": name, "protocol": protocol, "containerPort": number}
        for name, protocol, number in request.ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": request.name,
            "namespace": request.namespace,
            "labels": dict(request.labels),
            "annotations": dict(request.annotations),
        },
        "spec": {
            "nodeName": request.node,
            "serviceAccountName": request.service_account,
            "containers": [{"name": request.name, "ports": ports}],
        },
    }


def _pod_status(pod: LabPod) -> dict[str, Any]:
    """What a kubelet writes once the sandbox is there."""
    return {
        "phase": "Running",
        "podIP": pod.ips[0] if pod.ips else "",
        "podIPs": [{"ip": ip} for ip in pod.ips],
    }


async def _ensure(store: Store, kind: Kind, name: str, namespace: str = "") -> None:
    info = registry.info(kind)
    metadata: dict[str, Any] = {"name": name, **({"namespace": namespace} if namespace else {})}
    if kind == NAMESPACE:
        # The label that Kubernetes gives each namespace, and that policies select by.
        metadata["labels"] = {"kubernetes.io/metadata.name": name}
    document = {"apiVersion": "v1", "kind": kind.name, "metadata": metadata}
    with suppress(AlreadyExists):
        await store.create(codec.decode(info, document))


def _directory(topology: Topology) -> Path:
    return topology.directory / "pods"


def _path(topology: Topology, namespace: str, name: str) -> Path:
    return _directory(topology) / f"{namespace}_{name}.json"


def _read(path: Path) -> LabPod:
    return msgspec.json.decode(path.read_bytes(), type=LabPod)


def _claim(path: Path, pod: LabPod) -> None:
    """Make the pod's file, whole, unless there is one: of several commands that add the same pod one goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{pod.container_id[:8]}")
    fresh.write_bytes(msgspec.json.encode(pod))
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        raise AlreadyExists(f"pod {pod.namespace}/{pod.name}") from None
    finally:
        fresh.unlink()


def _write(path: Path, pod: LabPod) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(pod))
    fresh.replace(path)
