"""NAT of what leaves the pools (Calico: ``natOutgoing``)."""

from __future__ import annotations

from tortie.dataplane.linux.rules import matches as m
from tortie.desired.ipsets import ALL_HOSTS, ALL_POOLS, MASQUERADE_POOLS
from tortie.desired.settings import SettingsRow
from tortie.host.nft import Expression, Family, Load, Lookup, Masquerade, Nat, Rule
from tortie.net.addresses import Address

_TCP, _UDP = 6, 17
_ADDRESS, _LOW, _HIGH = 1, 2, 3


def postrouting(family: Family, settings: SettingsRow) -> list[Rule]:
    """From a pool with outgoing NAT to no pool, and where so configured to no node: give it the node's address.

    A port range holds for TCP and UDP; what has no ports is translated without.
    """
    leaves: list[Expression] = [
        m.source(family), Lookup(MASQUERADE_POOLS), m.destination(family), Lookup(ALL_POOLS, inverted=True)
    ]  # fmt: skip
    if settings.nat_outgoing_exclusions == "IPPoolsAndHostIPs":
        leaves += [m.destination(family), Lookup(ALL_HOSTS, inverted=True)]
    ports = settings.nat_port_range
    rules: list[Rule] = []
    if ports is not None:
        load = (Load(ports[0].to_bytes(2, "big"), _LOW), Load(ports[1].to_bytes(2, "big"), _HIGH))
        for number, named in ((_TCP, "tcp"), (_UDP, "udp")):
            translate = _translate(family, settings, ports=True)
            rules.append(m.rule(m.protocol(number), leaves, load, translate, comment=f"natOutgoing, {named}"))
    rules.append(m.rule(leaves, _translate(family, settings, ports=False), comment="natOutgoing"))
    return rules


def _translate(family: Family, settings: SettingsRow, *, ports: bool) -> tuple[Expression, ...]:
    low, high = (_LOW, _HIGH) if ports else (0, 0)
    if settings.nat_outgoing_address:
        address = Address.parse(settings.nat_outgoing_address)
        if (address.version == 4) == (family == "ip"):
            nat = Nat("snat", family, _ADDRESS, low, high, fully_random=True)
            return Load(address.packed, _ADDRESS), nat
    return (Masquerade(fully_random=True, port_low_register=low, port_high_register=high),)
