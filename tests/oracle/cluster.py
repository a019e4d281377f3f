"""What has addresses and labels: endpoints, network sets, services. Documents in, things out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.oracle.documents import Document, listed, named, within
from tests.oracle.packets import Net, net, protocol
from tests.oracle.selectors import NAMESPACE

ALLOW_ALL: list[Document] = [{"action": "Allow"}]


@dataclass
class Thing:
    """Something that selectors match: an endpoint, or a network set."""

    kind: str
    namespace: str
    name: str
    labels: dict[str, str]
    nets: list[Net]
    ports: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    """Name, protocol, number."""
    profiles: list[str] = field(default_factory=list[str])
    node: str = ""
    interface: str = ""

    @property
    def is_workload(self) -> bool:
        return self.kind in ("WorkloadEndpoint", "Pod")

    def holds(self, address: str) -> bool:
        return any(each.holds(address) for each in self.nets)


@dataclass
class Profile:
    """Labels and rules that endpoints inherit."""

    labels: dict[str, str]
    ingress: list[Document]
    egress: list[Document]


@dataclass
class Service:
    """A service's addresses, and its addresses with ports."""

    addresses: set[str] = field(default_factory=set[str])
    ports: set[tuple[str, int, int]] = field(default_factory=set[tuple[str, int, int]])


def profiles(documents: Iterable[Document]) -> dict[str, Profile]:
    """Those that are written, and one of each Kubernetes namespace and service account."""
    found: dict[str, Profile] = {}
    for document in documents:
        namespace, name = named(document)
        own: dict[str, str] = within(document["metadata"], "labels")
        match document["kind"]:
            case "Profile":
                spec = document["spec"]
                found[name] = Profile(
                    within(spec, "labelsToApply"), listed(spec, "ingress"), listed(spec, "egress")
                )
            case "Namespace":
                labels = {f"pcns.{key}": value for key, value in own.items()}
                labels["pcns.projectcalico.org/name"] = name
                found[f"kns.{name}"] = Profile(labels, ALLOW_ALL, ALLOW_ALL)
            case "ServiceAccount":
                labels = {f"pcsa.{key}": value for key, value in own.items()}
                labels["pcsa.projectcalico.org/name"] = name
                found[f"ksa.{namespace}.{name}"] = Profile(labels, [], [])
            case _:
                pass
    return found


def things(documents: Iterable[Document], inherited: dict[str, Profile]) -> list[Thing]:
    """Everything that a selector can match, with all of its labels."""
    found: list[Thing] = []
    for document in documents:
        make = MAKERS.get(document["kind"])
        if make is not None:
            thing = make(document)
            given: dict[str, str] = {}
            parents = thing.profiles if thing.kind != "NetworkSet" else [f"kns.{thing.namespace}"]
            for profile in parents:
                if profile in inherited:
                    given |= inherited[profile].labels
            thing.labels = given | thing.labels
            found.append(thing)
    return found


def _workload(document: Document) -> Thing:
    namespace, name = named(document)
    spec = document["spec"]
    labels: dict[str, str] = dict(within(document["metadata"], "labels"))
    labels[NAMESPACE] = namespace
    labels["projectcalico.org/orchestrator"] = spec["orchestrator"]
    if spec.get("serviceAccountName"):
        labels["projectcalico.org/serviceaccount"] = spec["serviceAccountName"]
    return Thing(
        document["kind"],
        namespace,
        name,
        labels,
        [net(each) for each in listed(spec, "ipNetworks")],
        _ports(listed(spec, "ports")),
        list(listed(spec, "profiles")),
        node=spec["node"],
    )


def _pod(document: Document) -> Thing:
    """A pod of Kubernetes, with the profiles of its namespace and its service account."""
    namespace, name = named(document)
    spec = document["spec"]
    account = spec.get("serviceAccountName") or "default"
    labels: dict[str, str] = dict(within(document["metadata"], "labels"))
    labels |= {
        NAMESPACE: namespace,
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": account,
    }
    ports = [
        {"name": port["name"], "protocol": port.get("protocol", "TCP"), "port": port["containerPort"]}
        for container in listed(spec, "containers")
        for port in listed(container, "ports")
        if port.get("name")
    ]
    addresses = [each["ip"] for each in listed(within(document, "status"), "podIPs")]
    own = [f"kns.{namespace}", f"ksa.{namespace}.{account}"]
    return Thing("Pod", namespace, name, labels, [net(each) for each in addresses], _ports(ports), own)


def _host(document: Document) -> Thing:
    spec = document["spec"]
    return Thing(
        "HostEndpoint",
        "",
        document["metadata"]["name"],
        dict(within(document["metadata"], "labels")),
        [net(each) for each in listed(spec, "expectedIPs")],
        _ports(listed(spec, "ports")),
        list(listed(spec, "profiles")),
        node=spec["node"],
        interface=spec.get("interfaceName") or "",
    )


def _set(document: Document) -> Thing:
    namespace, name = named(document)
    labels: dict[str, str] = dict(within(document["metadata"], "labels"))
    if document["kind"] == "NetworkSet":
        labels[NAMESPACE] = namespace
    nets = [net(each) for each in listed(document["spec"], "nets")]
    return Thing(document["kind"], namespace, name, labels, nets)


MAKERS = {
    "WorkloadEndpoint": _workload,
    "Pod": _pod,
    "HostEndpoint": _host,
    "NetworkSet": _set,
    "GlobalNetworkSet": _set,
}


def _ports(ports: Sequence[Document]) -> list[tuple[str, int, int]]:
    return [(port["name"], protocol(port.get("protocol", "TCP")), port["port"]) for port in ports]


def services(documents: Iterable[Document]) -> dict[tuple[str, str], Service]:
    """By namespace and name, from their EndpointSlices."""
    found: defaultdict[tuple[str, str], Service] = defaultdict(Service)
    for document in documents:
        if document["kind"] != "EndpointSlice":
            continue
        metadata = document["metadata"]
        service = found[metadata["namespace"], metadata["labels"]["kubernetes.io/service-name"]]
        for endpoint in listed(document, "endpoints"):
            for address in endpoint["addresses"]:
                service.addresses.add(address)
                for port in listed(document, "ports"):
                    service.ports.add((address, protocol(port.get("protocol", "TCP")), port["port"]))
    return dict(found)
