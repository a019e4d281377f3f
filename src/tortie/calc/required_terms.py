"""What labels must have for a selector to match them: by the rarest of these a selector is found when labels change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from tortie.selector.ast import All, And, Compare, Global, Has, In, Node, Not, Or

Term = tuple[str, str | None]
"""A label with a value; with any value, for None."""
Terms = tuple[Term, ...]
"""At least one of them; of none, nothing at all matches."""
Cost = Callable[[Term], int]


def required_terms(node: Node, cost: Cost) -> Terms | None:
    """The cheapest terms of which whatever matches has at least one. None: it may match also what has no label at all."""
    candidates = list(_alternatives(node, negated=False, cost=cost))
    return min(candidates, key=lambda terms: sum(map(cost, terms)), default=None)


def mentioned(node: Node) -> frozenset[str]:
    """The labels that can change whether it matches."""
    match node:
        case All() | Global():
            return frozenset()
        case Has(label) | Compare(label) | In(label):
            return frozenset((label,))
        case Not(operand):
            return mentioned(operand)
        case And(operands) | Or(operands):
            return frozenset(chain.from_iterable(map(mentioned, operands)))


def _alternatives(node: Node, *, negated: bool, cost: Cost) -> Iterator[Terms]:
    """Sets of terms; of each set, one term at least must hold."""
    match node:
        case All() | Global():
            if negated:
                yield ()
        case Not(operand):
            yield from _alternatives(operand, negated=not negated, cost=cost)
        case Has(label):
            if not negated:
                yield ((label, None),)
        case Compare(label, operator, value):
            if (operator == "!=") is negated:
                yield ((label, value),) if operator in ("==", "!=") else ((label, None),)
        case In(label, values):
            if node.negated is negated:
                yield tuple((label, value) for value in values)
        case And(operands) | Or(operands):
            if isinstance(node, And) is not negated:
                for operand in operands:
                    yield from _alternatives(operand, negated=negated, cost=cost)
                return
            best: list[Terms] = []
            for operand in operands:
                found = list(_alternatives(operand, negated=negated, cost=cost))
                if not found:
                    return
                best.append(min(found, key=lambda terms: sum(map(cost, terms))))
            yield tuple(dict.fromkeys(chain.from_iterable(best)))
