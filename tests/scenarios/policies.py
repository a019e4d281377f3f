"""What the state lists of policies are written with."""

from __future__ import annotations

from typing import Any

from tests.scenarios.build import document, pod, profile
from tests.scenarios.states import EMPTY
from tortie.calc.scope import Scope
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.policies import AppliedPolicies, PolicyKey, ProfileRow, RuleRow, TierRow
from tortie.net.addresses import Address
from tortie.resources.resource import Resource

HERE = Scope("n1")
KNS = ("kns.default",)
ALLOW = RuleRow(action="Allow")
OPEN = ProfileRow(ingress=(ALLOW,), egress=(ALLOW,))


def policy(name: str, spec: str = "", kind: str = "NetworkPolicy", **more: str) -> Resource[Any]:
    """A policy in ``default`` (or global) from the fields of its spec, in YAML's flow style."""
    annotations = "".join(f"{key}: '{value}'" for key, value in more.items())
    metadata = f"name: {name}, annotations: {{{annotations}}}"
    if "Global" not in kind:
        metadata += ", namespace: default"
    return document(f"kind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n")


def tier(name: str, order: float | None = None, action: str = "Deny") -> Resource[Any]:
    order_text = "" if order is None else f"order: {order}, "
    return document(
        f"kind: Tier\nmetadata: {{name: {name}}}\nspec: {{{order_text}defaultAction: {action}}}\n"
    )


def np(name: str, kind: str = "NetworkPolicy") -> PolicyKey:
    return PolicyKey(kind, "default", name)


def gnp(name: str, kind: str = "GlobalNetworkPolicy") -> PolicyKey:
    return PolicyKey(kind, "", name)


def applied(*tiers: TierRow, profiles: tuple[str, ...] = KNS) -> AppliedPolicies:
    return AppliedPolicies(tiers=tiers, profiles=profiles)


def in_tier(name: str, *policies: PolicyKey, end: Any = "Deny") -> TierRow:
    return TierRow(name=name, default_action=end, policies=policies)


def web(ingress: AppliedPolicies, egress: AppliedPolicies) -> dict[EndpointKey, EndpointRow]:
    return {
        EndpointKey("default", "n1-k8s-web-eth0"): EndpointRow(
            interface="cali-web",
            addresses=(Address.parse("10.77.0.1"),),
            ingress=ingress,
            egress=egress,
            revision="1",
        )
    }


NONE = applied()
BASE = EMPTY.then(
    "a pod", pod("n1", "web", "10.77.0.1/32", labels={"app": "web"}), profile("kns.default")
).holds(ENDPOINTS, web(NONE, NONE))
