"""The chains that stand whether or not there are workloads, and the sets that they refer to."""

from __future__ import annotations

from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules import names, neighbours
from tortie.dataplane.linux.rules.elements import ipset_spec
from tortie.dataplane.linux.rules.nat import postrouting
from tortie.desired.settings import SettingsRow
from tortie.host.nft import (
    ACCEPT,
    ADDRESS_FIELD,
    DROP,
    FAMILIES,
    RETURN,
    Chain,
    ChainKey,
    Compare,
    Expression,
    Family,
    Hook,
    InRange,
    Load,
    MapLookup,
    Mask,
    Meta,
    NftKey,
    NftValue,
    Payload,
    Rule,
    Set,
    SetKey,
    Table,
    TableKey,
    Verdict,
    VerdictKind,
    VerdictLookup,
)

_IPIP, _UDP, _ICMPV6 = 4, 17, 58
_AFTER_MARK = 9
"""The register that begins four bytes after the first one."""
_LOOPBACK, _LOOPBACK_MASK = b"\x7f\0\0\0", b"\xff\0\0\0"
_DESTINATION_TRANSLATED = 1 << 5
"""IPS_DST_NAT of ``linux/netfilter/nf_conntrack_common.h``."""
_MULTICAST_LISTENER = (130, 132)
_DISCOVERY = (133, 136)
_SOLICITATION = (135, 135)
_LISTENER_REPORT_V2 = (143, 143)


def sets(family: Family) -> dict[SetKey, Set]:
    """The sets that the chains refer to, with their types."""
    address = ADDRESS_FIELD[family]
    found = {
        names.INTERFACES: Set(("ifname",)),
        names.ADDRESSES: Set(("ifname", address)),
        names.PREFIXES: Set(("ifname", address), intervals=True),
        names.FROM_MAP: Set(("ifname",), data_bytes=names.GROUP_BYTES),
        names.TO_MAP: Set(("ifname",), data_bytes=names.GROUP_BYTES),
        names.FROM_GROUPS: Set(("ifname",), verdicts=True),
        names.TO_GROUPS: Set(("ifname",), verdicts=True),
    }
    found |= dict.fromkeys(names.BUILT_IN_IPSETS, ipset_spec(family, "nets"))
    if family == "ip6":
        found |= neighbours.LEARNED
    return {SetKey(family, name): spec for name, spec in found.items()}


def frame(settings: SettingsRow) -> dict[NftKey, NftValue]:
    """Everything of our tables that depends on settings alone."""
    found = neighbours.arp_table(settings)
    for family in FAMILIES:
        found[TableKey(family)] = Table(family, names.TABLE, names.SCHEMA)
        found |= dict(sets(family).items())
        for name, chain in _chains(family, settings).items():
            found[ChainKey(family, name)] = chain
    return found


def _chains(family: Family, settings: SettingsRow) -> dict[str, Chain]:
    """Forwarded packets pass two chains of the same hook, so that what one side allows is still asked of the other side."""
    prefixes = settings.interface_prefixes
    established = established_rule()
    # What is related, of a workload, is looked at more closely.
    running = m.rule(m.ct_state(m.ESTABLISHED), ACCEPT, comment="flows that were allowed")
    related = m.rule(m.ct_state(m.RELATED), Verdict("goto", names.RELATED_FROM_WORKLOAD))

    def each(direction: str, kind: VerdictKind, chain: str) -> list[Rule]:
        return [m.rule(m.interface(direction, prefix), Verdict(kind, chain)) for prefix in prefixes]

    guard = neighbours.no_link_local_beyond(settings) if family == "ip6" else []
    own = {names.WORKLOAD_LINK_LOCAL: neighbours.link_local_sources()} if family == "ip6" else {}
    return own | {
        names.WORKLOAD_SOURCE: Chain.of(*_workload_source(family)),
        names.RELATED_FROM_WORKLOAD: Chain.of(*_related_from_workload(family)),
        names.FROM_WORKLOAD: Chain.of(
            related,
            *_invalid(settings),
            *_tunnels(family, settings),
            *_dispatch("iifname", names.FROM_MAP, names.FROM_GROUPS),
        ),
        names.TO_WORKLOAD: Chain.of(
            *_invalid(settings), *_dispatch("oifname", names.TO_MAP, names.TO_GROUPS)
        ),
        names.WORKLOAD_TO_HOST: Chain.of(running, *_workload_to_host(family)),
        names.TO_HOST_ACTION: Chain.of(established, *_to_host_action(family, settings)),
        names.RAW_PREROUTING: Chain.of(
            *each("iifname", "goto", names.WORKLOAD_SOURCE), hook=Hook("filter", "prerouting", -300)
        ),
        names.FORWARD_FROM: Chain.of(
            *guard,
            running,
            *each("iifname", "goto", names.FROM_WORKLOAD),
            hook=Hook("filter", "forward", 0),
        ),
        names.FORWARD_TO: Chain.of(
            established, *each("oifname", "goto", names.TO_WORKLOAD), hook=Hook("filter", "forward", 1)
        ),
        names.INPUT_FROM: Chain.of(
            *each("iifname", "goto", names.WORKLOAD_TO_HOST), hook=Hook("filter", "input", 0)
        ),
        names.INPUT_TO_HOST: Chain.of(
            *each("iifname", "goto", names.TO_HOST_ACTION), hook=Hook("filter", "input", 1)
        ),
        names.POSTROUTING: Chain.of(*postrouting(family, settings), hook=Hook("nat", "postrouting", 110)),
    }


