"""A new deny cuts connections that run, where a policy or the settings ask for it: which flows these are. No I/O.

The kernel asks no policy about a flow that it knows. So the flows of the endpoints concerned are asked here, by the verdict
engine, over what the managers have just made real; what is denied now is to be forgotten by conntrack. What then comes of it is
a new flow to the kernel, and denied; in the midst of a TCP connection it is answered with a reset (`rules.groups`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

from tortie.dataplane.linux.managers.ipsets import IPSetManager
from tortie.dataplane.linux.managers.policies import PolicyManager
from tortie.desired.endpoints import EndpointRow
from tortie.desired.policies import AppliedPolicies, Direction, PolicyKey, PolicyRow, ProfileRow
from tortie.host.conntrack import Flow
from tortie.net.addresses import Address
from tortie.verdict.engine import asking, evaluate
from tortie.verdict.members import MemberIndex
from tortie.verdict.packet import ICMP, ICMPV6, WITH_PORTS, Packet
from tortie.verdict.state import State
from tortie.verdict.steps import Step

_ECHO = {ICMP: 8, ICMPV6: 128}


class _LiveSet(MemberIndex):
    """A set as its manager has it: nothing is kept twice."""

    def __init__(self, name: str, ipsets: IPSetManager) -> None:
        super().__init__()
        self._name = name
        self._ipsets = ipsets

    def holds(self, address: Address) -> bool:
        return self._ipsets.holds(self._name, address)

    def holds_port(self, address: Address, protocol: int, port: int | None) -> bool:
        return port is not None and self._ipsets.holds_port(self._name, address, protocol, port)


class LiveState(State):
    """What the engine asks, answered by the managers. Only while these do not change."""

    def __init__(self, policies: PolicyManager, ipsets: IPSetManager) -> None:
        super().__init__()
        self.policies = cast("dict[PolicyKey, PolicyRow]", policies.rows)
        self.profiles = cast("dict[str, ProfileRow]", policies.rows)
        self._ipsets = ipsets

    def set_of(self, name: str) -> MemberIndex:
        return _LiveSet(name, self._ipsets)


def denied_flows(
    flows: Iterable[Flow],
    endpoints: Collection[EndpointRow],
    own: Collection[Address],
    state: State,
    *,
    everything: bool,
) -> list[Flow]:
    """Those that a policy which cuts denies now (``everything``: any policy), in either direction.

    ``own`` are the node's addresses: what it sends to its pods is never policed.
    """
    holders: Mapping[Address, EndpointRow] = {address: row for row in endpoints for address in row.addresses}
    found: list[Flow] = []
    for flow in flows:
        source, destination = flow.original.source, flow.reply.source
        sender, receiver = holders.get(source), holders.get(destination)
        if receiver is not None and source in own:
            receiver = None
        if sender is None and receiver is None:
            continue
        packet = _packet(flow)
        if (sender is not None and _cut(state, sender.egress, "egress", packet, everything=everything)) or (
            receiver is not None and _cut(state, receiver.ingress, "ingress", packet, everything=everything)
        ):
            found.append(flow)
    return found


def _packet(flow: Flow) -> Packet:
    """As the forward hook saw the first one: the destination translated, the source not yet."""
    protocol = flow.original.protocol
    ports = protocol in WITH_PORTS
    return Packet(
        flow.original.source,
        flow.reply.source,
        protocol,
        flow.original.source_port if ports else None,
        flow.reply.source_port if ports else None,
        _ECHO.get(protocol),
        0 if protocol in _ECHO else None,
    )


def _cut(
    state: State, applied: AppliedPolicies, direction: Direction, packet: Packet, *, everything: bool
) -> bool:
    steps: list[Step] = []
    outcome = evaluate(state, applied, direction, asking(packet, state), steps=steps)
    if outcome.verdict == "allow":
        return False
    if everything:
        return True
    if outcome.decided_by == "rule":
        decisive = steps[-1].policy
        return decisive is not None and _cuts(state, decisive)
    tiers = applied.tiers
    if outcome.decided_by == "tier-end":
        tiers = tuple(tier for tier in tiers if tier.name == steps[-1].tier)
    return any(_cuts(state, policy) for tier in tiers for policy in tier.policies)


def _cuts(state: State, policy: PolicyKey) -> bool:
    row = state.policies.get(policy)
    return row is not None and row.applies_to_established
