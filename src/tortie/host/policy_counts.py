"""What the kernel has counted for policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PolicyCount:
    """Packets that one rule has matched, or that came to the end of a tier or of all profiles, since its counter is there.

    ``decided_by`` as the verdict engine says it; ``rule`` counts from 0 and is None where no rule decided.
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
