"""``tortie policy trace``: one real packet, and what each node's nftables did with it.

The source's agent sends; every agent that can be asked follows, as the packet may go over nodes in between. We put their traces
together in the packet's order, and say where it was lost: by a rule, or, where none dropped it, by what lies between where it was
heard of last and its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tortie.admin.fleet import Answers, Fleet
from tortie.diagnostics.ports import Port
from tortie.errors import UsageError
from tortie.net.addresses import Address
from tortie.verdict.packet import WITH_PORTS

Events = Sequence[Mapping[str, Any]]
"""What one node's agent tells of the packets that it saw."""

SECONDS = 20.0
SETTLE_SECONDS = 0.2

_CAME = {
    "answered": "the other end answered",
    "refused": "it was refused: the packet arrived and nobody listens, or a rule rejected it",
    "no-answer": "no answer came",
    "no-route": "the system says that there is no route",
    "too-big": "the packet is too big for the path",
    "not-permitted": "the sender's own node did not let it out",
    "failed": "it could not be sent",
}


@dataclass(frozen=True)
class Spot:
    """Where a packet starts or ends: ``pod`` empty for a node, both empty for what is outside."""

    name: str
    node: str
    pod: str
    addresses: tuple[Address, ...]
    interface: str = ""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One rule that the packet met on one node. ``policy`` is whose it is, empty for the frame around policies."""

    node: str
    chain: str
    rule: str
    verdict: str
    policy: str = ""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """``lost`` is None for a packet that nothing dropped as far as was seen."""

    source: str
    destination: str
    came: str
    detail: str
    hops: tuple[Hop, ...]
    lost: str | None
    unheard: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "destination": self.destination,
            "came": self.came,
            "hops": [dict(hop.__dict__) for hop in self.hops],
            "lost": self.lost,
        }


async def trace(
    fleet: Fleet,
    source: str,
    destination: str,
    port: Port,
    *,
    ip_version: int | None,
    size: int | None = None,
) -> Trace:
    """``size``: with so many bytes of payload, which nobody may fragment.

    Raises `UsageError` for ends that nobody knows, `TortieError` when the packet could not be sent.
    """
    statuses, endpoints, interfaces = await asyncio.gather(
        fleet.ask("status"), fleet.ask("endpoints"), fleet.ask("interfaces")
    )
    spots = list(_spots(statuses, endpoints, interfaces))
    start, end = _spot(spots, source, "--from"), _spot(spots, destination, "--to")
    if start.node not in fleet.clients:
        raise UsageError(
            f"--from {source}: a packet is sent from a pod or a node that an agent here is asked about"
        )
    here, there = _addresses(start, end, ip_version)
    return await _follow(fleet, spots, start, end, here, there, port, size)


async def _follow(
    fleet: Fleet,
    spots: Sequence[Spot],
    start: Spot,
    end: Spot,
    here: Address,
    there: Address,
    port: Port,
    size: int | None,
) -> Trace:
    protocol = port.protocol_in(here.version)
    number = port.number if protocol in WITH_PORTS else None
    # Another node may see the packet under an address of the first one.
    sources = [
        here,
        *(a for spot in spots if spot.node == start.node and not spot.pod for a in spot.addresses),
    ]
    asked: dict[str, Any] = {
        "sources": [str(a) for a in dict.fromkeys(sources) if a.version == here.version][:64],
        "destination": str(there),
        "protocol": protocol,
        "port": number,
    }
    following = await fleet.ask("trace-start", seconds=SECONDS, **asked)
    heard = Fleet({node: fleet.clients[node] for node in following.results})
    try:
        sent = await fleet.clients[start.node].call(
            "send",
            source=str(here),
            destination=str(there),
            protocol=protocol,
            port=number,
            icmp_type=port.type_in(here.version) or 0,
            pod=start.pod,
            **({} if size is None else {"size": size}),
        )
        await asyncio.sleep(SETTLE_SECONDS)
    finally:
        events: Mapping[str, Events] = (await heard.ask("trace-stop")).results
    path = _path(events, start.node, end.node)
    hops = tuple(hop for node in path for hop in _hops(node, events[node]))
    return Trace(
        source=f"{start.name} ({here})",
        destination=f"{end.name} ({there})",
        came=sent["came"],
        detail=sent["detail"],
        hops=hops,
        lost=(
            _too_big(hops, start, _length(here, protocol, size), sent.get("mtu", 0))
            if sent["came"] == "too-big"
            else _lost(hops, path, start, end, sent["came"], events)
        ),
        unheard={node: str(error) for node, error in following.failed.items()},
    )


def _spots(statuses: Answers, endpoints: Answers, interfaces: Answers) -> Iterator[Spot]:
    for node, status in statuses.results.items():
        known = list(status["addresses"])
        known += [text for row in interfaces.results.get(node, ()) for text in row["addresses"]]
        addresses = tuple(dict.fromkeys(Address.parse(text.partition("/")[0]) for text in known))
        yield Spot(node, node, "", addresses)
    for node, rows in endpoints.results.items():
        for row in rows:
            pod = f"{row['namespace']}/{row['pod']}"
            yield Spot(pod, node, pod, tuple(map(Address.parse, row["addresses"])), row["interface"])


def _spot(spots: Sequence[Spot], text: str, option: str) -> Spot:
    for spot in spots:
        if text == spot.name:
            return spot
    try:
        address = Address.parse(text)
    except ValueError:
        known = ", ".join(sorted(spot.name for spot in spots)[:12])
        raise UsageError(
            f"{option} {text} is neither a pod nor a node that an agent here knows ({known}), nor an address"
        ) from None
    for spot in spots:
        if address in spot.addresses:
            return Spot(spot.name, spot.node, spot.pod, (address,), spot.interface)
    return Spot(text, "", "", (address,))


def _addresses(start: Spot, end: Spot, ip_version: int | None) -> tuple[Address, Address]:
    for version in (4, 6) if ip_version is None else (ip_version,):
        ours = [a for a in start.addresses if a.version == version]
        theirs = [a for a in end.addresses if a.version == version]
        if ours and theirs:
            return ours[0], theirs[0]
    wanted = f"IPv{ip_version}" if ip_version else "IP"
    raise UsageError(f"no packet goes from {start.name} to {end.name} over {wanted}: they share no version")


def _path(events: Mapping[str, Events], start: str, end: str) -> list[str]:
    """The nodes that saw the packet, in its order: each takes one from the hops that it has left."""
    saw = [node for node, told in events.items() if told]
    return sorted(saw, key=lambda node: (node != start, node == end, -events[node][0].get("ttl", 0)))


def _hops(node: str, events: Events) -> Iterator[Hop]:
    """Of the first packet that the node saw."""
    first = events[0]["number"]
    for event in events:
        if event["number"] != first:
            continue
        rule = event["rule"] if event["kind"] == "rule" else f"({event['kind']} of the chain)"
        verdict = f"{event['verdict']} {event['target']}".strip()
        yield Hop(
            node=node,
            chain=f"{event['family']} {event['table']} {event['chain']}",
            rule=rule,
            verdict=verdict,
            policy=event["policy"],
        )


def _lost(
    hops: Sequence[Hop],
    path: Sequence[str],
    start: Spot,
    end: Spot,
    came: str,
    events: Mapping[str, Events],
) -> str | None:
    for hop in hops:
        if hop.verdict == "drop" or hop.rule.startswith("reject") or " reject" in hop.rule:
            return (
                f"on {hop.node} by {hop.policy or f'chain {hop.chain}'}: {hop.rule or 'a rule that is gone'}"
            )
    if came in ("answered", "refused"):
        return None
    for number, node in enumerate(path):
        if len({event.get("ttl") for event in events[node]}) > 1:
            return f"in a circle: {', '.join([*path[number:], node])}"
    if came == "no-route" and path in ([], [start.node]):
        if _went_on(hops, start.node):
            return f"beyond {start.node}, which sent it on: there is no route to the destination, or nobody has the address"
        return f"on {start.node}: there is no route to the destination"
    if not path:
        no_way = f"before {start.node} saw it: the pod has no way to its node, or the interface is down"
        return no_way if start.node in events else None
    last = path[-1]
    if last == end.node:
        return None
    if not _went_on(hops, last):
        return (
            f"on {last}, after it arrived and before it was forwarded: no route, or its source is not reached by the way "
            "it came (reverse path filter)"
        )
    if end.node in events:
        return f"between {last} and {end.node}: it left the one and was not seen on the other (wire, tunnel, MTU)"
    return None


def _too_big(hops: Sequence[Hop], start: Spot, length: int | None, mtu: int) -> str:
    """Its own interface, its node or somebody beyond said so."""
    where = f"beyond {start.node}" if _went_on(hops, start.node) else f"on {start.node}"
    if not hops and start.pod:
        where = f"in {start.name}"
    what = f"its {length} bytes are" if length is not None else "it is"
    return f"{where}: {what} bigger than {f'the MTU of {mtu}' if mtu else 'the MTU of the path'}"


def _length(source: Address, protocol: int, size: int | None) -> int | None:
    """Of the whole packet, where the payload's is known. Headers: IP's 20 or 40 bytes; UDP's and ICMP's 8."""
    if size is None:
        return None
    return (20 if source.version == 4 else 40) + (8 if protocol in (1, 17, 58) else 0) + size


def _went_on(hops: Sequence[Hop], node: str) -> bool:
    return any(
        hop.node == node and "prerouting" not in hop.chain and "workload-source" not in hop.chain
        for hop in hops
    )


def tell(found: Trace) -> Iterator[str]:
    """For people."""
    yield f"{found.source} to {found.destination}: {_CAME.get(found.came, found.came)}{_detail(found)}"
    node = ""
    for hop in found.hops:
        if hop.node != node:
            node = hop.node
            yield f"\non {node}"
        yield f"  {hop.policy or hop.chain}: {hop.rule or 'a rule that is gone'}{_verdict(hop)}"
    for node, reason in found.unheard.items():
        yield f"\n{node} could not be asked: {reason}"
    yield ""
    if found.lost:
        yield f"lost {found.lost}"
    elif found.came == "answered":
        yield "it arrived"
    else:
        yield "nothing that was seen dropped it; an answer's way back is not followed"


def _verdict(hop: Hop) -> str:
    """Unless the rule's own text ends with it."""
    return "" if hop.rule.endswith(hop.verdict) else f" → {hop.verdict}"


def _detail(found: Trace) -> str:
    return f" ({found.detail})" if found.detail else ""
