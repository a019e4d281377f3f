"""The chains that stand whether or not there are workloads, and the sets that they refer to."""

from __future__ import annotations

from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules import names
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
    Mask,
    NftKey,
    NftValue,
    Payload,
    Rule,
    Set,
    SetKey,
    Table,
    TableKey,
    Verdict,
    VerdictLookup,
)
from tortie.net.addresses import Address

_ICMPV6 = 58
_LOOPBACK, _LOOPBACK_MASK = b"\x7f\0\0\0", b"\xff\0\0\0"
_DESTINATION_TRANSLATED = 1 << 5
"""IPS_DST_NAT of ``linux/netfilter/nf_conntrack_common.h``."""
_LINK_LOCAL = Address.parse("fe80::").packed
_LINK_LOCAL_MASK = b"\xff\xc0" + bytes(14)
_MULTICAST_LISTENER = (130, 132)
_DISCOVERY = (133, 136)
_SOLICITATION = (135, 135)
_LISTENER_REPORT_V2 = (143, 143)


def ipset_spec(family: Family) -> Set:
    """The type of a set of prefixes."""
    return Set((ADDRESS_FIELD[family],), intervals=True)


def sets(family: Family) -> dict[SetKey, Set]:
    """The sets that the chains refer to, with their types."""
    address = ADDRESS_FIELD[family]
    found = {
        names.INTERFACES: Set(("ifname",)),
        names.ADDRESSES: Set(("ifname", address)),
        names.PREFIXES: Set(("ifname", address), intervals=True),
        names.FROM_MAP: Set(("ifname",), verdicts=True),
        names.TO_MAP: Set(("ifname",), verdicts=True),
    }
    found |= dict.fromkeys(names.BUILT_IN_IPSETS, ipset_spec(family))
    return {SetKey(family, name): spec for name, spec in found.items()}


def frame(settings: SettingsRow) -> dict[NftKey, NftValue]:
    """Everything of both tables that depends on settings alone."""
    found: dict[NftKey, NftValue] = {}
    for family in FAMILIES:
        found[TableKey(family)] = Table(family, names.TABLE, names.SCHEMA)
        found |= dict(sets(family).items())
        for name, chain in _chains(family, settings).items():
            found[ChainKey(family, name)] = chain
    return found


def _chains(family: Family, settings: SettingsRow) -> dict[str, Chain]:
    prefixes = settings.interface_prefixes
    established = m.rule(m.ct_state(m.ESTABLISHED_OR_RELATED), ACCEPT, comment="flows that were allowed")
    return {
        names.WORKLOAD_SOURCE: Chain.of(*_workload_source(family)),
        names.FROM_WORKLOAD: Chain.of(*_dispatch("iifname", names.FROM_MAP)),
        names.TO_WORKLOAD: Chain.of(*_dispatch("oifname", names.TO_MAP)),
        names.WORKLOAD_TO_HOST: Chain.of(established, *_workload_to_host(family, settings)),
        names.RAW_PREROUTING: Chain.of(
            *(m.rule(m.interface("iifname", p), Verdict("goto", names.WORKLOAD_SOURCE)) for p in prefixes),
            hook=Hook("filter", "prerouting", -300),
        ),
        names.FORWARD: Chain.of(
            established,
            *(m.rule(m.interface("iifname", p), Verdict("jump", names.FROM_WORKLOAD)) for p in prefixes),
            *(m.rule(m.interface("oifname", p), Verdict("jump", names.TO_WORKLOAD)) for p in prefixes),
            hook=Hook("filter", "forward", 0),
        ),
        names.INPUT: Chain.of(
            *(m.rule(m.interface("iifname", p), Verdict("goto", names.WORKLOAD_TO_HOST)) for p in prefixes),
            hook=Hook("filter", "input", 0),
        ),
        names.POSTROUTING: Chain.of(*postrouting(family, settings), hook=Hook("nat", "postrouting", 110)),
    }


def _workload_source(family: Family) -> list[Rule]:
    """Return to the caller what a workload may send; count and drop the rest."""
    rules = [
        m.rule(m.sends_from(family, names.ADDRESSES), RETURN),
        m.rule(m.sends_from(family, names.PREFIXES), RETURN),
    ]
    if family == "ip6":
        known = m.known_interface(names.INTERFACES)
        link_local = (m.source("ip6"), Mask(_LINK_LOCAL_MASK, bytes(16)), Compare("eq", _LINK_LOCAL))
        unspecified = (m.source("ip6"), Compare("eq", bytes(16)))
        rules.append(m.rule(known, link_local, RETURN, comment="link-local: never forwarded"))
        rules.extend(
            m.rule(known, unspecified, _icmpv6(*kinds), RETURN, comment="before an address is had (RFC 4862)")
            for kinds in (_SOLICITATION, _MULTICAST_LISTENER, _LISTENER_REPORT_V2)
        )
    rules.append(m.rule(m.known_interface(names.INTERFACES), m.counted(DROP), comment="spoofed source"))
    rules.append(m.rule(m.counted(DROP), comment="unknown workload interface"))
    return rules


def _icmpv6(low: int, high: int) -> tuple[Expression, ...]:
    """ICMPv6 of these types."""
    kind = Compare("eq", bytes([low])) if low == high else InRange(bytes([low]), bytes([high]))
    return *m.protocol(_ICMPV6), Payload("transport", 0, 1), kind


def _dispatch(direction: str, verdict_map: str) -> list[Rule]:
    """What the map says of the interface; an interface that it does not know is dropped."""
    load = m.interface(direction, "")[0]
    return [
        m.rule(m.ct_state(m.INVALID), m.counted(DROP), comment="no flow that conntrack can follow"),
        m.rule(load, VerdictLookup(verdict_map)),
        m.rule(m.counted(DROP), comment="unknown workload interface"),
    ]


def _workload_to_host(family: Family, settings: SettingsRow) -> list[Rule]:
    rules: list[Rule] = []
    if family == "ip":
        # With route_localnet, which lets translated ports reach the loopback, a pod could name it as well.
        loopback = (m.destination("ip"), Mask(_LOOPBACK_MASK, bytes(4)), Compare("eq", _LOOPBACK))
        untranslated = m.ct_status_without(_DESTINATION_TRANSLATED)
        rules.append(m.rule(loopback, untranslated, m.counted(DROP), comment="the node's loopback"))
    else:
        rules.extend(
            m.rule(_icmpv6(*kinds), ACCEPT, comment="neighbour discovery, multicast listeners")
            for kinds in (_MULTICAST_LISTENER, _DISCOVERY)
        )
    rules.append(m.rule(Verdict("jump", names.FROM_WORKLOAD)))
    action = settings.endpoint_to_host_action
    if action != "Return":
        verdict = m.counted(DROP) if action == "Drop" else (ACCEPT,)
        rules.append(m.rule(verdict, comment=f"defaultEndpointToHostAction: {action}"))
    return rules