def established_rule() -> Rule:
    return m.rule(m.ct_state(m.ESTABLISHED | m.RELATED), ACCEPT, comment="flows that were allowed")


def neighbours_accept() -> list[Rule]:
    """IPv6 does not work without; no policy speaks of these."""
    return [
        m.rule(_icmpv6(*kinds), ACCEPT, comment="neighbour discovery, multicast listeners")
        for kinds in (_MULTICAST_LISTENER, _DISCOVERY)
    ]


def _workload_source(family: Family) -> list[Rule]:
    """Return to the caller what a workload may send; count and drop the rest."""
    rules = [
        m.rule(m.sends_from(family, names.ADDRESSES), RETURN),
        m.rule(m.sends_from(family, names.PREFIXES), RETURN),
    ]
    if family == "ip6":
        known = m.known_interface(names.INTERFACES)
        unspecified = (m.source("ip6"), Compare("eq", bytes(16)))
        rules.append(m.rule(known, m.link_local(m.source("ip6")), Verdict("goto", names.WORKLOAD_LINK_LOCAL)))
        rules.extend(
            m.rule(known, unspecified, _icmpv6(*kinds), RETURN, comment="before an address is had (RFC 4862)")
            for kinds in (_SOLICITATION, _MULTICAST_LISTENER, _LISTENER_REPORT_V2)
        )
    rules.append(m.rule(m.known_interface(names.INTERFACES), m.counted(DROP), comment="spoofed source"))
    rules.append(m.rule(m.counted(DROP), comment="unknown workload interface"))
    return rules


def _related_from_workload(family: Family) -> list[Rule]:
    """An ICMP error is related to the flow that it quotes, whoever sends it: a workload tells of its own flows alone."""
    allowed = [
        m.rule(m.takes_part(family, direction, held), ACCEPT, comment="of a flow of its own")
        for direction in ("original", "reply")
        for held in (names.ADDRESSES, names.PREFIXES)
    ]
    return [*allowed, m.rule(m.counted(DROP), comment="an error of a flow between others")]


def _icmpv6(low: int, high: int) -> tuple[Expression, ...]:
    """ICMPv6 of these types."""
    kind = Compare("eq", bytes([low])) if low == high else InRange(bytes([low]), bytes([high]))
    return *m.protocol(_ICMPV6), Payload("transport", 0, 1), kind


def _invalid(settings: SettingsRow) -> list[Rule]:
    if not settings.drop_invalid:
        return []
    comment = "no flow that conntrack can follow"
    return [m.rule(m.ct_state(m.INVALID), m.counted(DROP), comment=comment)]


def _tunnels(family: Family, settings: SettingsRow) -> list[Rule]:
    """A workload that makes tunnels of its own would send past its policy, in the name of the node's."""
    rules: list[Rule] = []
    if not settings.vxlan_from_workloads:
        port = Payload("transport", 2, 2), Compare("eq", settings.vxlan_port.to_bytes(2, "big"))
        rules.append(m.rule(m.protocol(_UDP), port, m.counted(DROP), comment="VXLAN from a workload"))
    if not settings.ipip_from_workloads and family == "ip":
        rules.append(m.rule(m.protocol(_IPIP), m.counted(DROP), comment="IPIP from a workload"))
    return rules


def _dispatch(direction: str, of_interface: str, groups: str) -> list[Rule]:
    """To the chain of the interface's group; an interface that the map does not know, as it has no address of this IP version, is
    dropped."""
    return [
        m.rule(
            Load(names.GROUP_MARK.ljust(16, b"\0"), 1),
            Meta("iifname" if direction == "iifname" else "oifname", 2),
            MapLookup(of_interface, register=2, into=_AFTER_MARK),
            VerdictLookup(groups, register=1),
            comment=f"by the interface's group, which {of_interface} tells",
        ),
        m.rule(m.counted(DROP), comment="no workload with an address of this IP version"),
    ]


def _workload_to_host(family: Family) -> list[Rule]:
    rules: list[Rule] = []
    if family == "ip":
        # With route_localnet, which lets translated ports reach the loopback, a pod could name it as well.
        loopback = (m.destination("ip"), Mask(_LOOPBACK_MASK, bytes(4)), Compare("eq", _LOOPBACK))
        untranslated = m.ct_status_without(_DESTINATION_TRANSLATED)
        rules.append(m.rule(loopback, untranslated, m.counted(DROP), comment="the node's loopback"))
    else:
        rules += neighbours_accept()
    rules.append(m.rule(Verdict("goto", names.FROM_WORKLOAD)))
    return rules


def _to_host_action(family: Family, settings: SettingsRow) -> list[Rule]:
    """After the workload's own policy has allowed it."""
    rules = neighbours_accept() if family == "ip6" else []
    action = settings.endpoint_to_host_action
    if action != "Return":
        verdict = m.counted(DROP) if action == "Drop" else (ACCEPT,)
        rules.append(m.rule(verdict, comment=f"defaultEndpointToHostAction: {action}"))
    return rules
