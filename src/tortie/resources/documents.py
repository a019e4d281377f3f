"""YAML and JSON text as plain values that know the line each field was written on.

One text may hold several documents, and a document may be a List. Pure: the caller reads the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tortie.errors import InvalidDocument, InvalidResource
from tortie.resources.resource import Origin
from tortie.resources.shape import Path, dotted, is_array, is_object

MAX_VALUES = 1_000_000
"""More values than this in one text, aliases counted each time they are used, is an attack and no configuration."""
_INTEGERS = range(-(2**63), 2**64)
"""What every reader of the stored JSON takes as an integer."""


@dataclass(frozen=True, eq=False)
class Document:
    """One document: its value, the file it is from, and lines by dotted path, counted from 1."""

    value: Any
    file: str
    line: int = 1
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def origin(self) -> Origin:
        return Origin(self.file, self.line, self.lines)

    def line_of(self, path: str) -> int:
        """The line of a field, or of the nearest thing around it."""
        return self.origin.line_of(path)

    def finding(self, path: str, value: object, rule: str, key: str = "") -> InvalidResource:
        """What is wrong with a field, with its place in the file."""
        return InvalidResource(path, value, rule, key, f"{self.file}:{self.line_of(path)}")


def parse(text: str, file: str) -> list[Document]:
    """Every document of the text, Lists taken apart, empty ones left out.

    Raises `InvalidDocument` for text that is neither YAML nor JSON and for a key that is given twice.
    """
    found = list(pieces(text, file))
    if wrong := [each for piece in found if isinstance(piece, InvalidDocument) for each in piece.findings]:
        raise InvalidDocument(wrong)
    return [each for each in found if isinstance(each, Document)]


def pieces(text: str, file: str) -> Iterator[Document | InvalidDocument]:
    """As `parse`; what cannot be read stands among the documents that can, so that one mistake does not hide the others."""
    from ruamel.yaml import YAML  # 20 ms of import, needed by few commands
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml: Any = YAML(typ="safe", pure=True)
    _bound(yaml, file)
    begun = False
    try:
        for node in yaml.compose_all(text):
            begun = True
            if node is not None:
                yield from _Reader(file).document(node)
    except InvalidDocument as error:
        yield error
    except MarkedYAMLError as error:
        if text.lstrip().startswith("{") and not begun:
            yield from _json(text, file)
            return
        mark: Any = getattr(error, "problem_mark", None)
        problem: Any = getattr(error, "problem", None)
        line: int = mark.line + 1 if mark is not None else 1
        what = " ".join(str(problem or "cannot be read").split())
        yield InvalidDocument(
            [InvalidResource("(document)", None, f"is not YAML: {what}", "", f"{file}:{line}")]
        )
    except (YAMLError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        yield InvalidDocument([InvalidResource("(document)", None, f"is not YAML: {what}", "", file)])


def _bound(yaml: Any, file: str) -> None:
    """Stop at the text's value number `MAX_VALUES`, before the rest of it takes minutes and gigabytes."""
    compose, count = yaml.composer.compose_node, 0

    def counted(parent: Any, index: Any) -> Any:
        nonlocal count
        count += 1
        if count > MAX_VALUES:
            raise InvalidDocument(
                [InvalidResource("(document)", None, f"holds more than {MAX_VALUES} values", "", file)]
            )
        return compose(parent, index)

    yaml.composer.compose_node = counted


def _text_problem(text: str) -> str:
    """Why a text cannot be stored as JSON; empty when it can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds {ascii(text[error.start])[1:-1]}, half a character"
    return ""


def _json(text: str, file: str) -> Iterator[Document | InvalidDocument]:
    """JSON that YAML cannot read (indented with tabs). It has no lines."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number")

    def integer(digits: str) -> int:
        if len(digits) > 20 or (number := int(digits)) not in _INTEGERS:
            raise ValueError(f"{digits[:20]}… has more than 64 bits")
        return number

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise InvalidDocument([InvalidResource(name, None, "is given twice", "", file)])
            found[name] = value
        return found

    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=constant, parse_int=integer)
        if problem := _text_problem(json.dumps(value, ensure_ascii=False)):
            raise ValueError(f"it {problem}")
    except InvalidDocument as error:
        yield error
        return
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else error
        yield InvalidDocument([InvalidResource("(document)", None, f"is not JSON: {what}", "", file)])
        return
    yield from _apart(Document(value, file))


