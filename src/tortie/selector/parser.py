"""Calico's selector grammar by recursive descent (calico: ``libcalico-go/lib/selector``).

::

    selector  := "" | or                              "" is all()
    or        := and ("||" and)*
    and       := operation ("&&" operation)*
    operation := "!"* primary
    primary   := "(" or ")" | "has(" label ")" | "all()" | "global()"
               | label ("==" | "!=" | "contains" | "starts with" | "ends with") string
               | label ("in" | "not in") "{" [string ("," string)* [","]] "}"

Strings stand in single or double quotes and have no escapes. Space is blanks and tabs alone. Operators of letters are looked for
only after a label, so ``in == "x"`` tests a label named ``in``.
"""

from __future__ import annotations

import functools
import re
from typing import cast

from tortie.errors import SelectorSyntaxError
from tortie.selector.ast import All, And, Compare, Comparison, Global, Has, In, Node, Not, Or
from tortie.selector.selector import Selector

MAX_LABEL = 512
MAX_DEPTH = 100
"""Parentheses in parentheses: a bound that keeps a hostile selector from exhausting the stack."""

_SPACE = re.compile(r"[ \t]*")
_LABEL = re.compile(r"[A-Za-z0-9_./-]+")
_CALL = re.compile(r"(has|all|global)\(")
_OPERATOR = re.compile(
    r"==|!=|(?:contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)(?![A-Za-z0-9_./-])"
)
_OPERATORS = {
    "==": "==",
    "!=": "!=",
    "contains": "contains",
    "startswith": "starts with",
    "endswith": "ends with",
    "in": "in",
    "notin": "not in",
}


class _Parser:
    """One pass over one text; ``at`` is where it stands."""

    def __init__(self, text: str, field: str, key: str) -> None:
        self.text = text
        self.field = field
        self.key = key
        self.at = 0

    def fail(self, expected: str, at: int | None = None) -> SelectorSyntaxError:
        column = (self.at if at is None else at) + 1
        return SelectorSyntaxError(self.field, self.text, column, expected, self.key)

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, token: str) -> bool:
        """Step over the token, and the space before it, if it comes next."""
        self.skip_space()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def selector(self) -> Node:
        self.skip_space()
        if self.at == len(self.text):
            return All()
        node = self.either(0)
        self.skip_space()
        if self.at < len(self.text):
            raise self.fail("&&, || or the end")
        return node

    def either(self, depth: int) -> Node:
        nodes = [self.both(depth)]
        while self.take("||"):
            nodes.append(self.both(depth))
        return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))

    def both(self, depth: int) -> Node:
        nodes = [self.operation(depth)]
        while self.take("&&"):
            nodes.append(self.operation(depth))
        return nodes[0] if len(nodes) == 1 else And(tuple(nodes))

    def operation(self, depth: int) -> Node:
        negated = False
        while self.take("!"):
            negated = not negated
        node = self.primary(depth)
        return Not(node) if negated else node

    def primary(self, depth: int) -> Node:
        if self.take("("):
            if depth >= MAX_DEPTH:
                raise self.fail(f"at most {MAX_DEPTH} parentheses in one another", self.at - 1)
            node = self.either(depth + 1)
            if not self.take(")"):
                raise self.fail("&&, || or )")
            return node
        if call := _CALL.match(self.text, self.at):
            return self.call(call)
        return self.comparison(self.label("a label, has(label), all(), global(), ! or ("))

    def call(self, match: re.Match[str]) -> Node:
        self.at = match.end()
        node: Node
        if match[1] == "has":
            self.skip_space()
            node = Has(self.label("a label"))
        else:
            node = All() if match[1] == "all" else Global()
        if not self.take(")"):
            raise self.fail(")")
        return node

    def label(self, expected: str) -> str:
        match = _LABEL.match(self.text, self.at)
        if not match:
            raise self.fail(expected)
        if len(match[0]) > MAX_LABEL:
            raise self.fail(f"a label of at most {MAX_LABEL} characters")
        self.at = match.end()
        return match[0]

    def comparison(self, label: str) -> Node:
        self.skip_space()
        match = _OPERATOR.match(self.text, self.at)
        if not match:
            raise self.fail("==, !=, in, not in, contains, starts with or ends with")
        self.at = match.end()
        operator = _OPERATORS[match[0].replace(" ", "").replace("\t", "")]
        if operator in ("in", "not in"):
            return In(label, self.values(), negated=operator == "not in")
        value = self.string()
        if value is None:
            raise self.fail("a string in quotes")
        return Compare(label, cast("Comparison", operator), value)

    def values(self) -> tuple[str, ...]:
        if not self.take("{"):
            raise self.fail("a set in braces")
        values: set[str] = set()
        while (value := self.string()) is not None:
            values.add(value)
            if not self.take(","):
                break
        if not self.take("}"):
            raise self.fail(
                "a string in quotes or }" if not values or self.text[self.at - 1] == "," else ", or }"
            )
        return tuple(sorted(values))

    def string(self) -> str | None:
        self.skip_space()
        quote = self.text[self.at : self.at + 1]
        if quote not in ("'", '"'):
            return None
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise self.fail(f"a closing {quote}", len(self.text))
        value = self.text[self.at + 1 : end]
        self.at = end + 1
        return value


@functools.lru_cache(maxsize=8192)
def parse(text: str, field: str = "selector", key: str = "") -> Selector:
    """The selector that the text writes. ``field`` and ``key`` name the place for errors.

    Raises `SelectorSyntaxError`, which knows the column.
    """
    return Selector(_Parser(text, field, key).selector())


ALL = parse("all()")
"""Selects everything; also what an empty text means."""
