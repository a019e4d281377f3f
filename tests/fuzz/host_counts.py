"""What nodes and their HostEndpoints decided, how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from tests.fuzz.counts import columns
from tests.oracle.judge import Decision, Oracle, Verdict
from tests.oracle.policies import Direction

PLACES = ("own", "untracked", "pre-dnat", "forward")
ENDS = (
    *(f"{place} {action}" for place in PLACES for action in ("Allow", "Deny")),
    "own tier-end", "own profile Allow", "own profile Deny", "own no-profile", "own failsafe", "own host",
    "forward tier-end", "forward not asked", "before policy host", "node host", "Pass", "Log", "staged", "tier-end Pass",
    "tier-end of no say", "by eth0", "by its addresses", "by *", "ingress", "egress",
)  # fmt: skip
ENOUGH = 100


class HostCounts:
    """Of HostEndpoints alone; the policies of pods are counted in their own fuzz."""

    def __init__(self) -> None:
        self.pairs = 0
        self.at_hosts = 0
        self.ends: Counter[str] = Counter()

    def add(self, oracle: Oracle, verdict: Verdict) -> None:
        """One pair."""
        del oracle
        self.pairs += 1
        sides: tuple[tuple[Direction, Decision | None], ...] = (
            ("egress", verdict.egress),
            ("ingress", verdict.ingress),
        )
        self.at_hosts += any(side is not None and side.endpoint.kind == "HostEndpoint" for _, side in sides)
        for direction, decision in sides:
            if decision is not None:
                self._decision(direction, decision)

    def _decision(self, direction: Direction, decision: Decision) -> None:
        self.ends.update(set(decision.passed))
        if not decision.place:
            return
        action = "Allow" if decision.allowed else "Deny"
        what = {"rule": action, "profile": f"profile {action}"}.get(decision.decided_by, decision.decided_by)
        self.ends[f"{decision.place} {what}"] += 1
        guard = decision.endpoint
        if guard.kind == "HostEndpoint":
            self.ends[direction] += 1
            self.ends[f"by {guard.interface or 'its addresses'}"] += 1

    def too_few(self, enough: int = ENOUGH, but: Collection[str] = ()) -> list[str]:
        """What decided less often than it should; ``but`` what comes too seldom for that."""
        few = [f"{name}: {self.ends[name]}" for name in ENDS if name not in but and self.ends[name] < enough]
        if 3 * self.at_hosts < self.pairs:
            few.append(f"{self.at_hosts} of {self.pairs} pairs were decided by a HostEndpoint")
        return few

    def lines(self) -> Iterator[str]:
        """For people."""
        share = 100 * self.at_hosts // max(self.pairs, 1)
        yield f"{self.pairs} pairs with nodes, {self.at_hosts} ({share} %) decided by a HostEndpoint"
        yield from columns([f"{name}: {self.ends[name]}" for name in ENDS])
