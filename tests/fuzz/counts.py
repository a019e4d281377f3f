"""What decided, how often: so that nobody believes a fuzz which never reached the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.oracle.judge import Decision, Oracle, Verdict
from tests.oracle.policies import Direction

RULE_FIELDS = (
    "ipVersion", "protocol", "notProtocol", "icmp.type", "icmp.code", "notICMP.type", "notICMP.code",
    *(
        f"{side}.{field}"
        for side in ("source", "destination")
        for field in (
            "nets", "notNets", "selector", "notSelector", "namespaceSelector", "namespace",
            "serviceAccounts.names", "serviceAccounts.selector", "services",
            "ports:number", "ports:range", "ports:name", "notPorts:number", "notPorts:range", "notPorts:name",
        )
    ),
    "k8s.podSelector", "k8s.namespaceSelector", "k8s.ipBlock", "k8s.ipBlock.except",
    "k8s.ports:number", "k8s.ports:range", "k8s.ports:name", "k8s.ports:protocol",
)  # fmt: skip
POLICY_FIELDS = (
    "policy.selector", "policy.namespaceSelector", "policy.serviceAccountSelector", "policy.namespace",
    "policy.podSelector",
)  # fmt: skip
ENDS = (
    "Allow", "Deny", "Pass", "Log", "tier-end Deny", "tier-end Pass", "staged", "types",
    "order", "tie-break", "tier order", "profile Allow", "profile Deny", "no-profile",
)  # fmt: skip
ENOUGH = 500


class Counts:
    """``hits``: packets decided by a rule (of a policy) that has the field. ``misses``: packets that passed a rule by
    for this field alone (policies that passed a workload by)."""

    def __init__(self) -> None:
        self.pairs = 0
        self.by_rule = 0
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()

    def add(self, oracle: Oracle, verdict: Verdict) -> None:
        """One pair."""
        self.pairs += 1
        decisions: list[tuple[Direction, Decision]] = []
        if verdict.egress is not None:
            decisions.append(("egress", verdict.egress))
        if verdict.ingress is not None:
            decisions.append(("ingress", verdict.ingress))
        self.by_rule += any(decision.decided_by == "rule" for _, decision in decisions)
        for direction, decision in decisions:
            self._decision(oracle, direction, decision)

    def _decision(self, oracle: Oracle, direction: Direction, decision: Decision) -> None:
        self.hits.update(set(decision.rule.fields) if decision.rule else ())
        self.misses.update({field for fields in decision.missed for field in fields})
        self.ends.update(set(decision.passed))
        action = "Allow" if decision.allowed else "Deny"
        match decision.decided_by:
            case "rule":
                self.ends[action] += 1
            case "tier-end":
                self.ends["tier-end Deny"] += 1
            case "profile":
                self.ends[f"profile {action}"] += 1
            case "no-profile":
                self.ends["no-profile"] += 1
            case _:  # what nodes decide is counted elsewhere
                pass
        self._policies(oracle, direction, decision)

    def _policies(self, oracle: Oracle, direction: Direction, decision: Decision) -> None:
        """What chose and ordered the policies on the way."""
        labels = decision.endpoint.labels
        if decision.policy is not None:
            self.hits.update({name for name, _ in decision.policy.parts if decision.policy.written["spec"]})
        tiers = oracle.applied(decision.endpoint, direction)
        for policy in oracle.policies:
            missed = [name for name, matches in policy.parts if not matches(labels)]
            if direction in policy.types and len(missed) == 1:
                self.misses[missed[0]] += 1
            if not missed and direction not in policy.types and policy.rules[direction]:
                self.ends["types"] += 1
        if len(tiers) > 1 and decision.policy is not None:
            self.ends["tier order"] += 1
        for _, policies in tiers:
            if decision.policy in policies and len(policies) > 1:
                self.ends["order"] += 1
                ranks = [policy.rank[0] for policy in policies]
                self.ends["tie-break"] += ranks.count(decision.policy.rank[0]) > 1

    def too_few(self, enough: int = ENOUGH) -> list[str]:
        """What decided less often than it should; all of it in a line each."""
        few = [f"{name}: {self.ends[name]} decided" for name in ENDS if self.ends[name] < enough]
        for name in (*RULE_FIELDS, *POLICY_FIELDS):
            for what, counter in (("matched", self.hits), ("missed", self.misses)):
                if counter[name] < enough:
                    few.append(f"{name}: {counter[name]} {what}")
        if 3 * self.by_rule < self.pairs:
            few.append(f"{self.by_rule} of {self.pairs} pairs were decided by a rule")
        return few

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.pairs} pairs, {self.by_rule} ({100 * self.by_rule // max(self.pairs, 1)} %) decided by a rule"
        yield f"{'field':<36}{'matched':>10}{'missed by it alone':>20}"
        for name in (*RULE_FIELDS, *POLICY_FIELDS):
            yield f"{name:<36}{self.hits[name]:>10}{self.misses[name]:>20}"
        yield from columns([f"{name}: {self.ends[name]}" for name in ENDS])


def columns(words: Sequence[str], width: int = 4) -> Iterator[str]:
    for at in range(0, len(words), width):
        yield "".join(f"{word:<26}" for word in words[at : at + width]).rstrip()
