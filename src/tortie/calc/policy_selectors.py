"""Which endpoints a policy, or one side of its rules, means: its several selectors as one, as Calico joins them.

Endpoints inherit the labels of their namespace and service account under prefixes; a selector over those gets the prefix too.
They are joined as Calico joins them, so that equal ones have Calico's ids (libcalico-go ``updateprocessors``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tortie.resources.rules import EntityRule, ServiceAccountMatch
from tortie.selector import ALL, Selector, parse
from tortie.selector.ast import All, And, Compare, Global, Has, In, Node, Not, Or

NAMESPACE = "projectcalico.org/namespace"
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"
ORCHESTRATOR = "projectcalico.org/orchestrator"
OF_NAMESPACE = "pcns."
OF_SERVICE_ACCOUNT = "pcsa."


def in_namespace(namespace: str) -> Node:
    """Selects the endpoints of a namespace."""
    return Compare(NAMESPACE, "==", namespace)


def namespaced_policy(selector: str, service_accounts: str, namespace: str) -> Selector:
    """What a policy in a namespace selects. Raises `SelectorSyntaxError`."""
    within = in_namespace(namespace)
    parts = [And((parse(selector, "spec.selector").root, within)) if selector else within]
    if service_accounts:
        parts.append(_prefixed(service_accounts, "spec.serviceAccountSelector", OF_SERVICE_ACCOUNT))
    return Selector(_joined(parts))


def global_policy(selector: str, namespaces: str, service_accounts: str) -> Selector:
    """What a policy without a namespace selects. Raises `SelectorSyntaxError`."""
    parts = [parse(selector, "spec.selector").root] if selector else []
    for text, field, prefix, every in (
        (namespaces, "spec.namespaceSelector", OF_NAMESPACE, NAMESPACE),
        (service_accounts, "spec.serviceAccountSelector", OF_SERVICE_ACCOUNT, SERVICE_ACCOUNT),
    ):
        if text:
            parts = [_joined([*parts, _prefixed(text, field, prefix, every=every)])]
    return Selector(parts[0]) if parts else ALL


def entity_selector(entity: EntityRule, namespace: str, at: str) -> Selector | None:
    """What the positive selectors of one side of a rule mean together; None when there are none. ``namespace`` is the policy's.

    Raises `SelectorSyntaxError`, which names the field below ``at``.
    """
    parts = list(_accounts(entity.service_accounts, f"{at}.serviceAccounts"))
    parts = [_joined(parts)] if parts else []
    if entity.selector:
        parts.append(parse(entity.selector, f"{at}.selector").root)
    wanted = [_joined(parts)] if parts else []
    if entity.namespace_selector:
        field = f"{at}.namespaceSelector"
        within = _prefixed(entity.namespace_selector, field, OF_NAMESPACE, every=NAMESPACE)
        wanted = [within, *wanted]
    elif namespace and (wanted or entity.not_selector):
        wanted = [in_namespace(namespace), *wanted]
    return Selector(_joined(wanted)) if wanted else None


def _joined(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _accounts(match: ServiceAccountMatch | None, at: str) -> Iterator[Node]:
    if match is not None and match.selector:
        yield _prefixed(match.selector, f"{at}.selector", OF_SERVICE_ACCOUNT)
    if match is not None and match.names:
        yield In(SERVICE_ACCOUNT, tuple(sorted(set(match.names))))


def _prefixed(selector: str, field: str, prefix: str, *, every: str = "") -> Node:
    """The selector over prefixed labels. With ``every``, ``all()`` selects what has that label, ``global()`` what has not."""
    return _with_prefix(parse(selector, field).root, prefix, every)


def _with_prefix(node: Node, prefix: str, every: str) -> Node:
    match node:
        case All():
            return Has(every) if every else node
        case Global():
            return Not(Has(every)) if every else node
        case Has() | Compare() | In():
            return replace(node, label=prefix + node.label)
        case Not(operand):
            return Not(_with_prefix(operand, prefix, every))
        case And(operands) | Or(operands):
            return replace(node, operands=tuple(_with_prefix(each, prefix, every) for each in operands))