class _Reader:
    """Builds plain values from one YAML document and notes where each stands."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self.seen = 0
        self.wrong: list[InvalidResource] = []
        self.whole = True
        """Whether everything that was read has a value."""

    def document(self, root: Any) -> Iterator[Document | InvalidDocument]:
        value = self.value(root, ())
        if self.wrong:
            yield InvalidDocument(self.wrong)
        if self.whole:
            yield from _apart(Document(value, self.file, root.start_mark.line + 1, self.lines))

    def without(self, path: Path, rule: str, node: Any) -> None:
        """Go on without the value, and say in the end what is wrong with it."""
        self.wrong += self.fail(path, rule, node).findings
        self.whole = False

    def fail(self, path: Path, rule: str, node: Any) -> InvalidDocument:
        where = f"{self.file}:{node.start_mark.line + 1}"
        return InvalidDocument([InvalidResource(dotted(path) or "(document)", None, rule, "", where)])

    def value(self, node: Any, path: Path) -> Any:
        self.seen += 1
        if self.seen > MAX_VALUES:
            raise self.fail(path, f"holds more than {MAX_VALUES} values", node)
        kind = type(node).__name__
        if kind == "ScalarNode":
            return self.scalar(node, path)
        if kind == "SequenceNode":
            items: list[Any] = []
            for index, item in enumerate(node.value):
                self.lines[dotted((*path, index))] = item.start_mark.line + 1
                items.append(self.value(item, (*path, index)))
            return items
        return self.mapping(node, path)

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, item in node.value:
            if str(key.tag).endswith(":merge"):
                several = self.value(item, path)
                for each in several if is_array(several) else [several]:
                    merged = {**each, **merged} if is_object(each) else merged
                continue
            if type(key).__name__ != "ScalarNode":
                self.without(path, "has a key that is not a word", key)
                continue
            name = str(key.value)
            if problem := _text_problem(name):
                self.without(path, f"has a key that {problem}", key)
                continue
            if name in fields:
                self.wrong += self.fail((*path, name), "is given twice", key).findings
            self.lines[dotted((*path, name))] = key.start_mark.line + 1
            fields[name] = self.value(item, (*path, name))
        return {**merged, **fields}

    def scalar(self, node: Any, path: Path) -> Any:
        text: str = node.value
        match str(node.tag).rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text.lower() in ("true", "yes", "on")
            case "int":
                base = 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10
                number = int(text.replace("_", ""), base) if len(text) < 100 else None
                if number is None or number not in _INTEGERS:
                    return self.without(path, "is a number of more than 64 bits", node)
                return number
            case "float":
                real = float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
                if not math.isfinite(real):
                    return self.without(path, "is not a finite number", node)
                return real
            case "binary":
                return self.without(path, "is binary, and no field is", node)
            case _:
                if problem := _text_problem(text):
                    return self.without(path, problem, node)
                return text


def _apart(document: Document) -> Iterator[Document]:
    """A List's items, each as a document of its own; so too the items of a bare sequence. Nothing for null."""
    value = document.value
    items, prefix = value, ""
    if is_object(value) and isinstance(value.get("kind"), str) and value["kind"].endswith("List"):
        items, prefix = value.get("items"), "items"
        if items is None:
            return
    if is_array(items):
        lines = _lines_by_item(document.lines, f"{prefix}[")
        for index, item in enumerate(items):
            line = document.line_of(f"{prefix}[{index}]")
            yield from _apart(Document(item, document.file, line, lines.get(index, {})))
    elif value is not None:
        yield document


def _lines_by_item(lines: Mapping[str, int], start: str) -> Mapping[int, Mapping[str, int]]:
    """The lines of each item's fields, as the item names them. In one pass: a List may hold thousands."""
    found: dict[int, dict[str, int]] = {}
    for path, line in lines.items():
        if path.startswith(start):
            number, _, rest = path[len(start) :].partition("]")
            if rest and number.isdigit():
                found.setdefault(int(number), {})[rest.lstrip(".")] = line
    return found
