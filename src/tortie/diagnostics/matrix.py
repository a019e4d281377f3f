"""Who reaches whom on one port: all pods against all pods."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tortie.diagnostics.cluster import Cluster, Pod
from tortie.diagnostics.ports import Port
from tortie.net.addresses import Address
from tortie.verdict.doubt import Doubt
from tortie.verdict.journey import Traveller
from tortie.verdict.packet import SOURCE_PORT, TCP, WITH_PORTS, Packet
from tortie.verdict.reach import Reach

Bits = int
VERSIONS = (4, 6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """``rows`` and ``asked`` hold for each pod one bit for each pod: whether it is reached, and whether there is an answer at all
    (no shared IP version, or no port of that name: none). ``kinds`` are pods that are treated alike."""

    pods: tuple[Pod, ...]
    port: Port
    rows: tuple[Bits, ...]
    asked: tuple[Bits, ...]
    kinds: tuple[Bits, ...]
    notes: tuple[str, ...] = ()


def matrix(
    cluster: Cluster, port: Port, *, ip_version: int | None = None, pods: Sequence[Pod] | None = None
) -> Matrix:
    """Over IPv4 where two pods share it, else over IPv6; over one alone when it is given or the port's packets have only it."""
    among = tuple(cluster.pods.values()) if pods is None else tuple(pods)
    rows, asked = [0] * len(among), [0] * len(among)
    kinds: list[Bits] = [(1 << len(among)) - 1] if among else []
    differing = 0
    only = ip_version or port.ip_version
    for version in VERSIONS if only is None else (only,):
        found, there, alike = _of_version(cluster, port, version, among)
        kinds = [part for kind in kinds for other in alike if (part := kind & other)]
        for index in range(len(among)):
            differing += ((found[index] ^ rows[index]) & asked[index] & there[index]).bit_count()
            new = there[index] & ~asked[index]
            rows[index] |= found[index] & new
            asked[index] |= new
    notes: list[str] = []
    if differing:
        notes.append(f"{differing} pairs have another verdict over IPv6: ask with --ip-version 6")
    unasked = len(among) ** 2 - sum(bits.bit_count() for bits in asked)
    if unasked:
        why = f"no port named {port.name} at the destination, or " if port.name else ""
        notes.append(f"{unasked} pairs are left out: {why}no IP version in common")
    notes += on_stand_ins(cluster, among)
    return Matrix(
        pods=among, port=port, rows=tuple(rows), asked=tuple(asked), kinds=tuple(kinds), notes=tuple(notes)
    )


def on_stand_ins(cluster: Cluster, pods: Sequence[Pod]) -> Iterator[str]:
    """Says by which policies verdicts may depend on addresses that pods do not have yet; of which pairs, `explain` tells."""
    made_up = [[each for each in pod.addresses if each in cluster.stand_ins.addresses] for pod in pods]
    doubt = Doubt(cluster.stand_ins.addresses, cluster.stand_ins.ranges)
    one_a_version = {each.version: each for addresses in made_up for each in addresses}
    packets = [Packet(one, one, TCP, SOURCE_PORT, None) for one in one_a_version.values()]
    policies = sorted(
        str(key)
        for key, row in cluster.state.policies.items()
        if not row.staged
        for rules in ((*row.ingress, *row.egress),)
        if any(doubt.open(rule, packet, cluster.state) for rule in rules for packet in packets)
    )
    if policies:
        count = sum(map(bool, made_up))
        yield (
            f"{count} pod{'s have no addresses' if count > 1 else ' has no address'} yet, and {', '.join(policies)} asks in "
            "which net a pod is; stand-ins were taken: explain tells of a pair whether its verdict depends on them"
        )


def _of_version(
    cluster: Cluster, port: Port, version: int, pods: Sequence[Pod]
) -> tuple[list[Bits], list[Bits], list[Bits]]:
    """Rows, which pairs were asked, and kinds, over one IP version."""
    addresses = {
        index: address
        for index, pod in enumerate(pods)
        for address in pod.addresses[::-1]
        if address.version == version
    }
    places = list(addresses)
    spread = _Spread(places, len(pods))
    nobody = ((1 << len(pods)) - 1) & ~spread.everyone
    reach = Reach(
        cluster.state, Traveller(cluster.state, cluster.where, brief=True), list(addresses.values())
    )
    rows, asked = [0] * len(pods), [0] * len(pods)
    kinds = [each for each in (spread.everyone, nobody) if each]
    for number, destinations in _numbers(port, pods).items():
        destinations &= spread.everyone
        if not destinations:
            continue
        making = _making(port, number)
        for index, row in zip(places, reach.rows(making), strict=True):
            rows[index] |= spread(row) & destinations
            asked[index] |= destinations
        alike = [*map(spread, reach.kinds(making)), *([nobody] if nobody else [])]
        kinds = [part for kind in kinds for other in alike if (part := kind & other)]
    return rows, asked, kinds


