"""The names under which everything stands in the kernel."""

from __future__ import annotations

from typing import Final

from tortie.desired.ipsets import ALL_HOSTS, ALL_POOLS, MASQUERADE_POOLS

TABLE: Final = "tortie"
SCHEMA: Final = 1
"""Raise it when a set changes its type: the next agent then replaces the table as a whole, in one batch."""

RAW_PREROUTING: Final = "raw-prerouting"
FORWARD: Final = "filter-forward"
INPUT: Final = "filter-input"
POSTROUTING: Final = "nat-postrouting"
WORKLOAD_SOURCE: Final = "workload-source"
FROM_WORKLOAD: Final = "from-workload"
TO_WORKLOAD: Final = "to-workload"
WORKLOAD_TO_HOST: Final = "workload-to-host"

INTERFACES: Final = "workload-interfaces"
"""Every interface of a workload."""
ADDRESSES: Final = "workload-addresses"
"""Interface and source address: what a workload holds."""
PREFIXES: Final = "workload-prefixes"
"""Interface and source prefix: what it may send from beside that."""
FROM_MAP: Final = "from-workload-map"
TO_MAP: Final = "to-workload-map"
"""Interface to verdict, for what comes from and what goes to a workload."""

BUILT_IN_IPSETS: Final = (MASQUERADE_POOLS, ALL_POOLS, ALL_HOSTS)
"""IP sets that rules refer to whether a row fills them or not."""
