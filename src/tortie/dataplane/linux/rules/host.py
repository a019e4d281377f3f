"""HostEndpoints: base chains at each place of a packet's way where one of them has a say.

What comes in meets *untracked* (before conntrack), *pre-DNAT* (before the destination is translated), then *in* (for the node
itself) or *forward*; what goes out meets *untracked* and *out*, or *forward*. Each place has a verdict map from the interface to
the chain of its group; what no element names goes to the HostEndpoint for all interfaces, if there is one. Fail-safe ports
are asked of first. A workload's interface, and the loopback, are never meant by "all interfaces".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from tortie.dataplane.linux.rules import marks, names
from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules.chains import established_rule, neighbours_accept
from tortie.dataplane.linux.rules.groups import FORWARD, PRE_DNAT, UNTRACKED, WORKLOAD, Kind
from tortie.dataplane.linux.rules.rule_match import of_rule
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.ipsets import ALL_HOSTS
from tortie.desired.policies import AppliedPolicies, EntityMatch, PortRange, RuleRow
from tortie.desired.settings import FailsafePort, SettingsRow
from tortie.host.nft import (
    ACCEPT,
    DROP,
    FAMILIES,
    Chain,
    ChainKey,
    Compare,
    Expression,
    Family,
    Hook,
    Lookup,
    NftKey,
    NftValue,
    Payload,
    Rule,
    Set,
    SetKey,
    Verdict,
    VerdictLookup,
    interface_key,
)

PlaceName = Literal[
    "ingress",
    "egress",
    "forward_ingress",
    "forward_egress",
    "untracked_ingress",
    "untracked_egress",
    "pre_dnat",
]


class HostPlace(NamedTuple):
    """``row`` is the row's field. ``failsafes``: which ports are open whatever policy says; ``tracked``: conntrack has been
    there; ``final``: an Allow of an earlier place ends this one too."""

    row: PlaceName
    chain: str
    hook: Hook
    kind: Kind
    incoming: bool
    failsafes: bool = True
    tracked: bool = True
    final: bool = True


PLACES: Final = (
    HostPlace(
        "untracked_ingress", names.HOST_RAW_IN, Hook("filter", "prerouting", -299), UNTRACKED["ingress"],
        incoming=True, tracked=False, final=False,
    ),
    HostPlace(
        "untracked_egress", names.HOST_RAW_OUT, Hook("filter", "output", -299), UNTRACKED["egress"],
        incoming=False, tracked=False, final=False,
    ),
    HostPlace("pre_dnat", names.HOST_PRE_DNAT, Hook("filter", "prerouting", -150), PRE_DNAT, incoming=True),
    HostPlace(
        "forward_ingress", names.HOST_FORWARD_IN, Hook("filter", "forward", -1), FORWARD["ingress"],
        incoming=True, failsafes=False,
    ),
    HostPlace(
        "forward_egress", names.HOST_FORWARD_OUT, Hook("filter", "forward", 2), FORWARD["egress"],
        incoming=False, failsafes=False, final=False,
    ),
    HostPlace("ingress", names.HOST_IN, Hook("filter", "input", 2), WORKLOAD["ingress"], incoming=True),
    HostPlace("egress", names.HOST_OUT, Hook("filter", "output", 0), WORKLOAD["egress"], incoming=False),
)  # fmt: skip
_ALWAYS = ("ingress", "egress")
"""Where a HostEndpoint that says nothing denies; at the other places it then has no say."""


def applied(row: HostEndpointRow, place: HostPlace) -> AppliedPolicies:
    """What the row says at this place."""
    found: AppliedPolicies = getattr(row, place.row)
    return found


def places_of(rows: Iterable[HostEndpointRow]) -> list[HostPlace]:
    """Where any of them has a say. Marks that untracked or pre-DNAT policy leaves are cleared at the first place of all."""
    rows = list(rows)
    if not rows:
        return []
    said = {place.row for place in PLACES for row in rows if applied(row, place).tiers}
    if "pre_dnat" in said:
        said.add("untracked_ingress")
    return [place for place in PLACES if place.row in said or place.row in _ALWAYS]


def map_name(place: HostPlace) -> str:
    return f"{place.chain}-map"


def of_place(
    place: HostPlace, settings: SettingsRow, elsewhere: Mapping[Family, str]
) -> dict[NftKey, NftValue]:
    """The base chain, its map and its sets; ``elsewhere``: the chain of the HostEndpoint for all interfaces, if any is."""
    found: dict[NftKey, NftValue] = {}
    for family in FAMILIES:
        rules: list[Rule] = _before(place, family, settings)
        if place.failsafes:
            rules += _failsafes(place, family, settings, found)
        load = m.interface("iifname" if place.incoming else "oifname", "")[0]
        rules.append(m.rule(load, VerdictLookup(map_name(place))))
        if family in elsewhere:
            for prefix in settings.interface_prefixes:
                rules.append(m.rule(m.interface(_direction(place), prefix), ACCEPT, comment="a workload's"))
            loopback = load, Compare("eq", interface_key("lo"))
            rules.append(m.rule(loopback, ACCEPT, comment="the loopback"))
            rules.append(m.rule(Verdict("goto", elsewhere[family]), comment="all other interfaces"))
        found[SetKey(family, map_name(place))] = Set(("ifname",), verdicts=True)
        found[ChainKey(family, place.chain)] = Chain.of(*rules, hook=place.hook)
    return found


def _direction(place: HostPlace) -> str:
    return "iifname" if place.incoming else "oifname"


def _before(place: HostPlace, family: Family, settings: SettingsRow) -> list[Rule]:
    """What passes, or is dropped, before anybody is asked."""
    rules: list[Rule] = []
    bit = marks.accepted(settings)
    if place.tracked:
        rules.append(established_rule())
    else:
        rules.append(m.rule(marks.clear(bit), comment="left by a tunnel"))
    if place.final:
        rules.append(m.rule(marks.has(bit), ACCEPT, comment="allowed by untracked or pre-DNAT policy"))
    if family == "ip6":
        rules += neighbours_accept()
    if place.row in _ALWAYS:
        if settings.drop_invalid:
            comment = "no flow that conntrack can follow"
            rules.append(m.rule(m.ct_state(m.INVALID), m.counted(DROP), comment=comment))
        rules += _tunnels(place, family, settings)
    return rules


def _tunnels(place: HostPlace, family: Family, settings: SettingsRow) -> list[Rule]:
    """Pods' packets between nodes: what is in them meets policy of its own."""
    address = m.source(family) if place.incoming else m.destination(family)
    other: tuple[Expression, ...] = (address, Lookup(ALL_HOSTS))
    port = Payload("transport", 2, 2), Compare("eq", settings.vxlan_port.to_bytes(2, "big"))
    rules = [m.rule(m.protocol(17), port, other, ACCEPT, comment="VXLAN between nodes")]
    if family == "ip":
        rules.append(m.rule(m.protocol(4), other, ACCEPT, comment="IPIP between nodes"))
    return rules


