"""Every kind there is. A new kind is one module with an ``INFO`` and one line here."""

from __future__ import annotations

from tortie.errors import UsageError
from tortie.resources import (
    allocation_block,
    bgp_configuration,
    bgp_peer,
    block_affinity,
    cluster_information,
    endpoint_slice,
    endpoints,
    felix_configuration,
    global_network_policy,
    global_network_set,
    host_endpoint,
    ip_pool,
    ip_reservation,
    ipam_configuration,
    ipam_handle,
    kubernetes_network_policy,
    namespace,
    network_policy,
    network_set,
    node,
    pod,
    profile,
    service,
    service_account,
    staged_global_network_policy,
    staged_kubernetes_network_policy,
    staged_network_policy,
    tier,
    workload_endpoint,
)
from tortie.resources.kind_info import KindInfo
from tortie.resources.resource import Kind

__all__ = ["KINDS", "KindInfo", "by_document", "find", "info"]

KINDS: tuple[KindInfo, ...] = (
    ip_pool.INFO,
    ip_reservation.INFO,
    ipam_configuration.INFO,
    node.INFO,
    workload_endpoint.INFO,
    bgp_configuration.INFO,
    bgp_peer.INFO,
    felix_configuration.INFO,
    cluster_information.INFO,
    block_affinity.INFO,
    profile.INFO,
    network_policy.INFO,
    global_network_policy.INFO,
    tier.INFO,
    network_set.INFO,
    global_network_set.INFO,
    host_endpoint.INFO,
    staged_network_policy.INFO,
    staged_global_network_policy.INFO,
    staged_kubernetes_network_policy.INFO,
    kubernetes_network_policy.INFO,
    pod.INFO,
    namespace.INFO,
    service_account.INFO,
    service.INFO,
    endpoint_slice.INFO,
    endpoints.INFO,
    allocation_block.INFO,
    ipam_handle.INFO,
)

_BY_KIND = {each.kind: each for each in KINDS}
_BY_DOCUMENT = {
    (version, each.kind.name): each for each in KINDS for version in (each.api_version, *each.older)
}
_BY_WORD = {word.lower(): each for each in KINDS for word in (*each.words, each.title, *each.qualified)}


def info(kind: Kind) -> KindInfo:
    """What is known of a kind. Raises `UsageError` for one that Tortie does not have."""
    try:
        return _BY_KIND[kind]
    except KeyError:
        raise UsageError(f"there is no kind {kind.name} in group {kind.group or 'core'}") from None


def by_document(api_version: str, kind: str) -> KindInfo | None:
    """The kind that a document's ``apiVersion`` and ``kind`` name, or None."""
    return _BY_DOCUMENT.get((api_version, kind))


def find(word: str) -> KindInfo:
    """The kind that a user means: ``ippools``, ``IPPool``, ``ipp``, ``ippools.projectcalico.org``; upper and lower case do
    not matter.

    Raises `UsageError`, which lists the kinds.
    """
    found = _BY_WORD.get(word.lower())
    if found is None:
        kinds = ", ".join(each.words[0] for each in KINDS if each.for_users)
        raise UsageError(f"there is no kind {word!r}; the kinds are {kinds}")
    return found
