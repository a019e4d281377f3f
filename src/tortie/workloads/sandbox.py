"""Who a request is about: one interface of one container, and every name that follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tortie.cni.request import Request
from tortie.errors import InvalidResource
from tortie.kernel.pod_link import PodLink
from tortie.net.ifnames import MAX_LENGTH
from tortie.resources.resource import Resource, ResourceKey
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT, WorkloadEndpointSpec, endpoint_name
from tortie.workloads import names
from tortie.workloads.names import Orchestrator

MAX_POD_NAME = 253
MAX_NAMESPACE_NAME = 63
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_POD = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """``netns`` is the namespace's path in the runtime's view; empty for a DEL after it is gone."""

    network: str
    node: str
    container_id: str
    ifname: str
    netns: str
    namespace: str
    pod: str
    """Empty where the runtime named no pod."""
    host_name: str

    @staticmethod
    def of(request: Request, *, node: str, interface_prefix: str) -> Sandbox:
        """Raises `InvalidResource` for a pod or namespace whose name Kubernetes would not allow."""
        args, ifname = request.args, request.ifname
        namespace, pod = args.pod_namespace, args.pod_name
        if not pod:
            namespace = names.DEFAULT_NAMESPACE
            host_name = names.bare_interface(interface_prefix, request.container_id, ifname)
        else:
            namespace = namespace or names.DEFAULT_NAMESPACE
            _check("K8S_POD_NAME", pod, _POD, MAX_POD_NAME)
            _check("K8S_POD_NAMESPACE", namespace, _NAMESPACE, MAX_NAMESPACE_NAME)
            host_name = names.pod_interface(interface_prefix, namespace, pod, ifname)
        if len(host_name.encode()) > MAX_LENGTH or ifname == host_name:
            raise InvalidResource(
                "CNI_IFNAME", ifname, f"makes {host_name} of the host's end, which cannot be"
            )
        return Sandbox(
            network=request.config.name,
            node=node,
            container_id=request.container_id,
            ifname=ifname,
            netns=request.netns,
            namespace=namespace,
            pod=pod,
            host_name=host_name,
        )

    @staticmethod
    def from_endpoint(endpoint: Resource[WorkloadEndpointSpec], network: str) -> Sandbox:
        """The one that an endpoint was written for."""
        spec = endpoint.spec
        return Sandbox(
            network=network,
            node=spec.node,
            container_id=spec.container_id,
            ifname=spec.endpoint,
            netns="",
            namespace=endpoint.key.within,
            pod=spec.pod,
            host_name=spec.interface_name,
        )

    @property
    def wire(self) -> PodLink:
        """Its wire, as far as the names go; ADD adds addresses and the rest."""
        mac = names.pod_mac(self.container_id, self.ifname)
        return PodLink(host_name=self.host_name, pod_name=self.ifname, mac=mac)

    @property
    def orchestrator(self) -> Orchestrator:
        return "k8s" if self.pod else "cni"

    @property
    def workload(self) -> str:
        """The part of the endpoint's name that says whose it is."""
        return self.pod or self.container_id

    @property
    def endpoint(self) -> ResourceKey:
        """Its WorkloadEndpoint."""
        name = endpoint_name(self.node, self.orchestrator, self.workload, self.ifname)
        return ResourceKey(WORKLOAD_ENDPOINT, name, self.namespace)

    @property
    def handle(self) -> str:
        """Under which IPAM keeps its addresses."""
        return names.handle_id(self.network, self.container_id, self.ifname)

    @property
    def locks(self) -> tuple[str, str]:
        """One at a time a pod, and one at a time a container."""
        return f"endpoint {self.namespace}/{self.workload}", f"container {self.container_id}"

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.pod}" if self.pod else f"container {self.container_id}"


def _check(variable: str, value: str, allowed: re.Pattern[str], longest: int) -> None:
    where = f"CNI_ARGS {variable}"
    if len(value) > longest:
        shown = f"{value[:32]}… ({len(value)} characters)"
        raise InvalidResource(where, shown, f"is longer than {longest} characters")
    if not allowed.fullmatch(value):
        raise InvalidResource(
            where,
            value,
            "is no name: only lower-case letters, digits and dashes inside, dots only in a pod's",
        )
