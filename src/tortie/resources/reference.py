"""The page ``docs/reference/resources.md``, made from the registry::

python -m tortie.resources.reference > docs/reference/resources.md
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, cast, get_args, get_origin

import msgspec

from tortie.resources import registry
from tortie.resources.shape import shape_of

_HEAD = """# Resources

What `tortie apply`, `create`, `replace`, `delete` and `get` take: kinds of `projectcalico.org/v3` as Calico's users write them,
and the parts of Kubernetes' own kinds that a pod network reads. This page is made from the code.

A command refuses a field that it does not know, with its file and line; `--allow-unknown` takes it, and it is kept as it is.
Fields of Kubernetes' own kinds that are not listed here are kept too. In files a kind is written as its name; on the command line
any of its words will do, alone or followed by its group (`ippools.projectcalico.org`, `networkpolicies.networking.k8s.io`).
"""
_WORDS = {str: "string", int: "integer", float: "number", bool: "true or false"}


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_kind(info) for info in registry.KINDS if info.for_users)


def _kind(info: registry.KindInfo) -> str:
    module = sys.modules[info.spec.__module__]
    about = inspect.cleandoc(module.__doc__ or "").replace("``", "`")
    about = about.removeprefix(f"{info.kind.name}: ")
    about = about[0].upper() + about[1:]
    more = inspect.cleandoc(info.spec.__doc__ or "").replace("``", "`")
    scope = "in a namespace" if info.namespaced else "for the whole cluster"
    words = ", ".join(f"`{word}`" for word in info.words)
    lines = [
        f"\n## {info.title}\n\n{about}\n\n{more}\n\n`{info.api_version}`, {scope}. On the command line: {words}.\n"
    ]
    rows = list(_fields(info.spec, ""))
    if rows:
        lines.append(f"\n| Field{'' if info.rooted else ' of `spec`'} | Type | Default |\n|---|---|---|\n")
        lines += [f"| `{name}` | {kind} | {default} |\n" for name, kind, default in rows]
    if info.known:
        lines.append(f"\nKept and not acted on: {', '.join(f'`{name}`' for name in sorted(info.known))}.\n")
    return "".join(lines)


def _fields(spec: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, str, str]]:
    hints = shape_of(spec).types
    for field in msgspec.structs.fields(spec):
        inner, many = _inside(hints[field.encode_name])
        name = prefix + field.encode_name
        if inner is None:
            yield name, _type(hints[field.encode_name]), _default(field)
        else:
            yield from _fields(inner, f"{name}{'[]' if many else ''}.")


def _inside(hint: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    many = False
    for part in (hint, *get_args(hint)):
        if get_origin(part) is tuple:
            many, part = True, get_args(part)[0]
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part, many or get_origin(hint) is tuple
    return None, False


def _type(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(hint) if part is not type(None))
    if origin is tuple:
        return f"list of {_type(get_args(hint)[0])}s".replace("string or integers", "strings or integers")
    if origin is dict:
        return "mapping"
    return _WORDS.get(hint, "any")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value: Any = field.default_factory()
    else:
        value = field.default
    if value in (None, "", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in cast("tuple[object, ...]", value))
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
