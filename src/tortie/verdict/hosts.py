"""The hooks of a HostEndpoint in the order in which a packet meets them.

What comes in: untracked, before the destination is translated, then either the node's own or what is forwarded. What goes out:
the node's own, of which untracked policy is asked first, or what is forwarded. An Allow of untracked or preDNAT policy is final
for this HostEndpoint and direction, as Calico has it. A fail-safe port passes each hook by, and is allowed at the node's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tortie.desired.host_endpoints import ALL_INTERFACES, HostEndpointRow
from tortie.desired.policies import AppliedPolicies, Direction
from tortie.desired.settings import FailsafePort, SettingsRow
from tortie.net.addresses import Address
from tortie.verdict.beforehand import is_neighbours_talk, is_tunnel_of_nodes
from tortie.verdict.engine import Asked, Outcome, Place, evaluate
from tortie.verdict.packet import Packet
from tortie.verdict.state import State
from tortie.verdict.steps import Step


class Hook(NamedTuple):
    """One of them. ``drops`` says whether what no policy decided is dropped there (after profiles)."""

    name: str
    applied: AppliedPolicies
    failsafes: bool
    tiers_end: bool
    drops: bool


def hooks(row: HostEndpointRow, direction: Direction, *, forwarded: bool) -> Iterator[Hook]:
    """Those that this packet meets."""
    ingress = direction == "ingress"
    if ingress or not forwarded:
        untracked = row.untracked_ingress if ingress else row.untracked_egress
        yield Hook("untracked", untracked, failsafes=True, tiers_end=False, drops=False)
    if ingress:
        yield Hook("preDNAT", row.pre_dnat, failsafes=True, tiers_end=False, drops=False)
    if forwarded:
        through = row.forward_ingress if ingress else row.forward_egress
        yield Hook("forward", through, failsafes=False, tiers_end=True, drops=False)
    else:
        own = row.ingress if ingress else row.egress
        yield Hook("own traffic", own, failsafes=True, tiers_end=True, drops=True)


def decide_at_host(
    state: State,
    settings: SettingsRow,
    name: str,
    direction: Direction,
    packet: Packet,
    asked: Asked,
    *,
    forwarded: bool,
    steps: list[Step] | None = None,
) -> Outcome:
    """One HostEndpoint, one direction. What is forwarded and concerns no policy of it is allowed by "host"."""
    row = state.host_endpoints[name]
    if is_neighbours_talk(packet):
        return Outcome("allow", "host")
    endpoint = f"HostEndpoint {name}"
    for hook in hooks(row, direction, forwarded=forwarded):
        if hook.drops and is_tunnel_of_nodes(packet, direction, settings, state):
            return Outcome("allow", "host")
        if hook.failsafes and is_failsafe(settings, direction, packet, untracked=hook.name == "untracked"):
            if hook.drops:
                return Outcome("allow", "failsafe")
            continue
        place = Place(endpoint=endpoint, tiers_end=hook.tiers_end)
        outcome = evaluate(state, hook.applied, direction, asked, place=place, steps=steps)
        if outcome.verdict is not None:
            return outcome
        if hook.drops:
            return Outcome("deny", "no-profile")
    return Outcome("allow", "host")


def is_failsafe(
    settings: SettingsRow, direction: Direction, packet: Packet, *, untracked: bool = False
) -> bool:
    """Whether the packet goes to a fail-safe port; without conntrack also whether it is the answer of one."""
    inbound = direction == "ingress"
    there = settings.failsafe_inbound if inbound else settings.failsafe_outbound
    if _among(there, packet, packet.destination_port, inbound=inbound):
        return True
    back = settings.failsafe_outbound if inbound else settings.failsafe_inbound
    return untracked and _among(back, packet, packet.source_port, inbound=inbound)


def _among(ports: Iterable[FailsafePort], packet: Packet, port: int | None, *, inbound: bool) -> bool:
    other = packet.source if inbound else packet.destination
    return any(
        each.protocol == packet.protocol and each.port == port and (each.net is None or each.net.holds(other))
        for each in ports
    )


def host_endpoint_of(
    rows: Iterable[tuple[str, HostEndpointRow]], packet: Packet, direction: Direction, *, forwarded: bool
) -> tuple[str, HostEndpointRow, bool] | None:
    """Of one node's HostEndpoints the one that this packet most likely meets, and whether that is certain.

    Which one it is depends on the interface, which no row knows. As in the kernel, one for a single interface comes before one
    for all: of these the one that expects the node's address in the packet, else the first that expects no other.
    """
    found = sorted(rows)
    near = packet.destination if direction == "ingress" else packet.source
    single = [each for each in found if each[1].interface != ALL_INTERFACES]
    expecting = [each for each in single if near in each[1].expected]
    if len(expecting) == 1:
        return (*expecting[0], True)
    if not forwarded:
        single = expecting or [each for each in single if not _expects_others(each[1], near)]
    everywhere = [each for each in found if each[1].interface == ALL_INTERFACES]
    for some in (single, everywhere):
        if some:
            return (*some[0], len(found) == 1)
    return None


def _expects_others(row: HostEndpointRow, address: Address) -> bool:
    versions = {each.version for each in row.expected}
    return address.version in versions and address not in row.expected
