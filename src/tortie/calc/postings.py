"""Which numbers carry which labels, as bitmaps; a selector becomes algebra over them."""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap

from tortie.selector.ast import All, And, Compare, Global, Has, In, Node, Not, Or

Label = tuple[str, str]


class Postings:
    """Of each label and value the numbers that carry it. A value that one number alone carries costs no bitmap, for there are
    labels (a pod's name) with as many values as pods."""

    def __init__(self) -> None:
        self.all = BitMap()
        self._values: dict[str, dict[str, int | BitMap]] = {}
        self._having: dict[str, BitMap] = {}

    def add(self, number: int, labels: Iterable[Label]) -> None:
        for label, value in labels:
            values = self._values.setdefault(label, {})
            found = values.get(value)
            if found is None:
                values[value] = number
            elif isinstance(found, int):
                values[value] = BitMap((found, number))
            else:
                found.add(number)
            having = self._having.get(label)
            if having is None:
                self._having[label] = BitMap((number,))
            else:
                having.add(number)

    def discard(self, number: int, labels: Iterable[Label]) -> None:
        """Labels that it carries; none other."""
        for label, value in labels:
            values = self._values[label]
            found = values[value]
            if isinstance(found, int):
                del values[value]
            else:
                found.discard(number)
                if not found:
                    del values[value]
            having = self._having[label]
            having.discard(number)
            if not having:
                del self._having[label], self._values[label]

    def count(self, label: str, value: str | None) -> int:
        """How many carry the label with this value; with any, for None."""
        if value is None:
            return len(self._having.get(label, ()))
        found = self._values.get(label, {}).get(value)
        return 0 if found is None else 1 if isinstance(found, int) else len(found)

    def matching(self, node: Node) -> BitMap:
        """The numbers whose labels the selector matches. The result may be one of ours: never change it."""
        match node:
            case All() | Global():
                return self.all
            case Has(label):
                return self._having.get(label) or BitMap()
            case Compare(label, "==", value):
                return self._with(label, value)
            case Compare(label, "!=", value):
                return self.all - self._with(label, value)
            case Compare(label):
                values = self._values.get(label, {})
                return self._union(values[value] for value in values if node.matches({label: value}))
            case In(label, wanted, negated):
                values = self._values.get(label, {})
                found = self._union(values[value] for value in wanted if value in values)
                return self.all - found if negated else found
            case Not(operand):
                return self.all - self.matching(operand)
            case Or(operands):
                return self._union(self.matching(operand) for operand in operands)
            case And(operands):
                return self._every(operands)

    def _with(self, label: str, value: str) -> BitMap:
        found = self._values.get(label, {}).get(value)
        if isinstance(found, BitMap):
            return found
        return BitMap() if found is None else BitMap((found,))

    def _union(self, found: Iterable[int | BitMap]) -> BitMap:
        union = BitMap()
        for each in found:
            if isinstance(each, int):
                union.add(each)
            else:
                union |= each
        return union

    def _every(self, operands: Iterable[Node]) -> BitMap:
        """What all operands match. Negations are taken away at the end: their complement is never built."""
        left: BitMap | None = None
        away: list[Node] = []
        for operand in operands:
            match operand:
                case Not(inner):
                    away.append(inner)
                case Compare(label, "!=", value):
                    away.append(Compare(label, "==", value))
                case In(label, values, True):
                    away.append(In(label, values))
                case _:
                    found = self.matching(operand)
                    left = found if left is None else left & found
                    if not left:
                        return left
        left = self.all if left is None else left
        for node in away:
            left = left - self.matching(node)
        return left
