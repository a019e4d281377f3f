"""One policy of any kind as the graph works with it: what it selects, where it stands, and its rules as a row.

What cannot be taken fails closed (rule 3 of the architecture): all that is readable stays, and its one rule denies. A global
policy whose selector cannot be read selects nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from tortie.calc.established import APPLIES_TO_ESTABLISHED, is_true
from tortie.calc.policy_selectors import global_policy, in_namespace, namespaced_policy
from tortie.calc.rules import RuleCompiler
from tortie.calc.set_definitions import SetDefinition
from tortie.desired.policies import DIRECTIONS, Direction, PolicyKey, PolicyRow, RuleRow, Written
from tortie.desired.table import Problem
from tortie.errors import InvalidResource
from tortie.resources.global_network_policy import GLOBAL_NETWORK_POLICY, GlobalNetworkPolicySpec
from tortie.resources.kubernetes import ORDER, convert, pod_selector
from tortie.resources.kubernetes_network_policy import (
    KUBERNETES_NETWORK_POLICY,
    KubernetesNetworkPolicySpec,
    policy_types,
)
from tortie.resources.network_policy import NETWORK_POLICY, PolicySpec
from tortie.resources.resource import Invalid, Resource, ResourceKey
from tortie.resources.rules import Rule
from tortie.resources.shape import dotted
from tortie.resources.source import source_of
from tortie.resources.staged_global_network_policy import STAGED_GLOBAL_NETWORK_POLICY
from tortie.resources.staged_kubernetes_network_policy import STAGED_KUBERNETES_NETWORK_POLICY
from tortie.resources.staged_network_policy import STAGED_NETWORK_POLICY
from tortie.resources.tier import DEFAULT
from tortie.selector import Selector

POLICY_KINDS = (
    NETWORK_POLICY,
    GLOBAL_NETWORK_POLICY,
    KUBERNETES_NETWORK_POLICY,
    STAGED_NETWORK_POLICY,
    STAGED_GLOBAL_NETWORK_POLICY,
    STAGED_KUBERNETES_NETWORK_POLICY,
)
STAGED = frozenset((STAGED_NETWORK_POLICY, STAGED_GLOBAL_NETWORK_POLICY, STAGED_KUBERNETES_NETWORK_POLICY))
_TYPES: Mapping[str, Direction] = {"ingress": "ingress", "egress": "egress"}
Traffic = Literal["tracked", "untracked", "pre-dnat"]
EVERYWHERE_HINT = "AssumeNeededOnEveryNode"


class Standing(NamedTuple):
    """Where a policy stands among the others, and for which traffic it is: all that ordering needs."""

    tier: str = DEFAULT
    order: float | None = None
    directions: tuple[Direction, ...] = DIRECTIONS
    staged: bool = False
    traffic: Traffic = "tracked"
    forward: bool = False
    everywhere: bool = False
    """Needed on every node, also where it selects nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """``selector`` is None when it selects nothing at all."""

    key: PolicyKey
    standing: Standing
    selector: Selector | None
    row: PolicyRow
    sets: Mapping[str, SetDefinition]
    problem: Problem | None = None


def policy_key(key: ResourceKey) -> PolicyKey:
    return PolicyKey(sys.intern(str(key.kind)), key.within, key.name)


def is_inert(spec: Any) -> bool:
    """Staged as something else than a policy to be: its removal, or a tool's note."""
    return getattr(spec, "staged_action", "Set") not in ("", "Set")


def read(resource: Resource[Any] | Invalid) -> Policy:
    """The policy, whatever is wrong with it."""
    readable = resource.readable if isinstance(resource, Invalid) else resource
    reader = _Reader(resource.key, readable)
    if isinstance(resource, Invalid):
        reader.fail("", resource.reason)
    return reader.policy()


