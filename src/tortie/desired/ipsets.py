"""Named sets that rules refer to, and their members, one row each: a set of a hundred thousand changes at the cost of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

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
    """``holds`` says what its members are: prefixes, which may overlap and be of both IP versions (the dataplane merges and
    splits them), or single addresses with a protocol and a port. ``meaning`` is for people: the selector, the service."""

    holds: Literal["prefixes", "ports"] = "prefixes"
    meaning: str = ""


class Member(NamedTuple):
    """One member of one set. ``protocol`` (a number) and ``port`` only in a set of ports, whose prefix is a single address."""

    ipset: str
    prefix: Prefix
    protocol: int = 0
    port: int = 0

    def __str__(self) -> str:
        port = f" {self.protocol} {self.port}" if self.port else ""
        return f"{self.ipset} {self.prefix}{port}"


PRESENT: Final = True
"""The row of every member."""

IPSETS: Table[str, IPSetRow] = Table("ipsets", IPSetRow)
MEMBERS: Table[Member, bool] = Table("members", bool)
