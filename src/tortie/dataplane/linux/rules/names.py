"""The names under which everything stands in the kernel."""

from __future__ import annotations

import base64
import hashlib
import string
from typing import Final

from tortie.desired.ipsets import ALL_HOSTS, ALL_POOLS, MASQUERADE_POOLS

_IN_ORDER: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase

TABLE: Final = "tortie"
SCHEMA: Final = 4
"""Raise it when a set changes its type: the next agent then replaces the table as a whole, in one batch."""

RAW_PREROUTING: Final = "raw-prerouting"
FORWARD_FROM: Final = "filter-forward-from"
FORWARD_TO: Final = "filter-forward-to"
INPUT_FROM: Final = "filter-input-from"
INPUT_TO_HOST: Final = "filter-input-to-host"
POSTROUTING: Final = "nat-postrouting"
WORKLOAD_SOURCE: Final = "workload-source"
FROM_WORKLOAD: Final = "from-workload"
RELATED_FROM_WORKLOAD: Final = "related-from-workload"
TO_WORKLOAD: Final = "to-workload"
WORKLOAD_TO_HOST: Final = "workload-to-host"
TO_HOST_ACTION: Final = "endpoint-to-host-action"
ARP_INPUT: Final = "arp-input"
WORKLOAD_ARP: Final = "workload-arp"
WORKLOAD_LINK_LOCAL: Final = "workload-link-local"

HOST_RAW_IN: Final = "raw-host-in"
HOST_RAW_OUT: Final = "raw-host-out"
HOST_PRE_DNAT: Final = "mangle-host-pre-dnat"
HOST_IN: Final = "filter-host-in"
HOST_OUT: Final = "filter-host-out"
HOST_FORWARD_IN: Final = "filter-host-forward-in"
HOST_FORWARD_OUT: Final = "filter-host-forward-out"

INTERFACES: Final = "workload-interfaces"
"""Every interface of a workload."""
ADDRESSES: Final = "workload-addresses"
"""Interface and source address: what a workload holds."""
PREFIXES: Final = "workload-prefixes"
"""Interface and source prefix: what it may send from beside that."""
LINK_LOCAL_SOURCES: Final = "link-local-sources"
"""Interface and IPv6 link-local address: what workloads were seen to send from lately. The rules fill it."""
LINK_LOCAL_RATES: Final = "link-local-rates"
"""Interface: how fast new ones of these come."""
FROM_MAP: Final = "from-workload-map"
TO_MAP: Final = "to-workload-map"
"""Interface to the group of those that are treated alike, for what comes from and what goes to a workload."""
FROM_GROUPS: Final = "from-workload-groups"
TO_GROUPS: Final = "to-workload-groups"
"""Group to its chain. Apart from the maps above, since the kernel walks all that a verdict map leads to when it gets an element:
one workload more is no new way."""
GROUP_LETTERS, GROUP_BYTES, GROUP_MARK = 11, 12, b"grp:"
"""A group in the maps; in the verdict maps the mark comes before it. It is loaded before the first map is asked: nft 1.0.6 cannot
show, and ends, where it sees no more of a key than that another map brought it. Of a key of 16 letters it reads 15."""

BUILT_IN_IPSETS: Final = (MASQUERADE_POOLS, ALL_POOLS, ALL_HOSTS)
"""IP sets that rules refer to whether a row fills them or not."""

_LONGEST = 120
"""The kernel takes 255 bytes for a name; nft 1.0.6 shows no more than 127."""


def ipset(ipset: str, kind: str) -> str:
    """Where an IP set stands while it holds members of this kind (see `rules.elements`)."""
    name = ipset.replace(":", "-")
    return f"{name}.{kind}" if kind else name


def bounded(name: str) -> str:
    """A name that the kernel takes: one that is too long ends in a digest of all of it."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 17]}.{digest(name)}"


def is_of_policy(chain: str) -> bool:
    """Not of the frame around policies, nor of a HostEndpoint's place."""
    return "/" in chain


def group_digest(of: object) -> str:
    """As `digest`, in as many letters as a map has room for."""
    found = hashlib.blake2b(repr(of).encode(), digest_size=9).digest()
    return base64.urlsafe_b64encode(found).decode()[:GROUP_LETTERS]


def in_order(number: int, length: int) -> str:
    """So many letters that sort as the numbers do."""
    letters = ""
    for _ in range(length):
        number, place = divmod(number, len(_IN_ORDER))
        letters = _IN_ORDER[place] + letters
    return letters


def digest(of: object) -> str:
    """Sixteen hexadecimal digits of what this value shows of itself."""
    return hashlib.blake2b(repr(of).encode(), digest_size=8).hexdigest()
