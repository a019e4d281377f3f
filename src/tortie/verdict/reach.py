"""Who reaches whom: the verdicts between all pairs of many addresses, at the cost of a few.

Addresses about which no rule asks anything different are alike; one of each kind is asked, and the answer is all of theirs. What
the source's policies say is computed apart from what the destination's say, each for its own kinds, so that a thousand endpoints
with a policy each are still few questions. Sets of addresses are integers with one bit each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tortie.desired.policies import AppliedPolicies, Direction, EntityMatch, RuleRow
from tortie.net.addresses import Address, Prefix
from tortie.verdict.journey import End, Traveller
from tortie.verdict.matching import ADDRESS_CRITERIA, Side, misses
from tortie.verdict.packet import Packet
from tortie.verdict.state import State

Bits = int
Making = Callable[[Address, Address], Packet]


class _InNets(NamedTuple):
    nets: tuple[Prefix, ...]

    def holds(self, address: Address, state: State) -> bool:
        del state
        return any(net.holds(address) for net in self.nets)


class _InSet(NamedTuple):
    name: str

    def holds(self, address: Address, state: State) -> bool:
        return state.set_of(self.name).holds(address)


class _HasPort(NamedTuple):
    name: str
    protocol: int
    port: int | None

    def holds(self, address: Address, state: State) -> bool:
        return state.set_of(self.name).holds_port(address, self.protocol, self.port)


Question = _InNets | _InSet | _HasPort
"""What a rule may ask of an address."""


class Reach:
    """Between all pairs of ``addresses``, which are of one IP version and of endpoints. ``traveller`` is a brief one."""

    def __init__(self, state: State, traveller: Traveller, addresses: Sequence[Address]) -> None:
        self._state = state
        self._traveller = traveller
        self._addresses = addresses
        self._ends = [traveller.end(address) for address in addresses]
        self._all: Bits = (1 << len(addresses)) - 1
        self._answers: dict[Question, Bits] = {}
        self._nodes: dict[str, Bits] = {}
        for index, end in enumerate(self._ends):
            self._nodes[end.node] = self._nodes.get(end.node, 0) | 1 << index

    def rows(self, making: Making) -> list[Bits]:
        """For each address, those that it reaches by the packets that ``making`` makes; always itself."""
        if not self._addresses:
            return []
        sample = making(self._addresses[0], self._addresses[-1])
        left, right = [0] * len(self._addresses), [0] * len(self._addresses)
        for sources, destinations in self._kinds("egress", sample):
            if self._allows("egress", sources, destinations, making):
                for index in _indexes(sources):
                    left[index] |= destinations
        for destinations, sources in self._kinds("ingress", sample):
            if self._allows("ingress", sources, destinations, making):
                for index in _indexes(sources):
                    right[index] |= destinations
        return [one & other | 1 << index for index, (one, other) in enumerate(zip(left, right, strict=True))]

    def kinds(self, making: Making) -> list[Bits]:
        """The addresses by kind: those of one kind reach, and are reached by, the same others."""
        sample = making(self._addresses[0], self._addresses[-1])
        found = [self._all]
        for direction in ("egress", "ingress"):
            for mine, others in self._kinds(direction, sample):
                found = _split(_split(found, mine), others)
        return found

    def _kinds(self, direction: Direction, sample: Packet) -> Iterator[tuple[Bits, Bits]]:
        """Pairs of kinds: endpoints that are treated alike in this direction, and peers that they treat alike."""
        near: Side = "source" if direction == "egress" else "destination"
        far: Side = "destination" if direction == "egress" else "source"
        for (applied, node), members in self._groups(direction):
            rules = [rule for rule in self._rules(applied, node, direction) if self._may_match(rule, sample)]
            mine = self._partition([members], near, rules, sample)
            others = self._partition([self._all], far, rules, sample)
            if node:
                others = _split(others, self._nodes[node])
            yield from ((one, other) for one in mine for other in others)

    def _groups(self, direction: Direction) -> Iterator[tuple[tuple[AppliedPolicies, str], Bits]]:
        """Endpoints by what holds for them (equal ones are one object), and by node where the node has a say."""
        found: dict[tuple[int, str], Bits] = {}
        applied = [self._applied(end, direction) for end in self._ends]
        by_id = {id(each): each for each in applied}
        for index, (end, each) in enumerate(zip(self._ends, applied, strict=True)):
            key = (id(each), end.node if self._traveller.has_a_say(end.node) else "")
            found[key] = found.get(key, 0) | 1 << index
        for (number, node), members in found.items():
            yield (by_id[number], node), members

    def _applied(self, end: End, direction: Direction) -> AppliedPolicies:
        assert end.pod is not None, "only addresses of endpoints are asked about"
        row = self._state.endpoints[end.pod]
        return row.egress if direction == "egress" else row.ingress

    def _rules(self, applied: AppliedPolicies, node: str, direction: Direction) -> Iterator[RuleRow]:
        yield from self._rules_of(applied, direction)
        for _, row in self._traveller.guards(node) if node else ():
            through = row.forward_egress if direction == "egress" else row.forward_ingress
            for each in (through, row.untracked_ingress, row.pre_dnat):
                yield from self._rules_of(each, direction)

    def _rules_of(self, applied: AppliedPolicies, direction: Direction) -> Iterator[RuleRow]:
        for tier in applied.tiers:
            for key in tier.policies:
                policy = self._state.policies.get(key)
                if policy is not None and not policy.staged:
                    yield from policy.rules(direction)
        for name in applied.profiles:
            profile = self._state.profiles.get(name)
            if profile is not None:
                yield from profile.rules(direction)

    def _may_match(self, rule: RuleRow, sample: Packet) -> bool:
        """Whether it might match a packet of this protocol and port between some two addresses."""
        by_name = {
            f"{side}.{criterion}"
            for side, entity in (("source", rule.source), ("destination", rule.destination))
            for criterion, names in (("ports", entity.named_ports), ("notPorts", entity.not_named_ports))
            if names
        }
        return all(
            criterion.rpartition(".")[2] in ADDRESS_CRITERIA or criterion in by_name
            for criterion in misses(rule, sample, self._state)
        )

    def _partition(
        self, blocks: list[Bits], side: Side, rules: Iterable[RuleRow], sample: Packet
    ) -> list[Bits]:
        """Split the blocks by everything that the rules ask of this side."""
        port = sample.source_port if side == "source" else sample.destination_port
        questions = {
            question
            for rule in rules
            for question in _questions(
                rule.source if side == "source" else rule.destination, sample.protocol, port
            )
        }
        for question in questions:
            blocks = _split(blocks, self._answer(question))
        return blocks

    def _answer(self, question: Question) -> Bits:
        found = self._answers.get(question)
        if found is None:
            found = self._answers[question] = self._ask(question)
        return found

    def _ask(self, question: Question) -> Bits:
        bits = 0
        for index, address in enumerate(self._addresses):
            if question.holds(address, self._state):
                bits |= 1 << index
        return bits

    def _allows(self, direction: Direction, sources: Bits, destinations: Bits, making: Making) -> bool:
        """Ask one pair of the kinds, of two different ends if there are such."""
        source, destination = _lowest(sources), _lowest(destinations)
        if source == destination:
            if others := destinations & ~(1 << source):
                destination = _lowest(others)
            elif others := sources & ~(1 << source):
                source = _lowest(others)
        packet = making(self._addresses[source], self._addresses[destination])
        decide = self._traveller.egress if direction == "egress" else self._traveller.ingress
        return decide(self._ends[source], self._ends[destination], packet).verdict != "deny"


def _questions(entity: EntityMatch, protocol: int, port: int | None) -> Iterator[Question]:
    if entity.nets:
        yield _InNets(entity.nets)
    if entity.not_nets:
        yield _InNets(entity.not_nets)
    for name in (*entity.sets, *entity.not_sets):
        yield _InSet(name)
    for name in (*entity.named_ports, *entity.not_named_ports):
        yield _HasPort(name, protocol, port)


def _split(blocks: Iterable[Bits], by: Bits) -> list[Bits]:
    found: list[Bits] = []
    for block in blocks:
        inside = block & by
        if inside:
            found.append(inside)
        if inside != block:
            found.append(block & ~by)
    return found


def _lowest(bits: Bits) -> int:
    return (bits & -bits).bit_length() - 1


def _indexes(bits: Bits) -> Iterator[int]:
    """The positions of the bits that are set."""
    text = bin(bits)[:1:-1]
    at = text.find("1")
    while at >= 0:
        yield at
        at = text.find("1", at + 1)