def _failsafes(
    place: HostPlace, family: Family, settings: SettingsRow, sets: dict[NftKey, NftValue]
) -> list[Rule]:
    there = settings.failsafe_inbound if place.incoming else settings.failsafe_outbound
    back = settings.failsafe_outbound if place.incoming else settings.failsafe_inbound
    found = _open(place, family, there, sets, port="destination")
    if not place.tracked:
        # Without conntrack the answers must be let through as well.
        found += _open(place, family, back, sets, port="source")
    return found


def _open(
    place: HostPlace,
    family: Family,
    ports: Iterable[FailsafePort],
    sets: dict[NftKey, NftValue],
    *,
    port: Literal["source", "destination"],
) -> list[Rule]:
    grouped: dict[tuple[int, str], list[FailsafePort]] = {}
    for each in ports:
        grouped.setdefault((each.protocol, str(each.net or "")), []).append(each)
    rules: list[Rule] = []
    for (protocol, _), among in sorted(grouped.items()):
        nets = None if among[0].net is None else (among[0].net,)
        ranges = tuple(PortRange(each.port, each.port) for each in among)
        ends = {"source": EntityMatch(), "destination": EntityMatch()}
        ends[port] = EntityMatch(ports=ranges)
        other = "source" if place.incoming else "destination"
        ends[other] = EntityMatch(ports=ends[other].ports, nets=nets)
        row = RuleRow(
            action="Allow", protocol=protocol, source=ends["source"], destination=ends["destination"]
        )
        matches = of_rule(family, row, lambda _, ipset: ipset)
        sets |= matches.sets
        rules += (m.rule(match, ACCEPT, comment="fail-safe ports") for match in matches.alternatives)
    return rules
