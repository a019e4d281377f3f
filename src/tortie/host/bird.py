"""What a running BIRD says of itself and its BGP sessions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BirdSession:
    """One BGP protocol of BIRD's.

    ``up`` is BIRD's own word for an established session; ``state`` is the state of the BGP machine (``Established``, ``Active``,
    ``Connect``, ``OpenSent``, ``Idle``, ``Passive``); ``since`` is the time of the last change as BIRD prints it;
    ``reason`` is BIRD's last error, empty when there was none. ``imported`` counts the routes that came in.
    """

    name: str
    up: bool
    state: str
    since: str
    address: str = ""
    as_number: int = 0
    reason: str = ""
    imported: int = 0
    exported: int = 0


@dataclass(frozen=True, kw_only=True)
class BirdStatus:
    """The daemon: ``recovering`` while graceful restart still holds back changes of the FIB."""

    version: str
    router_id: str
    started: str
    configured: str
    recovering: bool = False
