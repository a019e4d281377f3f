"""Policy against this machine's kernel: 5,000 policies and 1,000 endpoints at once, and one change among them."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from tests.bench.figures import Figure
from tests.kernel.dataplane_world import RETURN, default_ipsets, ipset_deltas
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.desired.policies import (
    POLICIES,
    PROFILES,
    AppliedPolicies,
    EntityMatch,
    PolicyKey,
    PolicyRow,
    PortRange,
    ProfileRow,
    RuleRow,
    TierRow,
)
from tortie.desired.settings import NODE, SETTINGS
from tortie.desired.table import Delta, Flush
from tortie.kernel import netns
from tortie.kernel.rtnetlink import RouteSocket
from tortie.kernel.rtnetlink_codec import VethEnd
from tortie.net.addresses import Address, Prefix

ENDPOINTS_HERE = 1000
POLICY_COUNT = 5000
GROUPS = 100
"""Endpoints that are treated alike share one; each walks its share of the policies, and one that selects everybody."""
MEMBER_COUNT = 100_000
RUNS = 50


async def run() -> list[Figure]:
    name = f"bench-{os.getpid()}"
    netns.create(name)
    try:
        return await _figures(name)
    finally:
        netns.delete(name)


async def _figures(name: str) -> list[Figure]:
    with RouteSocket(name) as routes:
        routes.set_link(1, up=True)
        for number in range(ENDPOINTS_HERE + 1):
            routes.create_veth(VethEnd(name=f"cali{number:x}", up=True), VethEnd(name=f"p{number:x}"))
    plane = LinuxDataplane(namespace=name)
    await plane.start()
    endpoints = dict(map(_endpoint, range(ENDPOINTS_HERE)))
    await _apply(
        plane,
        Delta(SETTINGS, {NODE: RETURN}),
        *ipset_deltas(default_ipsets()),
        _PROFILE,
        Delta(ENDPOINTS, endpoints),
    )
    policies = {_key(number): _policy(number) for number in range(POLICY_COUNT)}
    load = await _apply(
        plane,
        Delta(IPSETS, {"s:many": IPSetRow()}),
        Delta(MEMBERS, {_member(number): PRESENT for number in range(1000)}),
        Delta(POLICIES, policies),
        Delta(ENDPOINTS, {key: _guarded(row, number) for number, (key, row) in enumerate(endpoints.items())}),
    )
    writes = plane.kernel_writes
    again = await _apply(plane, Delta(POLICIES, policies))
    assert plane.kernel_writes == writes
    edits = [await _apply(plane, Delta(POLICIES, {_key(0): _policy(0, run)})) for run in range(1, RUNS + 1)]
    assert plane.kernel_writes == writes + RUNS, "one batch an edit"
    added = _endpoint(ENDPOINTS_HERE)
    one = {added[0]: _guarded(added[1], 0)}
    adds: list[float] = []
    for _ in range(RUNS):
        adds.append(await _apply(plane, Delta(ENDPOINTS, one)))
        await _apply(plane, Delta(ENDPOINTS, {}, frozenset(one)))
    counting = await _counting(plane)
    many = {_member(number): PRESENT for number in range(1000, MEMBER_COUNT)}
    filled = await _apply(plane, Delta(MEMBERS, many))
    members = [
        await _apply(plane, Delta(MEMBERS, {_member(MEMBER_COUNT + number): PRESENT}))
        for number in range(RUNS)
    ]
    await plane.close()
    beside = f"{ENDPOINTS_HERE:,} endpoints and {POLICY_COUNT:,} policies"
    everybody = f"edit a policy that selects every endpoint, of {beside}"
    return [
        _figure(
            f"load {POLICY_COUNT:,} policies of 3 rules for {ENDPOINTS_HERE:,} endpoints", f"{load:.2f} s"
        ),
        _figure("apply them again (no write)", _ms([again])),
        Figure(
            subject="policy",
            what=everybody,
            value=_ms(edits),
            runs=str(RUNS),
            target="p99 below 200 ms",
            met=max(edits) < 0.2,
        ),
        _figure(f"one endpoint more, beside {beside}", _ms(adds), RUNS),
        _figure("read every rule's counter", _ms([counting])),
        _figure(f"fill a selector's set with {MEMBER_COUNT:,} addresses", f"{filled:.2f} s"),
        _figure("one address more in it", _ms(members), RUNS),
    ]


def _figure(what: str, value: str, runs: int = 1) -> Figure:
    return Figure(subject="policy", what=what, value=value, runs=str(runs))


_ALLOW = (RuleRow(action="Allow"),)
_PROFILE = Delta(PROFILES, {"kns.default": ProfileRow(ingress=_ALLOW, egress=_ALLOW)})
_OPEN = AppliedPolicies(profiles=("kns.default",))


def _key(number: int) -> PolicyKey:
    return PolicyKey("NetworkPolicy", "default", f"p{number}")


def _policy(number: int, edit: int = 0) -> PolicyRow:
    low = number % 60_000 + 1

    def rule(index: int, port: int, action: Any, entity: EntityMatch) -> RuleRow:
        to = EntityMatch(ports=(PortRange(port, port), PortRange(port + 7, port + 9)))
        return RuleRow(action=action, protocol=6, source=entity, destination=to, index=index)

    rules = (
        rule(0, low, "Allow", EntityMatch(sets=("s:many",))),
        rule(1, low + edit, "Deny", EntityMatch(nets=(Prefix.parse("203.0.113.0/24"),))),
        rule(2, low + 1, "Allow", EntityMatch()),
    )
    return PolicyRow(tier="default", order=float(number), ingress=rules)


def _endpoint(number: int) -> tuple[EndpointKey, EndpointRow]:
    addresses = (
        Address(4, Address.parse("10.65.0.0").value + number),
        Address(6, Address.parse("fd65::").value + number),
    )
    row = EndpointRow(interface=f"cali{number:x}", addresses=addresses, ingress=_OPEN, egress=_OPEN)
    return EndpointKey("default", f"pod{number}"), row


def _applied(group: int) -> AppliedPolicies:
    numbers = (0, *range(group + 1, POLICY_COUNT, GROUPS))
    tier = TierRow(name="default", default_action="Deny", policies=tuple(map(_key, numbers)))
    return AppliedPolicies(tiers=(tier,), profiles=("kns.default",))


_APPLIED = [_applied(group) for group in range(GROUPS)]


def _guarded(row: EndpointRow, number: int) -> EndpointRow:
    return EndpointRow(
        interface=row.interface, addresses=row.addresses, ingress=_APPLIED[number % GROUPS], egress=_OPEN
    )


def _member(number: int) -> Member:
    return Member("s:many", Address(4, Address.parse("10.128.0.0").value + number).prefix)


async def _apply(plane: LinuxDataplane, *deltas: Delta[Any, Any]) -> float:
    began = time.perf_counter()
    applied = await plane.apply(Flush(1, deltas, in_sync=True))
    took = time.perf_counter() - began
    assert not applied.failed, next(iter(applied.failed.items()))
    return took


async def _counting(plane: LinuxDataplane) -> float:
    began = time.perf_counter()
    assert len(await plane.policy_counts()) > POLICY_COUNT
    return time.perf_counter() - began


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    median = f"{statistics.median(ordered) * 1000:.3g} ms"
    return median if len(ordered) < 10 else f"{median}, p99 {ordered[int(len(ordered) * 0.99)] * 1000:.3g} ms"