class _Reader:
    """Reads on past what is wrong; the first failure is the policy's."""

    def __init__(self, key: ResourceKey, resource: Resource[Any] | None) -> None:
        self._key = key
        self._resource = resource
        self._failure: Problem | None = None
        self._numbers: dict[Direction, tuple[int, ...]] = {}
        """Of converted rules: which of Kubernetes' rules each came from."""
        self._source = None if resource is None else source_of(resource)

    def fail(self, field: str, reason: str) -> None:
        self._failure = self._failure or Problem(str(self._key), field, reason)

    def policy(self) -> Policy:
        for path in () if self._resource is None else self._resource.unknown:
            if path[:2] in _RULES:
                self.fail(dotted(path), "is not a known field, and without it the rule may mean too much")
        spec = self._spec()
        standing = self._standing(spec)
        selector = self._selector(spec)
        compiler = RuleCompiler(self._key.within)
        rules = {direction: self._rules(spec, direction, standing, compiler) for direction in DIRECTIONS}
        row = PolicyRow(
            tier=standing.tier,
            order=standing.order,
            ingress=rules["ingress"],
            egress=rules["egress"],
            staged=standing.staged,
            file=self._source.file if self._source else "",
            line=self._source.line if self._source else 0,
            applies_to_established=is_true(self._annotation(APPLIES_TO_ESTABLISHED)),
        )
        if self._failure is not None:
            row = _denying(row, standing, self._failure)
        sets = {} if self._failure is not None else compiler.sets
        failure = self._failure
        if failure is not None and selector is None and not standing.staged:
            failure = failure._replace(unsafe=True)
        return Policy(
            key=policy_key(self._key),
            standing=standing,
            selector=selector,
            row=row,
            sets=sets,
            problem=failure,
        )

    def _annotation(self, name: str) -> str | None:
        return None if self._resource is None else self._resource.metadata.annotations.get(name)

    def _spec(self) -> PolicySpec:
        """As Calico's."""
        if self._resource is None:
            return PolicySpec(types=_BOTH)
        spec: PolicySpec | KubernetesNetworkPolicySpec = self._resource.spec
        if isinstance(spec, PolicySpec):
            return spec
        try:
            converted = convert(spec)
        except ValueError as error:
            self.fail("spec", str(error))
            return PolicySpec(order=ORDER, selector=pod_selector(spec.pod_selector), types=policy_types(spec))
        self._numbers = {"ingress": converted.ingress, "egress": converted.egress}
        return converted.spec

    def _standing(self, spec: PolicySpec) -> Standing:
        found = [_TYPES[each.lower()] for each in spec.types if each.lower() in _TYPES]
        for each in spec.types:
            if each.lower() not in _TYPES:
                self.fail("spec.types", f"{each} is neither Ingress nor Egress")
        if not spec.types:
            found = [direction for direction in DIRECTIONS if getattr(spec, direction)] or ["ingress"]
        elif not found:
            found = list(DIRECTIONS)
        standing = Standing(
            tier=sys.intern(spec.tier or DEFAULT),
            order=spec.order,
            directions=tuple(direction for direction in DIRECTIONS if direction in found),
            staged=self._key.kind in STAGED,
            everywhere=EVERYWHERE_HINT in spec.performance_hints,
        )
        if not isinstance(spec, GlobalNetworkPolicySpec):
            return standing
        if spec.pre_dnat and (spec.do_not_track or "egress" in standing.directions):
            self.fail("spec.preDNAT", "is for ingress alone, and cannot stand beside doNotTrack")
        traffic: Traffic = "untracked" if spec.do_not_track else "pre-dnat" if spec.pre_dnat else "tracked"
        return standing._replace(traffic=traffic, forward=spec.apply_on_forward)

    def _selector(self, spec: PolicySpec) -> Selector | None:
        namespace = self._key.within
        try:
            if namespace:
                return namespaced_policy(spec.selector, spec.service_account_selector, namespace)
            if self._resource is None:
                return None
            namespaces: str = getattr(spec, "namespace_selector", "")
            return global_policy(spec.selector, namespaces, spec.service_account_selector)
        except InvalidResource as error:
            self.fail(error.field, _reason(error))
            return Selector(in_namespace(namespace)) if namespace else None

    def _rules(
        self, spec: PolicySpec, direction: Direction, standing: Standing, compiler: RuleCompiler
    ) -> tuple[RuleRow, ...]:
        """Those of a direction that the policy is not for are inert: they are looked at and left out."""
        rules: tuple[Rule, ...] = getattr(spec, direction)
        numbers = self._numbers.get(direction) or range(len(rules))
        inert = direction not in standing.directions
        into = RuleCompiler(compiler.namespace) if inert else compiler
        try:
            rows = tuple(
                into.rule(
                    rule,
                    f"spec.{direction}[{number}]",
                    index=number,
                    line=self._line(direction, number),
                )
                for number, rule in zip(numbers, rules, strict=True)
            )
        except InvalidResource as error:
            self.fail(error.field, _reason(error))
            return ()
        return () if inert else rows

    def _line(self, direction: Direction, number: int) -> int:
        """The line of the file that the rule stands on; 0 when that is not known."""
        return getattr(self._source, direction)[number] if self._source else 0


_RULES = tuple(("spec", direction) for direction in DIRECTIONS)
_BOTH = ("Ingress", "Egress")


def _reason(error: InvalidResource) -> str:
    return f"{error.value} {error.rule}" if error.value is not None else error.rule


def _denying(row: PolicyRow, standing: Standing, problem: Problem) -> PolicyRow:
    why = f"{problem.field}: {problem.reason}" if problem.field else problem.reason
    deny = (RuleRow(action="Deny", written=(Written("invalid", why),)),)
    return replace(
        row,
        ingress=deny if "ingress" in standing.directions else (),
        egress=deny if "egress" in standing.directions else (),
        invalid=why,
    )
