"""Routes that this node's FIB should hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tortie.desired.table import Table
from tortie.net.addresses import Prefix


@dataclass(frozen=True, kw_only=True)
class RouteRow:
    """The one route for a prefix.

    ``kind``: ``local-workload`` leads to ``interface``; ``blackhole`` keeps the rest of a block of ours from following
    the default route. ``advertised``: BGP spreads it (own blocks, and addresses borrowed from other nodes' blocks).
    """

    kind: Literal["local-workload", "blackhole"]
    interface: str = ""
    advertised: bool = False


ROUTES: Table[Prefix, RouteRow] = Table("routes", RouteRow)
