"""Which fields a spec type knows, at every depth: what finds unknown fields, and every wrongly typed one, by path."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, get_args, get_origin, get_type_hints

import msgspec

Path = tuple[str | int, ...]


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


@dataclass(frozen=True, eq=False)
class Shape:
    """The JSON names of a spec's fields with their types, and where a deeper spec stands: itself or each of a list's."""

    types: dict[str, Any]
    names: frozenset[str]
    single: tuple[tuple[str, Shape], ...]
    listed: tuple[tuple[str, Shape], ...]


def _spec_inside(hint: Any) -> tuple[type[msgspec.Struct], bool] | None:
    """The spec type that a field holds, and whether it holds a list of them."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            if found := _spec_inside(part):
                return found
        return None
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return (inner, True) if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint, False
    return None


@functools.cache
def shape_of(spec: type[msgspec.Struct]) -> Shape:
    """The shape of a spec type; computed once."""
    hints = get_type_hints(spec)
    by_name = {
        name: hints[field]
        for name, field in zip(spec.__struct_encode_fields__, spec.__struct_fields__, strict=True)
    }
    single: list[tuple[str, Shape]] = []
    listed: list[tuple[str, Shape]] = []
    for name, hint in by_name.items():
        if inside := _spec_inside(hint):
            (listed if inside[1] else single).append((name, shape_of(inside[0])))
    return Shape(by_name, frozenset(by_name), tuple(single), tuple(listed))


def unknown_in(value: dict[str, Any], shape: Shape, path: Path, into: dict[Path, Any]) -> dict[str, Any]:
    """Put what the shape does not know into ``into``, by path; returns the rest."""
    extra = value.keys() - shape.names
    for name in extra:
        into[(*path, name)] = value[name]
    known = {name: each for name, each in value.items() if name not in extra}
    for name, inner in shape.single:
        deeper: Any = known.get(name)
        if is_object(deeper):
            known[name] = unknown_in(deeper, inner, (*path, name), into)
    for name, inner in shape.listed:
        items: Any = known.get(name)
        if is_array(items):
            known[name] = [
                unknown_in(item, inner, (*path, name, index), into) if is_object(item) else item
                for index, item in enumerate(items)
            ]
    return known


def follow(unknown: Mapping[Path, Any], old: msgspec.Struct, new: msgspec.Struct) -> dict[Path, Any]:
    """The unknown fields of a spec after it was edited: those inside a list go where their element went, or with it."""
    moved: dict[Path, Any] = {}
    for path, value in unknown.items():
        if path[0] == "spec" and any(isinstance(part, int) for part in path):
            new_path = _follow(path[1:], old, new)
            if new_path is None:
                continue
            path = ("spec", *new_path)
        moved[path] = value
    return moved


def _follow(path: Path, old: Any, new: Any) -> Path | None:
    """Where the path leads in ``new``; None when its element is gone."""
    if not path or old is new or old is None:
        return path
    if new is None:
        return None
    first, *rest = path
    if isinstance(first, int):
        element = old[first]
        if first < len(new) and new[first] == element:
            return path
        at = next((index for index, each in enumerate(new) if each == element), None)
        return None if at is None else (at, *rest)
    names = dict(zip(old.__struct_encode_fields__, old.__struct_fields__, strict=True))
    if first not in names:
        return path
    deeper = _follow(tuple(rest), getattr(old, names[first]), getattr(new, names[first]))
    return None if deeper is None else (first, *deeper)


def type_errors(value: Any, hint: Any, path: Path) -> Iterator[tuple[Path, Any, str]]:
    """Every value under ``value`` that does not fit its type: path, value and what it should have been."""
    inside = _spec_inside(hint)
    if inside and value is not None:
        spec, many = inside
        if many and is_array(value):
            for index, item in enumerate(value):
                yield from type_errors(item, spec, (*path, index))
            return
        if not many and is_object(value):
            for name, inner in shape_of(spec).types.items():
                if name in value:
                    yield from type_errors(value[name], inner, (*path, name))
            return
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        yield path, value, _rule(str(error))


_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def _rule(message: str) -> str:
    """From msgspec's words to ours: ``Expected `int | null`, got `str``` → ``is not an integer``."""
    _, expected, *rest = message.split("`")
    kinds = [word.strip() for word in expected.split("|")]
    wanted = " or ".join(_WORDS.get(kind, kind) for kind in kinds if kind != "null") or "nothing"
    inside = rest[-2] if len(rest) >= 2 and rest[-2].startswith("$") else ""
    return f"is not {wanted}" if not inside else f"holds something that is not {wanted}"


def dotted(path: Path) -> str:
    """``("spec", "ports", 0, "name")`` → ``spec.ports[0].name``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or "/" in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text
