"""Selectors, read straight from their grammar into functions over labels. Made to be obviously right, not quick or helpful."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

Labels = Mapping[str, str]
Matches = Callable[[Labels], bool]

NAMESPACE = "projectcalico.org/namespace"
TOKEN = re.compile(r"""&&|\|\||==|!=|[!(){},]|"[^"]*"|'[^']*'|[A-Za-z0-9_./-]+""")


@cache
def compiled(text: str, prefix: str = "") -> Matches:
    """The selector as a function. With a prefix its labels are those of the namespace (``pcns.``) or of the service account
    (``pcsa.``); of namespaces, ``all()`` is everything that stands in one and ``global()`` everything that does not."""
    tokens = _tokens(text)
    if not tokens:
        return lambda labels: True
    matches, rest = _either(tokens, prefix)
    if rest:
        raise ValueError(f"{text}: unexpected {rest[0]}")
    return matches


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        token = TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"{text}: cannot be read at {at}")
        tokens.append(token[0])
        at = token.end()
    return tokens


def _either(tokens: list[str], prefix: str) -> tuple[Matches, list[str]]:
    left, tokens = _both(tokens, prefix)
    if tokens[:1] != ["||"]:
        return left, tokens
    right, tokens = _either(tokens[1:], prefix)
    return lambda labels: left(labels) or right(labels), tokens


def _both(tokens: list[str], prefix: str) -> tuple[Matches, list[str]]:
    left, tokens = _negated(tokens, prefix)
    if tokens[:1] != ["&&"]:
        return left, tokens
    right, tokens = _both(tokens[1:], prefix)
    return lambda labels: left(labels) and right(labels), tokens


def _negated(tokens: list[str], prefix: str) -> tuple[Matches, list[str]]:
    if tokens[:1] != ["!"]:
        return _primary(tokens, prefix)
    inner, tokens = _negated(tokens[1:], prefix)
    return lambda labels: not inner(labels), tokens


def _primary(tokens: list[str], prefix: str) -> tuple[Matches, list[str]]:
    match tokens:
        case ["(", *rest]:
            inner, rest = _either(rest, prefix)
            return inner, _expect(rest, ")")
        case ["has", "(", label, ")", *rest]:
            return lambda labels: prefix + label in labels, rest
        case ["all", "(", ")", *rest]:
            if prefix == "pcns.":
                return lambda labels: NAMESPACE in labels, rest
            return lambda labels: True, rest
        case ["global", "(", ")", *rest] if prefix == "pcns.":
            return lambda labels: NAMESPACE not in labels, rest
        case [label, *rest] if rest:
            return _compared(_bare(label, prefix), rest)
        case _:
            raise ValueError(f"unexpected end at {tokens}")


def _compared(label: str, tokens: list[str]) -> tuple[Matches, list[str]]:
    match tokens:
        case ["==", value, *rest]:
            text = _quoted(value)
            return lambda labels: label in labels and labels[label] == text, rest
        case ["!=", value, *rest]:
            text = _quoted(value)
            return lambda labels: label not in labels or labels[label] != text, rest
        case ["contains", value, *rest]:
            text = _quoted(value)
            return lambda labels: label in labels and text in labels[label], rest
        case ["starts", "with", value, *rest] | ["startswith", value, *rest]:
            text = _quoted(value)
            return lambda labels: label in labels and labels[label].startswith(text), rest
        case ["ends", "with", value, *rest] | ["endswith", value, *rest]:
            text = _quoted(value)
            return lambda labels: label in labels and labels[label].endswith(text), rest
        case ["in", "{", *rest]:
            values, rest = _values(rest)
            return lambda labels: label in labels and labels[label] in values, rest
        case ["not", "in", "{", *rest] | ["notin", "{", *rest]:
            values, rest = _values(rest)
            return lambda labels: label not in labels or labels[label] not in values, rest
        case _:
            raise ValueError(f"no operator after {label}: {tokens}")


def _values(tokens: list[str]) -> tuple[frozenset[str], list[str]]:
    values: list[str] = []
    while tokens[:1] != ["}"]:
        if not tokens:
            raise ValueError("a set does not end")
        values.append(_quoted(tokens[0]))
        tokens = tokens[1:]
        if tokens[:1] != ["}"]:
            tokens = _expect(tokens, ",")
    return frozenset(values), tokens[1:]


def _expect(tokens: list[str], wanted: str) -> list[str]:
    if tokens[:1] != [wanted]:
        raise ValueError(f"expected {wanted}, not {tokens[:1]}")
    return tokens[1:]


def _quoted(token: str) -> str:
    if token[0] not in "\"'":
        raise ValueError(f"{token} is no text")
    return token[1:-1]


def _bare(token: str, prefix: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_./-]{1,512}", token) is None:
        raise ValueError(f"{token} is no label")
    return prefix + token
