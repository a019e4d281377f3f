"""The node's own interfaces, where HostEndpoints guard them."""

from __future__ import annotations

from dataclasses import dataclass

from tortie.desired.policies import AppliedPolicies
from tortie.desired.table import Table
from tortie.net.addresses import Address

ALL_INTERFACES = "*"

NOTHING_APPLIED = AppliedPolicies()


@dataclass(frozen=True, kw_only=True)
class HostEndpointRow:
    """``interface`` is a name, `ALL_INTERFACES` (each that is no workload's and that no other HostEndpoint names), or empty:
    then it is the one that carries one of the ``expected`` addresses.

    ``ingress`` and ``egress`` guard the node's own traffic: what no policy and no profile allows is dropped, but for the
    fail-safe ports. ``forward_*`` (applyOnForward) guard what is routed through; without any policy there it passes.
    ``untracked_*`` (doNotTrack) come before conntrack, ``pre_dnat`` before the destination is translated; in these two nothing
    is dropped at a tier's end. Only ``ingress`` and ``egress`` have profiles.
    """

    interface: str
    expected: tuple[Address, ...] = ()
    ingress: AppliedPolicies = NOTHING_APPLIED
    egress: AppliedPolicies = NOTHING_APPLIED
    forward_ingress: AppliedPolicies = NOTHING_APPLIED
    forward_egress: AppliedPolicies = NOTHING_APPLIED
    untracked_ingress: AppliedPolicies = NOTHING_APPLIED
    untracked_egress: AppliedPolicies = NOTHING_APPLIED
    pre_dnat: AppliedPolicies = NOTHING_APPLIED


HOST_ENDPOINTS: Table[str, HostEndpointRow] = Table("host-endpoints", HostEndpointRow)
"""By the HostEndpoint's name; only this node's."""