class _Spread:
    """Bits over the pods that have an address as bits over all pods."""

    def __init__(self, places: list[int], count: int) -> None:
        self._places = places
        self._same = len(places) == count
        self.everyone: Bits = sum(1 << place for place in places)

    def __call__(self, bits: Bits) -> Bits:
        if self._same:
            return bits
        return sum(1 << place for number, place in enumerate(self._places) if bits >> number & 1)


def _numbers(port: Port, pods: Sequence[Pod]) -> dict[int | None, Bits]:
    """Port numbers, and the pods as which's destination each is meant: they differ for a name."""
    if not port.name:
        return {port.number: (1 << len(pods)) - 1}
    found: dict[int | None, Bits] = {}
    for index, pod in enumerate(pods):
        for name, protocol, number in pod.ports:
            if name == port.name and protocol == port.protocol:
                found[number] = found.get(number, 0) | 1 << index
                break
    return found


def _making(port: Port, number: int | None) -> Callable[[Address, Address], Packet]:
    def make(source: Address, destination: Address) -> Packet:
        version = source.version
        protocol = port.protocol_in(version)
        source_port = SOURCE_PORT if protocol in WITH_PORTS else None
        icmp_type = port.type_in(version)
        code = (port.code or 0) if icmp_type is not None else None
        return Packet(source, destination, protocol, source_port, number, icmp_type, code)

    return make


def as_json(matrices: Iterable[Matrix]) -> Iterator[str]:
    """``{"pairs": […]}`` in pieces, one pair a line: a million of them are 100 MB."""
    yield '{"pairs": ['
    between = "\n"
    for each in matrices:
        protocol, shown = json.dumps(each.port.protocol_name), json.dumps(each.port.shown)
        heads = [f'{{"source": {json.dumps(pod.name)}, "destination": ' for pod in each.pods]
        tails = [
            [
                f'{json.dumps(pod.name)}, "port": {shown}, "protocol": {protocol}, "verdict": "{verdict}"}}'
                for verdict in ("deny", "allow")
            ]
            for pod in each.pods
        ]
        for head, row, asked in zip(heads, each.rows, each.asked, strict=True):
            pairs = [head + tails[index][row >> index & 1] for index in indexes(asked)]
            if pairs:
                yield between + ",\n".join(pairs)
                between = ",\n"
    yield "\n]}\n"


def indexes(bits: Bits) -> list[int]:
    """The positions of the bits that are set."""
    return [index for index, digit in enumerate(bin(bits)[:1:-1]) if digit == "1"]


def names(pods: Sequence[Pod], bits: Bits, most: int = 8) -> str:
    """Some of them, and how many more."""
    found = indexes(bits)
    shown = ", ".join(pods[index].name for index in found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


MOST_KINDS = 30
"""Beyond these a grid is no help; numbers are shown instead."""


def as_text(found: Matrix) -> Iterator[str]:
    """For people: pods that are treated alike by number, and a grid of those."""
    if not found.pods:
        yield f"{found.port}: there are no pods\n"
        return
    allowed = sum((row & asked).bit_count() for row, asked in zip(found.rows, found.asked, strict=True))
    pairs = sum(asked.bit_count() for asked in found.asked)
    yield f"{found.port}: {allowed} of {pairs} pairs of pods may talk\n"
    kinds = sorted(found.kinds, key=lambda kind: indexes(kind)[0])
    if len(kinds) > MOST_KINDS:
        yield f"  {len(found.pods)} pods are treated in {len(kinds)} ways: ask with -o json for the pairs\n"
    else:
        width = len(str(len(kinds)))
        for number, kind in enumerate(kinds, 1):
            count = kind.bit_count()
            yield f"  {number:>{width}}  {count} pod{'s' if count > 1 else ''}: {names(found.pods, kind)}\n"
        yield "\n"
        yield f"  {'from / to':>10}{''.join(f'{number:>{width + 6}}' for number in range(1, len(kinds) + 1))}\n"
        for number, source in enumerate(kinds, 1):
            cells = (f"{_cell(found, source, destination):>{width + 6}}" for destination in kinds)
            yield f"  {number:>10}{''.join(cells)}\n"
    for note in found.notes:
        yield f"note: {note}\n"


def _cell(found: Matrix, source: Bits, destination: Bits) -> str:
    """What two different pods of the kinds have; ``self`` where there is only one."""
    first = indexes(source)[0]
    others = destination & ~(1 << first)
    if not others:
        return "self"
    others &= found.asked[first]
    if not others:
        return "-"
    return "allow" if found.rows[first] & others else "deny"
