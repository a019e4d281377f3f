"""What workloads may tell the node of neighbours.

The kernel notes whoever asks for one of the node's addresses, in a table that all namespaces of the machine share and that
is soon full (``gc_thresh3``: 1024). A workload that asks in many names would keep all others, and the node, from finding
anyone. So ARP is heard only from the addresses that an interface holds. IPv6 needs link-local sources besides, and nobody knows
them beforehand: each interface has a few, and new ones only so fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tortie.dataplane.linux.rules import matches as m
from tortie.dataplane.linux.rules import names
from tortie.desired.settings import SettingsRow
from tortie.host.nft import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    ChainKey,
    Compare,
    Hook,
    Learn,
    Limit,
    Lookup,
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
)

BURST: Final = 16
"""So many link-local addresses at once; a pod has one, or a few when it is made anew under the name of another."""
A_MINUTE: Final = 6
"""And so many new ones a minute after that."""
REMEMBERED_SECONDS: Final = 120
"""So long one is known; then it is new again. Not renewed, or the known ones would grow without bound."""
_RATE_SECONDS: Final = 600
"""A bucket that was not touched for so long is full anyway."""
_MOST: Final = 65535

LEARNED: Mapping[str, Set] = {
    names.LINK_LOCAL_SOURCES: Set(("ifname", "ipv6_addr"), lasts_seconds=REMEMBERED_SECONDS, size=_MOST),
    names.LINK_LOCAL_RATES: Set(("ifname",), lasts_seconds=_RATE_SECONDS, size=_MOST),
}
_REQUEST = b"\0\1"


def arp_table(settings: SettingsRow) -> dict[NftKey, NftValue]:
    """The table that sees ARP."""
    sets = {
        names.INTERFACES: Set(("ifname",)),
        names.ADDRESSES: Set(("ifname", "ipv4_addr")),
        names.PREFIXES: Set(("ifname", "ipv4_addr"), intervals=True),
    }
    entry = [
        m.rule(m.interface("iifname", prefix), Verdict("goto", names.WORKLOAD_ARP))
        for prefix in settings.interface_prefixes
    ]
    found: dict[NftKey, NftValue] = {TableKey("arp"): Table("arp", names.TABLE, names.SCHEMA)}
    found |= {SetKey("arp", name): spec for name, spec in sets.items()}
    found[ChainKey("arp", names.WORKLOAD_ARP)] = Chain.of(*_senders())
    found[ChainKey("arp", names.ARP_INPUT)] = Chain.of(*entry, hook=Hook("filter", "input", 0))
    return found


def _senders() -> list[Rule]:
    known = m.known_interface(names.INTERFACES)
    request = Payload("network", 6, 2), Compare("eq", _REQUEST)
    nobody = m.arp_sender(), Compare("eq", bytes(4))
    return [
        *(
            m.rule(Meta("iifname", 1), m.arp_sender(2), Lookup(own), ACCEPT)
            for own in (names.ADDRESSES, names.PREFIXES)
        ),
        m.rule(known, request, nobody, ACCEPT, comment="whether an address is free (RFC 5227)"),
        m.rule(known, m.counted(DROP), comment="spoofed ARP sender"),
        m.rule(m.counted(DROP), comment="unknown workload interface"),
    ]


def link_local_sources() -> Chain:
    """Whatever the node answers makes a neighbour, so all packets from such sources are counted, not only discovery."""
    pair = Meta("iifname", 1), m.source("ip6", 2)
    limit = Limit(packets=A_MINUTE, unit_seconds=60, burst=BURST, over=True)
    too_fast = Meta("iifname"), Learn(names.LINK_LOCAL_RATES, renew=True, limit=limit)
    return Chain.of(
        m.rule(pair, Lookup(names.LINK_LOCAL_SOURCES), RETURN, comment="known; never forwarded"),
        m.rule(too_fast, m.counted(DROP), comment="too many link-local addresses"),
        m.rule(pair, Learn(names.LINK_LOCAL_SOURCES), RETURN, comment="a new one"),
        m.rule(m.counted(DROP), comment="too many link-local addresses"),
    )


def no_link_local_beyond(settings: SettingsRow) -> list[Rule]:
    """The kernel would forward such a packet back over the interface that it came from, and look for whom it names."""
    destination = m.link_local(m.destination("ip6"))
    return [
        m.rule(
            m.interface("iifname", prefix),
            destination,
            m.counted(DROP),
            comment="link-local: never forwarded",
        )
        for prefix in settings.interface_prefixes
    ]
