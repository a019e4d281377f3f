"""The workloads of this node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tortie.desired.policies import AppliedPolicies
from tortie.desired.table import Table
from tortie.net.addresses import Address, Prefix


class EndpointKey(NamedTuple):
    """A WorkloadEndpoint by namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


UNGUARDED = AppliedPolicies()
"""No policy and no profile: everything is dropped."""


@dataclass(frozen=True, kw_only=True)
class EndpointRow:
    """One local workload's interface.

    ``revision`` is its resource's: an ADD waits until this very revision is real. ``addresses`` are those that it may
    use: one that another endpoint holds by right is missing here (and reported as a problem).
    """

    interface: str
    addresses: tuple[Address, ...]
    allowed_sources: tuple[Prefix, ...] = ()
    """Further sources that it may send from (annotation ``allowedSourcePrefixes``)."""
    mac: str = ""
    up: bool = True
    """False when it holds no address any more: its interface is set down."""
    ingress: AppliedPolicies = UNGUARDED
    egress: AppliedPolicies = UNGUARDED
    revision: str = ""
    created: str = ""
    """When its resource was made, as that says (RFC 3339)."""


ENDPOINTS: Table[EndpointKey, EndpointRow] = Table("endpoints", EndpointRow)
