"""What the kernel has counted for policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NO_MATCH = "NoMatch"
"""The action of a staged policy of which no rule matched: it would leave the packet to the end of its tier, unless another policy
there decided."""


@dataclass(frozen=True, kw_only=True)
class PolicyCount:
    """Packets that one rule has matched, or that came to the end of a tier or of all profiles, since its counter is there.

    ``decided_by`` as the verdict engine says it; ``rule`` counts from 0 and is None where no rule decided. What a staged policy
    leaves to the end of its tier is its own, with the action `NO_MATCH`.
    """

    direction: Literal["ingress", "egress"]
    decided_by: Literal["rule", "tier-end", "profile", "no-profile"]
    action: str
    tier: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    rule: int | None = None
    staged: bool = False
    packets: int = 0
    bytes: int = 0
