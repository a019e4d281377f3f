"""Which endpoints a policy, or one side of its rules, means: its several selectors as one, as Calico joins them.

Endpoints inherit the labels of their namespace and service account under prefixes; a selector over those gets the prefix too.
The texts are Calico's, so that equal selectors have Calico's ids (libcalico-go ``updateprocessors``).
"""

from __future__ import annotations

from dataclasses import replace

from tortie.resources.rules import EntityRule, ServiceAccountMatch
from tortie.selector import Selector, parse
from tortie.selector.ast import All, And, Compare, Global, Has, In, Node, Not, Or

NAMESPACE = "projectcalico.org/namespace"
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"
ORCHESTRATOR = "projectcalico.org/orchestrator"
OF_NAMESPACE = "pcns."
OF_SERVICE_ACCOUNT = "pcsa."


def in_namespace(namespace: str) -> str:
    """Selects the endpoints of a namespace. Its name holds no quotes."""
    return f"{NAMESPACE} == '{namespace}'"


def namespaced_policy(selector: str, service_accounts: str, namespace: str) -> Selector:
    """What a policy in a namespace selects. Raises `SelectorSyntaxError`."""
    _checked(selector, "spec.selector")
    text = f"({selector}) && {in_namespace(namespace)}" if selector else in_namespace(namespace)
    if service_accounts:
        accounts = _prefixed(service_accounts, "spec.serviceAccountSelector", OF_SERVICE_ACCOUNT)
        text = f"({text}) && {accounts}"
    return parse(text)


def global_policy(selector: str, namespaces: str, service_accounts: str) -> Selector:
    """What a policy without a namespace selects. Raises `SelectorSyntaxError`."""
    _checked(selector, "spec.selector")
    text = selector
    if namespaces:
        wanted = _prefixed(namespaces, "spec.namespaceSelector", OF_NAMESPACE, every=NAMESPACE)
        text = f"({text}) && {wanted}" if text else wanted
    if service_accounts:
        wanted = _prefixed(
            service_accounts, "spec.serviceAccountSelector", OF_SERVICE_ACCOUNT, every=SERVICE_ACCOUNT
        )
        text = f"({text}) && {wanted}" if text else wanted
    return parse(text)


def entity_selector(entity: EntityRule, namespace: str, at: str) -> Selector | None:
    """What the positive selectors of one side of a rule mean together; None when there are none. ``namespace`` is the policy's.

    Raises `SelectorSyntaxError`, which names the field below ``at``.
    """
    within = in_namespace(namespace) if namespace else ""
    if entity.namespace_selector:
        within = _prefixed(
            entity.namespace_selector, f"{at}.namespaceSelector", OF_NAMESPACE, every=NAMESPACE
        )
    _checked(entity.selector, f"{at}.selector")
    parts = [_accounts(entity.service_accounts, f"{at}.serviceAccounts"), entity.selector]
    wanted = [part for part in parts if part]
    selector = f"({wanted[0]}) && ({wanted[1]})" if len(wanted) == 2 else "".join(wanted)
    if within and (selector or entity.not_selector or entity.namespace_selector):
        selector = f"({within}) && ({selector})" if selector else within
    return parse(selector) if selector else None


def _accounts(match: ServiceAccountMatch | None, at: str) -> str:
    if match is None:
        return ""
    by_label = _prefixed(match.selector, f"{at}.selector", OF_SERVICE_ACCOUNT) if match.selector else ""
    if not match.names:
        return by_label
    by_name = str(In(SERVICE_ACCOUNT, tuple(sorted(set(match.names)))))
    return f"({by_label}) && ({by_name})" if by_label else by_name


def _checked(selector: str, field: str) -> None:
    if selector:
        parse(selector, field)


def _prefixed(selector: str, field: str, prefix: str, *, every: str = "") -> str:
    """The selector over prefixed labels. With ``every``, ``all()`` selects what has that label, ``global()`` what has not."""
    return str(_with_prefix(parse(selector, field).root, prefix, every))


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
