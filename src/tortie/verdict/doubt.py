"""Whether an answer hangs on an address that nobody knows yet.

Rules ask of an address two kinds of things: whose it is, which is known of a pod that only has no address yet, and in which nets
it is, which is not. A rule that the second kind decides is uncertain; the answer hangs on it if another outcome would change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tortie.desired.policies import EntityMatch, RuleRow
from tortie.net.addresses import Address, Prefix
from tortie.verdict.engine import Asked
from tortie.verdict.journey import Asking
from tortie.verdict.matching import matches, misses
from tortie.verdict.packet import Packet
from tortie.verdict.state import State

MOST_TRIALS = 256
"""Beyond these the answer counts as uncertain: so many rules that name nets are rare, and a wrong certainty is worse."""


@dataclass(eq=False)
class Doubt:
    """``addresses`` stand for such as are not known; what they will be is in ``ranges``."""

    addresses: frozenset[Address]
    ranges: tuple[Prefix, ...]
    _foreign: dict[str, tuple[Prefix, ...]] = field(default_factory=dict[str, tuple[Prefix, ...]])

    def concerns(self, packet: Packet) -> bool:
        return packet.source in self.addresses or packet.destination in self.addresses

    def uncertain(self, rule: RuleRow, packet: Packet, state: State) -> bool:
        """Whether the rule might match or not, depending on what the real addresses will be."""
        open_ = self.open(rule, packet, state)
        return bool(open_) and all(criterion in open_ for criterion in misses(rule, packet, state))

    def open(self, rule: RuleRow, packet: Packet, state: State) -> set[str]:
        """The criteria of the rule whose outcome nobody knows yet."""
        return {
            *self._open("source", rule.source, packet.source, packet.source_port, packet, state),
            *self._open(
                "destination", rule.destination, packet.destination, packet.destination_port, packet, state
            ),
        }

    def _open(
        self,
        side: str,
        entity: EntityMatch,
        address: Address,
        port: int | None,
        packet: Packet,
        state: State,
    ) -> Iterable[str]:
        if address not in self.addresses:
            return
        if entity.nets is not None and self._splits(entity.nets, address):
            yield f"{side}.nets"
        if self._splits(entity.not_nets, address):
            yield f"{side}.notNets"
        for sets, name in ((entity.sets, "selector"), (entity.not_sets, "notSelector")):
            if any(self._set_splits(each, address, state) for each in sets):
                yield f"{side}.{name}"
        for sets, name in ((entity.named_ports, "ports"), (entity.not_named_ports, "notPorts")):
            if any(self._ports_split(each, address, packet.protocol, port, state) for each in sets):
                yield f"{side}.{name}"

    def _splits(self, nets: Iterable[Prefix], address: Address) -> bool:
        """Whether some address that it may become is in the nets, and some is not."""
        ranges = [each for each in self.ranges if each.version == address.version]
        same = [net for net in nets if net.version == address.version]
        if not any(net.overlaps(each) for net in same for each in ranges):
            return False
        return not all(any(net.contains(each) for net in same) for each in ranges)

    def _set_splits(self, name: str, address: Address, state: State) -> bool:
        """The same of a set, in which the pod itself is by its labels or is not."""
        index = state.set_of(name)
        if address in index.singles:
            return False
        if name not in self._foreign:
            singles = (each.prefix for each in index.singles if each not in state.holders)
            self._foreign[name] = (*index.prefixes(), *singles)
        return self._splits(self._foreign[name], address)

    def _ports_split(
        self, name: str, address: Address, protocol: int, port: int | None, state: State
    ) -> bool:
        """The same of a service's ports, which its EndpointSlices list by address."""
        found = state.set_of(name).ports
        if port is None or (address, protocol, port) in found:
            return False
        foreign = [
            each.prefix for each, *there in found if there == [protocol, port] and each not in state.holders
        ]
        return self._splits(foreign, address)


class _Trial:
    """One evaluation in which some uncertain rules have the outcome that they are given."""

    def __init__(self, doubt: Doubt, forced: Mapping[int, bool]) -> None:
        self._doubt = doubt
        self._forced = forced
        self.met: dict[int, tuple[RuleRow, bool]] = {}

    def ask(self, packet: Packet, state: State) -> Asked:
        def asked(rule: RuleRow) -> bool:
            number = id(rule)
            if number in self._forced:
                return self._forced[number]
            matched = matches(rule, packet, state)
            if self._doubt.uncertain(rule, packet, state):
                self.met[number] = (rule, matched)
            return matched

        return asked


def hangs_on(doubt: Doubt, verdict_by: Callable[[Asking], object], verdict: object) -> list[RuleRow]:
    """The uncertain rules that would make another verdict if they came out differently.

    ``verdict_by`` evaluates anew with the given way of asking.
    """
    found: dict[int, RuleRow] = {}
    open_: list[tuple[dict[int, bool], RuleRow | None]] = [({}, None)]
    for _ in range(MOST_TRIALS):
        if not open_:
            break
        forced, turned = open_.pop()
        trial = _Trial(doubt, forced)
        if verdict_by(trial.ask) != verdict:
            if turned is not None:
                found[id(turned)] = turned
            continue
        before = dict(forced)
        for number, (rule, matched) in trial.met.items():
            open_.append(({**before, number: not matched}, rule))
            before[number] = matched
    for _, turned in open_:
        if turned is not None:
            found[id(turned)] = turned
    return list(found.values())
