"""Who should reach whom, and what the probes and captures say of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tortie.net.addresses import Address

CaseKind = Literal["pod-to-pod", "node-to-pod", "pod-to-node"]


class Place(NamedTuple):
    """A pod or a node as a place to send from and to: ``name`` is ``namespace/pod``, or the node's name."""

    kind: Literal["pod", "node"]
    name: str
    node: str
    addresses: tuple[Address, ...]
    interface: str = ""
    """The host's end of a pod's wire."""

    def address(self, version: int) -> Address | None:
        return next((address for address in self.addresses if address.version == version), None)


class Leg(NamedTuple):
    """One question: does ``source`` reach ``destination`` at this address?"""

    case: CaseKind
    source: Place
    destination: Place
    address: Address

    @property
    def same_node(self) -> bool:
        return self.source.node == self.destination.node


class Echo(NamedTuple):
    """What a sender saw of one destination. ``rtt_ms`` is the best of those that came back."""

    sent: int
    received: int
    rtt_ms: float | None


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """One leg's answer, as ``tortie check reachability -o json`` prints it.

    ``nat`` is judged from the packet that arrived: None says that nothing did.
    """

    case: CaseKind
    source: str
    destination: str
    source_ip: str
    destination_ip: str
    family: Literal["ipv4", "ipv6"]
    same_node: bool
    ok: bool
    nat: bool | None
    seen_source: str | None
    loss: float
    rtt_ms: float | None
    reason: str | None


def legs(places: Iterable[Place]) -> Iterator[Leg]:
    """Every ordered pair that Kubernetes' rules are about, in each IP version that both have.

    Pods reach pods and nodes, nodes reach pods; node to node is the machine room's own affair.
    """
    everyone = sorted(places)
    kinds: dict[tuple[str, str], CaseKind] = {
        ("pod", "pod"): "pod-to-pod",
        ("node", "pod"): "node-to-pod",
        ("pod", "node"): "pod-to-node",
    }
    for source in everyone:
        for destination in everyone:
            case = kinds.get((source.kind, destination.kind))
            if case is None or source == destination:
                continue
            for version in (4, 6):
                address = destination.address(version)
                if address is not None and source.address(version) is not None:
                    yield Leg(case, source, destination, address)


def judge(
    leg: Leg, echo: Echo | None, seen: Iterable[Address], reason: str | None, narrow: str | None = None
) -> CaseRow:
    """The answer for one leg: ``seen`` are the sources of what arrived from it at the destination, ``narrow`` says that whole
    packets do not pass though small ones do.

    A leg is good when every packet came back and none had its source rewritten on the way.
    """
    arrived = sorted(set(seen))
    rewritten = [address for address in arrived if address not in leg.source.addresses]
    nat = bool(rewritten) if arrived else None
    loss = 1.0 if echo is None or not echo.sent else 1.0 - echo.received / echo.sent
    ok = loss == 0 and nat is False and narrow is None
    if not ok and reason is None:
        reason = narrow if loss == 0 and nat is False else _own_reason(echo, nat, rewritten, loss)
    shown = rewritten[0] if rewritten else (arrived[0] if arrived else None)
    source = leg.source.address(leg.address.version)
    return CaseRow(
        case=leg.case,
        source=leg.source.name,
        destination=leg.destination.name,
        source_ip=str(source),
        destination_ip=str(leg.address),
        family="ipv4" if leg.address.version == 4 else "ipv6",
        same_node=leg.same_node,
        ok=ok,
        nat=nat,
        seen_source=str(shown) if shown else None,
        loss=round(loss, 3),
        rtt_ms=echo.rtt_ms if echo else None,
        reason=None if ok else reason,
    )


def _own_reason(echo: Echo | None, nat: bool | None, rewritten: list[Address], loss: float) -> str:
    if echo is None:
        return "not tried: the source's agent did not send"
    if nat:
        return f"NAT: the packet arrived from {rewritten[0]}"
    if nat is None:
        return (
            "nothing arrived at the destination"
            if loss
            else "answered, but nothing was captured at the destination"
        )
    if loss == 1:
        return "the packets arrive, but no answer comes back"
    return f"{loss:.0%} of the packets were lost"


def all_ok(rows: Iterable[CaseRow], places: Iterable[Place]) -> bool:
    """Whether every case is good, and pods on one node as well as across nodes were tried where there could be such."""
    answered = list(rows)
    pods: Mapping[str, int] = _pods_by_node(places)
    tried = {row.same_node for row in answered if row.case == "pod-to-pod"}
    possible = {True} if any(count > 1 for count in pods.values()) else set[bool]()
    if len(pods) > 1:
        possible.add(False)
    return bool(answered) and possible <= tried and all(row.ok for row in answered)


def _pods_by_node(places: Iterable[Place]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for place in places:
        if place.kind == "pod":
            counts[place.node] = counts.get(place.node, 0) + 1
    return counts
