"""What selectors find: endpoints, host endpoints and network sets, each with its labels, addresses and named ports."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tortie.calc.active_policies import ActivePolicies, HostKey
from tortie.calc.host_endpoints import HostEndpointsNode
from tortie.calc.ipset_members import IPSetMembers, NamedPort
from tortie.calc.policy_selectors import NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT
from tortie.calc.profiles import ProfilesNode
from tortie.calc.rules import PROTOCOLS
from tortie.calc.scope import Scope
from tortie.desired.endpoints import EndpointKey
from tortie.net.addresses import Prefix
from tortie.resources.host_endpoint import HostEndpointSpec
from tortie.resources.network_set import NetworkSetSpec
from tortie.resources.resource import Resource
from tortie.resources.workload_endpoint import EndpointPort, WorkloadEndpointSpec


class LabelledNode:
    """In: WorkloadEndpoint, HostEndpoint, NetworkSet, GlobalNetworkSet. Out: all of them to `IPSetMembers`, the local endpoints
    also to `ActivePolicies` and `ProfilesNode`."""

    def __init__(
        self,
        scope: Scope,
        members: IPSetMembers,
        active: ActivePolicies,
        profiles: ProfilesNode,
        host_endpoints: HostEndpointsNode,
    ) -> None:
        self._scope = scope
        self._members = members
        self._active = active
        self._profiles = profiles
        self._host_endpoints = host_endpoints

    def on_workload(
        self,
        key: EndpointKey,
        resource: Resource[WorkloadEndpointSpec] | None,
        addresses: tuple[Prefix, ...] = (),
    ) -> None:
        if resource is None:
            self._members.drop(key)
        else:
            spec = resource.spec
            labels = {
                **resource.metadata.labels,
                NAMESPACE: key.namespace,
                ORCHESTRATOR: spec.orchestrator,
            }
            if spec.service_account_name:
                labels[SERVICE_ACCOUNT] = spec.service_account_name
            self._members.put(key, labels, spec.profiles, addresses, _ports(spec.ports))
            if self._scope.is_local(spec.node):
                self._active.put(key, labels, spec.profiles)
                self._profiles.name(key, spec.profiles)
                return
        self._active.drop(key)
        self._profiles.name(key, ())

    def on_host_endpoint(self, name: str, resource: Resource[HostEndpointSpec] | None) -> None:
        """Its addresses are those that it says to expect, and no others, as Calico has it: also when it is for all interfaces."""
        key = HostKey(name)
        if resource is None:
            self._members.drop(key)
        else:
            spec = resource.spec
            labels = resource.metadata.labels
            self._members.put(key, labels, spec.profiles, _prefixes(spec.expected_ips), _ports(spec.ports))
            if self._scope.is_local(spec.node):
                self._active.put(key, labels, spec.profiles)
                self._profiles.name(key, spec.profiles)
                self._host_endpoints.put(name, spec)
                return
        self._active.drop(key)
        self._profiles.name(key, ())
        self._host_endpoints.drop(name)

    def on_network_set(self, namespace: str, name: str, resource: Resource[NetworkSetSpec] | None) -> None:
        """``namespace`` is empty for a global one."""
        key = ("network set", namespace, name)
        if resource is None:
            self._members.drop(key)
            return
        labels: Mapping[str, str] = resource.metadata.labels
        parents: tuple[str, ...] = ()
        if namespace:
            labels = {**labels, NAMESPACE: namespace}
            parents = (f"kns.{namespace}",)
        self._members.put(key, labels, parents, _prefixes(resource.spec.nets))


def _prefixes(texts: Iterable[str]) -> tuple[Prefix, ...]:
    return tuple(dict.fromkeys(Prefix.parse(text, strict=False) for text in texts))


def _ports(ports: Iterable[EndpointPort]) -> tuple[NamedPort, ...]:
    return tuple(
        NamedPort(sys.intern(port.name), _number(port.protocol), port.port) for port in ports if port.name
    )


def _number(protocol: Any) -> int:
    text = str(protocol).lower()
    return PROTOCOLS.get(text) or (int(text) if text.isdigit() else 0)
