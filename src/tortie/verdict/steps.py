"""What an evaluation tells: its steps, what ended it, and what would have let a dropped packet through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tortie.desired.policies import PolicyKey, RuleRow

Verdict = Literal["allow", "deny"]
DecidedBy = Literal["rule", "tier-end", "profile", "no-profile", "host", "failsafe", "established"]

PROFILE_KIND = "Profile"
"""The kind in a profile's key among steps."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rule that was asked; a policy that has none for this direction (then ``rule`` is None and ``action`` empty); or the end
    of a tier (then ``policy`` is None too).

    ``endpoint`` is whose policy it is. A profile's ``tier`` is empty, its policy's kind is `PROFILE_KIND`. ``invalid`` says why
    a policy could not be taken and denies.
    """

    endpoint: str
    tier: str
    action: str
    matched: bool
    policy: PolicyKey | None = None
    rule: int | None = None
    row: RuleRow | None = None
    staged: bool = False
    invalid: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """The rule that would have allowed the packet and fits best, and the first criterion that it missed. ``field`` is that
    criterion as the rule's author knows it; ``fields`` are all that missed."""

    step: Step
    criterion: str
    field: str
    wanted: str
    got: str
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One direction at one end of the way. ``verdict`` None: nothing stands there that polices this packet.

    ``reason`` is a sentence where no rule decided.
    """

    verdict: Verdict | None = None
    endpoint: str = ""
    decided_by: DecidedBy | None = None
    steps: tuple[Step, ...] = ()
    near_miss: NearMiss | None = None
    reason: str = ""


UNPOLICED = Decision()
