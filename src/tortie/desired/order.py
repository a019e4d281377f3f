"""In which order tables become real: forwards for what is put, backwards for what goes."""

from __future__ import annotations

from typing import Any

from tortie.desired.bgp import BGP_NODE, BGP_PEERS
from tortie.desired.endpoints import ENDPOINTS
from tortie.desired.host_endpoints import HOST_ENDPOINTS
from tortie.desired.ipsets import IPSETS, MEMBERS
from tortie.desired.policies import POLICIES, PROFILES
from tortie.desired.routes import ROUTES
from tortie.desired.settings import SETTINGS
from tortie.desired.table import Table

ORDER: tuple[Table[Any, Any], ...] = (
    SETTINGS,
    IPSETS,
    MEMBERS,
    PROFILES,
    POLICIES,
    HOST_ENDPOINTS,
    ENDPOINTS,
    ROUTES,
    BGP_NODE,
    BGP_PEERS,
)
"""A table stands after every table whose rows it refers to."""
