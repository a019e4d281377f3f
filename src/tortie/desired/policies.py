"""Policies and profiles, resolved: what the kernel's rules, the verdicts and their explanation are all made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tortie.desired.table import Table
from tortie.net.addresses import Prefix

Action = Literal["Allow", "Deny", "Pass", "Log"]
Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


class PolicyKey(NamedTuple):
    """A policy as its users name it. ``kind`` is Calico's, and ``KubernetesNetworkPolicy`` for Kubernetes' NetworkPolicy;
    ``namespace`` is empty for a global one."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class PortRange(NamedTuple):
    """Both ends belong to it."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


class ICMPMatch(NamedTuple):
    """An ICMP type and, unless None, a code."""

    type: int
    code: int | None = None


class Written(NamedTuple):
    """One criterion of a rule as its author wrote it: ``("source.selector", "app == 'web'")``."""

    field: str
    text: str


@dataclass(frozen=True, kw_only=True)
class EntityMatch:
    """One side of a packet: everything that is set must hold.

    ``nets`` None means any address; else one of them must hold the packet's (an empty tuple: none does). The address must be in
    each of ``sets`` and in none of ``not_sets`` (ids of IPSETS). ``ports`` and ``named_ports`` are alternatives: the port is in
    one of the ranges, or address, protocol and port are in one of these IP sets of ports. Likewise ``not_ports`` and
    ``not_named_ports``: in none.
    """

    nets: tuple[Prefix, ...] | None = None
    not_nets: tuple[Prefix, ...] = ()
    sets: tuple[str, ...] = ()
    not_sets: tuple[str, ...] = ()
    ports: tuple[PortRange, ...] = ()
    named_ports: tuple[str, ...] = ()
    not_ports: tuple[PortRange, ...] = ()
    not_named_ports: tuple[str, ...] = ()


ANYWHERE = EntityMatch()


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """One rule. Protocols are numbers. An ``icmp`` match belongs to the rule's protocol: 1 (IPv4) or 58 (IPv6).

    ``index`` counts from 0 within its direction, as in the resource. ``written`` and ``line`` (0: unknown) are for people: two
    rules that differ in nothing else are the same to the kernel.
    """

    action: Action
    ip_version: Literal[4, 6] | None = None
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: ICMPMatch | None = None
    not_icmp: ICMPMatch | None = None
    source: EntityMatch = ANYWHERE
    destination: EntityMatch = ANYWHERE
    index: int = 0
    written: tuple[Written, ...] = ()
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class PolicyRow:
    """A policy that some local endpoint is selected by. ``staged`` ones are evaluated, counted and shown, not enforced.

    ``file`` and ``line`` say where it was applied from, if that is known and still true. ``invalid`` is why a policy that could
    not be taken stands here with one rule that denies (rule 3 of the architecture).
    """

    tier: str
    order: float | None = None
    ingress: tuple[RuleRow, ...] = ()
    egress: tuple[RuleRow, ...] = ()
    staged: bool = False
    applies_to_established: bool = False
    """A new deny here cuts running connections (annotation ``tortie.io/applies-to-established``)."""
    invalid: str = ""
    file: str = ""
    line: int = 0

    def rules(self, direction: Direction) -> tuple[RuleRow, ...]:
        return self.ingress if direction == "ingress" else self.egress


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """The rules that hold where no policy decided."""

    ingress: tuple[RuleRow, ...] = ()
    egress: tuple[RuleRow, ...] = ()

    def rules(self, direction: Direction) -> tuple[RuleRow, ...]:
        return self.ingress if direction == "ingress" else self.egress


@dataclass(frozen=True, kw_only=True)
class TierRow:
    """The policies of one tier that select an endpoint in one direction, in their order; never none.

    A tier whose policies are all staged denies nothing at its end (``default_action`` is then "Pass").
    """

    name: str
    default_action: Literal["Deny", "Pass"]
    policies: tuple[PolicyKey, ...]


@dataclass(frozen=True, kw_only=True)
class AppliedPolicies:
    """What holds for an endpoint in one direction: tiers in their order, then profiles. Equal ones are one object, so that
    the many endpoints that are treated alike share one chain. What reaches the end of a workload's profiles is dropped."""

    tiers: tuple[TierRow, ...] = ()
    profiles: tuple[str, ...] = ()


POLICIES: Table[PolicyKey, PolicyRow] = Table("policies", PolicyRow)
PROFILES: Table[str, ProfileRow] = Table("profiles", ProfileRow)
