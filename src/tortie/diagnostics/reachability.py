"""``tortie check reachability``: real packets from every pod and node to every pod and node, and what arrived of them.

The agents send (fping) and listen (a packet socket in the destination's own namespace); we ask, compare and explain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tortie.admin.fleet import Answers, Fleet
from tortie.diagnostics.cases import CaseRow, Echo, Leg, Place, all_ok, judge, legs
from tortie.diagnostics.reasons import InterfaceSeen, NodeView, RouteSeen, likely_reason
from tortie.errors import TortieError
from tortie.net.addresses import Address, Prefix

MANY_LEGS = 2000
"""Beyond this many, each is tried with one packet instead of three."""
QUESTIONS_AT_ONCE = 16
"""So many requests are under way at a time, over all agents."""
INTERVAL_MS = 20
TIMEOUT_MS = 1000
CAPTURE_SECONDS = 120.0
MOST_DESTINATIONS = 16
"""So many addresses of one place are listened for: what an agent takes."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """Every case, and whether all is well. ``unreachable`` names the nodes whose agents could not be asked."""

    ok: bool
    cases: tuple[CaseRow, ...]
    unreachable: Mapping[str, str]


@dataclass(frozen=True)
class Spot:
    """A place, and the network namespace that stands for it (empty: the agent's own)."""

    place: Place
    netns: str


async def check(fleet: Fleet, progress: Progress) -> Report:
    """Try everything once. Raises nothing for what does not work: that is the answer."""
    statuses, endpoints, interfaces = await asyncio.gather(
        fleet.ask("status"), fleet.ask("endpoints"), fleet.ask("interfaces")
    )
    spots = _spots(statuses, endpoints, interfaces)
    places = [spot.place for spot in spots]
    wanted = list(legs(places))
    progress(f"{len(wanted)} paths between {len(places)} places")
    echoes: dict[Leg, Echo] = {}
    arrived: dict[Leg, list[Address]] = {}
    # Pods first, then nodes: a packet whose source was rewritten to a node's address is then no node's own.
    for kind in ("pod", "node"):
        some = [leg for leg in wanted if leg.source.kind == kind]
        if some:
            progress(f"sending from {kind}s: {len(some)} paths")
            await _try(fleet, spots, some, 1 if len(wanted) > MANY_LEGS else 3, echoes, arrived)
    progress("whole packets between the nodes' pods")
    narrow = await _narrow_paths(fleet, spots, interfaces, wanted)
    silent = any(not echo.received for echo in echoes.values())
    views = await _views(fleet, statuses, endpoints, interfaces) if silent else {}

    def answer(leg: Leg) -> CaseRow:
        echo = echoes.get(leg)
        reason = likely_reason(leg, views) if echo is not None and not echo.received else None
        return judge(leg, echo, arrived.get(leg, []), reason, narrow.get(leg))

    rows = tuple(answer(leg) for leg in wanted)
    failed = {**statuses.failed, **endpoints.failed, **interfaces.failed}
    unreachable = {node: str(error) for node, error in failed.items()}
    return Report(not unreachable and all_ok(rows, places), rows, unreachable)


def _spots(statuses: Answers, endpoints: Answers, interfaces: Answers) -> list[Spot]:
    found: list[Spot] = []
    for node, status in statuses.results.items():
        # First those that BGP knows the node by: they are what others send to.
        known = list(status["addresses"])
        known += [text for row in interfaces.results.get(node, ()) for text in row["addresses"]]
        addresses = tuple(Address.parse(text) for text in dict.fromkeys(known))
        found.append(Spot(Place("node", node, node, addresses), ""))
    for node, rows in endpoints.results.items():
        for row in rows:
            if not row["netns"]:
                continue
            name = f"{row['namespace']}/{row['pod']}"
            addresses = tuple(Address.parse(text) for text in row["addresses"])
            found.append(Spot(Place("pod", name, node, addresses, row["interface"]), row["netns"]))
    return found


async def _try(
    fleet: Fleet,
    spots: Sequence[Spot],
    some: Sequence[Leg],
    count: int,
    echoes: dict[Leg, Echo],
    arrived: dict[Leg, list[Address]],
) -> None:
    """Listen at every destination, send from every source, and note both."""
    netns = {spot.place: spot.netns for spot in spots}
    by_source: dict[Place, list[Leg]] = {}
    for leg in some:
        by_source.setdefault(leg.source, []).append(leg)
    destinations = sorted({leg.destination for leg in some})
    slots = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def listen(place: Place) -> int | None:
        async with slots:
            return await _listen(fleet, place, netns[place])

    async def stop(place: Place, number: int | None) -> Mapping[Address, set[Address]]:
        async with slots:
            return await _stop(fleet, place, number)

    captures = await asyncio.gather(*(listen(place) for place in destinations))

    async def send(source: Place, mine: Sequence[Leg]) -> None:
        async with slots:
            answers = await _send(fleet, source.node, netns[source], mine, count)
        for leg in mine:
            if (answer := answers.get(str(leg.address))) is not None:
                echoes[leg] = Echo(answer["sent"], answer["received"], answer["rtt_ms"])

    try:
        await asyncio.gather(*(send(source, mine) for source, mine in by_source.items()))
    finally:
        heard = await asyncio.gather(*map(stop, destinations, captures))
    senders = {address for source in by_source for address in source.addresses}
    sources = dict(zip(destinations, heard, strict=True))
    for leg in some:
        arrived[leg] = attribute(leg, echoes.get(leg), sources[leg.destination], senders)


def attribute(
    leg: Leg, echo: Echo | None, heard: Mapping[Address, set[Address]], senders: set[Address]
) -> list[Address]:
    """Which of the sources heard at the destination's address stand for this leg.

    Its own, if heard. Else, if an answer came back, a source that is no sender's: it was rewritten on the way, most likely
    to an address of the sender's node.
    """
    sources = heard.get(leg.address, set())
    own = [address for address in leg.source.addresses if address in sources]
    if own:
        return own
    strangers = sorted(sources - senders)
    return strangers[:1] if echo is not None and echo.received else []


async def _send(
    fleet: Fleet, node: str, netns: str, mine: Sequence[Leg], count: int, *, size: int = 0
) -> Mapping[str, Mapping[str, Any]]:
    targets = [str(leg.address) for leg in mine]
    seconds = (count * INTERVAL_MS + TIMEOUT_MS) / 1000 + len(targets) / 500 + 15
    try:
        answers = await fleet.clients[node].call(
            "probe",
            timeout_seconds=seconds,
            netns=netns,
            targets=targets,
            count=count,
            interval_ms=INTERVAL_MS,
            timeout_ms=TIMEOUT_MS,
            size=size,
        )
    except TortieError:
        return {}
    return {answer["target"]: answer for answer in cast("list[dict[str, Any]]", answers)}


async def _listen(fleet: Fleet, place: Place, netns: str) -> int | None:
    try:
        number = await fleet.clients[place.node].call(
            "capture-start",
            netns=netns,
            seconds=CAPTURE_SECONDS,
            destinations=[str(address) for address in place.addresses[:MOST_DESTINATIONS]],
        )
    except TortieError:
        return None
    return int(number)


async def _stop(fleet: Fleet, place: Place, number: int | None) -> Mapping[Address, set[Address]]:
    """The sources heard, by the destination's address."""
    heard: dict[Address, set[Address]] = {}
    if number is None:
        return heard
    try:
        packets = await fleet.clients[place.node].call("capture-stop", capture=number)
    except TortieError:
        return heard
    for packet in cast("list[dict[str, Any]]", packets):
        source, destination = Address.parse(packet["source"]), Address.parse(packet["destination"])
        heard.setdefault(destination, set()).add(source)
    return heard


async def _narrow_paths(
    fleet: Fleet, spots: Sequence[Spot], interfaces: Answers, wanted: Sequence[Leg]
) -> Mapping[Leg, str]:
    """Legs whose packets of the interface's own size do not pass although smaller ones do: a wrong MTU on the way.

    One destination a node is tried from each pod, which finds what is wrong with a pod, a node, or a wire between two.
    """
    sizes = {
        (node, row["name"]): int(row["mtu"]) for node, rows in interfaces.results.items() for row in rows
    }
    netns = {spot.place: spot.netns for spot in spots}
    mine: dict[tuple[Place, int], dict[str, Leg]] = {}
    for leg in wanted:
        if leg.case == "pod-to-pod":
            chosen = mine.setdefault((leg.source, leg.address.version), {})
            chosen.setdefault(leg.destination.node, leg)
    slots = asyncio.Semaphore(QUESTIONS_AT_ONCE)
    found: dict[Leg, str] = {}

    async def send(source: Place, some: Sequence[Leg]) -> None:
        size = sizes.get((source.node, source.interface), 0)
        if not size:
            return
        async with slots:
            whole = await _send(fleet, source.node, netns[source], some, 2, size=size)
            small = await _send(fleet, source.node, netns[source], some, 2)
        for leg in some:
            target = str(leg.address)
            if whole.get(target, {}).get("received") == 0 and small.get(target, {}).get("received"):
                found[leg] = f"wrong MTU: packets of {size} bytes, {source.interface}'s own, do not pass"

    await asyncio.gather(*(send(source, list(some.values())) for (source, _), some in mine.items()))
    return found


async def _views(
    fleet: Fleet, statuses: Answers, endpoints: Answers, interfaces: Answers
) -> dict[str, NodeView]:
    """What the agents hold, for the reasons. An agent that does not answer has no view."""
    routes, sessions = await asyncio.gather(fleet.ask("routes"), fleet.ask("node-status"))
    views: dict[str, NodeView] = {}
    for node, rows in routes.results.items():
        up = {row["name"] for row in interfaces.results.get(node, ()) if row["up"]}
        own = set(statuses.results.get(node, {}).get("addresses", ()))
        views[node] = NodeView(
            routes=tuple(
                RouteSeen(Prefix.parse(row["prefix"]), row["kind"] == "blackhole", row["interface"])
                for row in rows
            ),
            sessions={
                row["node"]: row["state"]
                for row in sessions.results.get(node, {}).get("sessions", ())
                if row["node"]
            },
            interfaces={
                f"{row['namespace']}/{row['pod']}": InterfaceSeen(row["interface"], row["interface"] in up)
                for row in endpoints.results.get(node, ())
            },
            uplinks_down=tuple(
                row["name"]
                for row in interfaces.results.get(node, ())
                if not row["up"] and own.intersection(row["addresses"])
            ),
        )
    return views
