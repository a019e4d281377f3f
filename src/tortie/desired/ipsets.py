"""Named sets of addresses that rules refer to."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.desired.table import Table
from tortie.net.addresses import Prefix

MASQUERADE_POOLS = "masq-ipam-pools"
"""Pools whose traffic to the outside is masqueraded."""
ALL_POOLS = "all-ipam-pools"
"""Every pool, also one that is disabled or terminating: traffic to these is never masqueraded."""
ALL_HOSTS = "all-hosts"
"""The addresses of every node."""


@dataclass(frozen=True, kw_only=True)
class IPSetRow:
    """The members may overlap and be of both IP versions; the dataplane merges and splits them."""

    members: frozenset[Prefix]


IPSETS: Table[str, IPSetRow] = Table("ipsets", IPSetRow)
