"""What rules could match at most, by protocol and destination port: so that a packet of which a run of policies cannot speak
is led past all of them with a test or two.

It may say more than the rules do, never less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules.intervals import Interval, merged
from tortie.desired.policies import RuleRow
from tortie.host.nft import RETURN, Compare, InRange, Meta, Payload, Rule

_PROTOCOLS: Final = 3
"""Of more protocols nothing is said."""
_GAPS: Final = 2
"""So many gaps between ports are told from what is matched: the widest."""
_WIDE: Final = 64
"""A gap of fewer ports is not worth a test."""
_KEPT: Final = 5_000
_ALL_PORTS: Final[Interval] = (0, 0xFFFF)
_COMMENT: Final = "nothing here is about it"


class Reach(NamedTuple):
    """Packets of these protocols (none: nothing at all), to these ports."""

    protocols: frozenset[int] = frozenset()
    ports: tuple[Interval, ...] = ()


def of_rules(rules: Iterable[RuleRow]) -> Reach | None:
    """None: anything."""
    protocols: set[int] = set()
    ports: list[Interval] = []
    for rule in rules:
        if rule.protocol is None:
            return None
        protocols.add(rule.protocol)
        to = rule.destination
        if to.ports and not to.named_ports:
            ports += ((first, last) for first, last in to.ports)
        else:
            ports.append(_ALL_PORTS)
    return Reach(frozenset(protocols), tuple(merged(ports)))


def of_several(reaches: Sequence[Reach | None]) -> Reach | None:
    """All of them together."""
    known = [reach for reach in reaches if reach is not None]
    if len(known) < len(reaches):
        return None
    protocols = frozenset[int]().union(*(reach.protocols for reach in known))
    return Reach(protocols, tuple(merged(interval for reach in known for interval in reach.ports)))


@lru_cache(_KEPT)
def past(reach: Reach | None) -> tuple[Rule, ...]:
    """Rules that return what is beyond it."""
    if reach is None or not 0 < len(reach.protocols) <= _PROTOCOLS:
        return ()
    others = [Compare("neq", bytes([protocol])) for protocol in sorted(reach.protocols)]
    found = [m.rule(Meta("l4proto"), *others, RETURN, comment=_COMMENT)]
    # nft shows a port as a port where it knows the protocol.
    known = m.protocol(min(reach.protocols)) if len(reach.protocols) == 1 else ()
    port = Payload("transport", 2, 2)
    lowest, highest = reach.ports[0][0], reach.ports[-1][1]
    if (lowest, highest) != _ALL_PORTS:
        found.append(m.rule(known, port, _range(lowest, highest, inverted=True), RETURN, comment=_COMMENT))
    gaps = [(before[1] + 1, after[0] - 1) for before, after in pairwise(reach.ports)]
    wide = [gap for gap in gaps if gap[1] - gap[0] >= _WIDE]
    widest = sorted(wide, key=lambda gap: gap[0] - gap[1])[:_GAPS]
    found += (m.rule(known, port, _range(*gap), RETURN, comment=_COMMENT) for gap in widest)
    return tuple(found)


def _range(low: int, high: int, *, inverted: bool = False) -> Compare | InRange:
    if low == high:
        return Compare("neq" if inverted else "eq", low.to_bytes(2, "big"))
    return InRange(low.to_bytes(2, "big"), high.to_bytes(2, "big"), inverted=inverted)
