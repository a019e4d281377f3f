"""Kubernetes' NetworkPolicy, read from its own documentation and not by way of Calico's rules: each rule allows what comes
from one of its peers to one of its ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.oracle.cluster import Thing
from tests.oracle.documents import Document, listed, within
from tests.oracle.packets import net, protocol
from tests.oracle.rules import HOLDS, Fails, Rule, Seen, Side
from tests.oracle.selectors import Labels, Matches

Reaches = Callable[[Seen, Side], bool]


def label_selector(selector: Document) -> Matches:
    """``matchLabels`` and ``matchExpressions``; an empty one matches all."""
    equal: dict[str, str] = within(selector, "matchLabels")
    expressions: list[Document] = listed(selector, "matchExpressions")

    def matches(labels: Labels) -> bool:
        return all(labels.get(key) == value for key, value in equal.items()) and all(
            _expression(each, labels) for each in expressions
        )

    return matches


def _expression(expression: Document, labels: Labels) -> bool:
    key, values = expression["key"], listed(expression, "values")
    match expression["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(f"no operator {other}")


def is_pod(thing: Thing) -> bool:
    return thing.is_workload and thing.labels.get("projectcalico.org/orchestrator") == "k8s"


def selects(document: Document, thing: Thing) -> bool:
    """Whether the policy is about this thing."""
    return (
        is_pod(thing)
        and thing.namespace == document["metadata"]["namespace"]
        and label_selector(within(document["spec"], "podSelector"))(thing.labels)
    )


def kubernetes_rule(document: Document, namespace: str, ingress: bool) -> Rule:
    """A rule of a Kubernetes policy. Its peers are at the far side, its ports are the destination's."""
    far: Side = "source" if ingress else "destination"
    criteria: list[Fails] = []
    fields: list[str] = []
    peers: list[Document] = listed(document, "from" if ingress else "to")
    if peers:
        reach = [_peer(peer, namespace) for peer in peers]
        own = tuple(sorted({f"k8s.{kind}" for peer in peers for kind in _peer_kinds(peer)}))
        fields += own
        criteria.append(lambda seen: HOLDS if any(each(seen, far) for each in reach) else own)
    ports: list[Document] = listed(document, "ports")
    if ports:
        kinds = tuple(sorted({f"k8s.{_port_kind(port)}" for port in ports}))
        fields += kinds
        criteria.append(lambda seen: HOLDS if any(_port(each, seen) for each in ports) else kinds)
    return Rule("Allow", criteria, tuple(fields), document)


def _peer_kinds(peer: Document) -> list[str]:
    if "ipBlock" in peer:
        return ["ipBlock.except"] if peer["ipBlock"].get("except") else ["ipBlock"]
    return [kind for kind in ("podSelector", "namespaceSelector") if peer.get(kind) is not None]


def _peer(peer: Document, namespace: str) -> Reaches:
    if "ipBlock" in peer:
        block = net(peer["ipBlock"]["cidr"])
        holes = [net(each) for each in listed(peer["ipBlock"], "except")]
        return lambda seen, side: (
            block.holds(seen.address(side)) and not any(hole.holds(seen.address(side)) for hole in holes)
        )
    pods = label_selector(within(peer, "podSelector"))
    if peer.get("namespaceSelector") is None:
        return lambda seen, side: _any(seen.at(side), lambda pod: pod.namespace == namespace, pods)
    namespaces = label_selector(peer["namespaceSelector"])
    return lambda seen, side: _any(seen.at(side), lambda pod: namespaces(_namespace_labels(pod)), pods)


def _any(things: Sequence[Thing], in_namespace: Callable[[Thing], bool], pods: Matches) -> bool:
    return any(is_pod(thing) and in_namespace(thing) and pods(thing.labels) for thing in things)


def _namespace_labels(pod: Thing) -> Labels:
    start = "pcns."
    return {key[len(start) :]: value for key, value in pod.labels.items() if key.startswith(start)}


def _port_kind(port: Document) -> str:
    if "endPort" in port:
        return "ports:range"
    if "port" not in port:
        return "ports:protocol"
    return "ports:number" if isinstance(port["port"], int) else "ports:name"


def _port(port: Document, seen: Seen) -> bool:
    number = protocol(port.get("protocol") or "TCP")
    if seen.packet.protocol != number:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, int):
        last: int = port.get("endPort", wanted)
        return wanted <= seen.packet.destination_port <= last
    return any(
        (name, of, value) == (wanted, number, seen.packet.destination_port)
        for thing in seen.destination
        for name, of, value in thing.ports
    )
