"""What a selector is made of. ``str`` of a node is its canonical form, character for character that of Calico."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Labels = Mapping[str, str]


def quoted(value: str) -> str:
    """The value in double quotes, or in single ones when it holds a double one. It can never hold both."""
    return f"'{value}'" if '"' in value else f'"{value}"'


@dataclass(frozen=True, slots=True)
class All:
    """``all()``: everything."""

    def matches(self, labels: Labels) -> bool:
        return True

    def __str__(self) -> str:
        return "all()"


@dataclass(frozen=True, slots=True)
class Global:
    """``global()``: what has no namespace. Meaningful only as a rule's namespaceSelector; as a selector it matches all."""

    def matches(self, labels: Labels) -> bool:
        return True

    def __str__(self) -> str:
        return "global()"


@dataclass(frozen=True, slots=True)
class Has:
    """``has(label)``."""

    label: str

    def matches(self, labels: Labels) -> bool:
        return self.label in labels

    def __str__(self) -> str:
        return f"has({self.label})"


Comparison = Literal["==", "!=", "contains", "starts with", "ends with"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A label against one value. Where the label is absent only ``!=`` holds."""

    label: str
    operator: Comparison
    value: str

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.label)
        match self.operator:
            case "==":
                return value == self.value
            case "!=":
                return value != self.value
            case "contains":
                return value is not None and self.value in value
            case "starts with":
                return value is not None and value.startswith(self.value)
            case "ends with":
                return value is not None and value.endswith(self.value)

    def __str__(self) -> str:
        return f"{self.label} {self.operator} {quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class In:
    """A label against a set of values, sorted and each once. Where the label is absent only ``not in`` holds."""

    label: str
    values: tuple[str, ...]
    negated: bool = False

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.label)
        return (value is not None and value in self.values) is not self.negated

    def __str__(self) -> str:
        operator = "not in" if self.negated else "in"
        return f"{self.label} {operator} {{{', '.join(quoted(value) for value in self.values)}}}"


@dataclass(frozen=True, slots=True)
class Not:
    """``!``: the operand does not hold."""

    operand: Node

    def matches(self, labels: Labels) -> bool:
        return not self.operand.matches(labels)

    def __str__(self) -> str:
        return f"!{self.operand}"


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold; there are at least two."""

    operands: tuple[Node, ...]

    def matches(self, labels: Labels) -> bool:
        return all(operand.matches(labels) for operand in self.operands)

    def __str__(self) -> str:
        return f"({' && '.join(map(str, self.operands))})"


@dataclass(frozen=True, slots=True)
class Or:
    """One operand holds; there are at least two."""

    operands: tuple[Node, ...]

    def matches(self, labels: Labels) -> bool:
        return any(operand.matches(labels) for operand in self.operands)

    def __str__(self) -> str:
        return f"({' || '.join(map(str, self.operands))})"


Node = All | Global | Has | Compare | In | Not | And | Or
