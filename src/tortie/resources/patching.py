"""Patches of documents, as plain JSON values: merge (RFC 7386), JSON (RFC 6902) and Kubernetes' strategic merge.

Nothing is changed in place. Raises `InvalidResource` for a patch that cannot be applied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from tortie.errors import InvalidResource
from tortie.resources.shape import is_array, is_object

FORMS = ("strategic", "merge", "json")

MERGE_KEYS: Mapping[str, str] = {
    "metadata.ownerReferences": "uid",
    "spec.containers": "name",
    "spec.containers.ports": "containerPort",
    "spec.ports": "port",
}
"""Lists of Kubernetes' own kinds whose elements a strategic patch merges by a field; every other list is replaced."""
MERGED_LISTS = frozenset({"metadata.finalizers"})
"""Lists of plain values that a strategic patch adds to."""


def patched(document: Any, patch: Any, form: str, *, group: str) -> Any:
    """The document after the patch. ``group`` is the kind's: Calico's kinds have no lists that are merged but metadata's."""
    if form == "json":
        return _json(document, patch)
    if not is_object(patch):
        raise InvalidResource("(patch)", None, "is not a mapping of fields")
    if form == "merge":
        return _merge(document, patch)
    keys = {
        path: key for path, key in MERGE_KEYS.items() if path.startswith("metadata.") or "calico" not in group
    }
    return _strategic(document, patch, (), keys)


def _merge(target: Any, patch: Any) -> Any:
    if not is_object(patch):
        return patch
    found: dict[str, Any] = dict(target) if is_object(target) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = _merge(found.get(name), value)
    return found


_DELETE_LIST = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def _strategic(target: Any, patch: Any, path: tuple[str, ...], keys: Mapping[str, str]) -> Any:
    if not is_object(patch):
        return patch
    directive: Any = patch.get("$patch")
    body = {name: value for name, value in patch.items() if name not in ("$patch", "$retainKeys")}
    if directive == "delete":
        return None
    found: dict[str, Any] = dict(target) if is_object(target) and directive != "replace" else {}
    retained: Any = patch.get("$retainKeys")
    if is_array(retained):
        found = {name: value for name, value in found.items() if name in retained}
    for name, value in body.items():
        if name.startswith(_ORDER):
            continue
        if name.startswith(_DELETE_LIST):
            field = name[len(_DELETE_LIST) :]
            if field in found:
                found[field] = [each for each in found[field] if each not in value]
            continue
        where = (*path, name)
        new = (
            _strategic_list(found.get(name), value, where, keys)
            if is_array(value)
            else (None if value is None else _strategic(found.get(name), value, where, keys))
        )
        if new is None:
            found.pop(name, None)
        else:
            found[name] = new
    return found


def _strategic_list(
    target: Any, patch: list[Any], path: tuple[str, ...], keys: Mapping[str, str]
) -> list[Any]:
    place = ".".join(path)
    old: list[Any] = list(target) if is_array(target) else []
    if place in MERGED_LISTS:
        return old + [each for each in patch if each not in old]
    key = keys.get(place)
    if key is None or any(is_object(each) and each.get("$patch") == "replace" for each in patch):
        return [each for each in patch if not (is_object(each) and each.get("$patch") == "replace")]
    for each in patch:
        if not is_object(each) or key not in each:
            raise InvalidResource(
                place, None, f"has an element without {key}, which says what it is merged with"
            )
        at = next((i for i, have in enumerate(old) if is_object(have) and have.get(key) == each[key]), None)
        merged = _strategic(None if at is None else old[at], each, path, keys)
        if at is None:
            old += [merged] if merged is not None else []
        elif merged is None:
            del old[at]
        else:
            old[at] = merged
    return old


def _json(document: Any, patch: Any) -> Any:
    if not is_array(patch):
        raise InvalidResource("(patch)", None, "is not a list of operations")
    found = copy.deepcopy(document)
    for index, operation in enumerate(patch):
        at = f"(patch)[{index}]"
        if not is_object(operation):
            raise InvalidResource(at, None, "is not an operation")
        does = _OPERATIONS.get(str(operation.get("op")))
        if does is None:
            raise InvalidResource(f"{at}.op", operation.get("op"), f"is not one of {', '.join(_OPERATIONS)}")
        found = does(found, operation, at)
    return found


def _pointer(operation: dict[str, Any], name: str, at: str) -> list[str]:
    """The parts of a JSON pointer."""
    text: Any = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise InvalidResource(f"{at}.{name}", text, "is not a path such as /spec/order")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _value(operation: dict[str, Any], at: str) -> Any:
    if "value" not in operation:
        raise InvalidResource(f"{at}.value", None, "is required")
    return operation["value"]


def _absent(parts: list[str], at: str) -> InvalidResource:
    return InvalidResource(f"{at}.path", "/" + "/".join(parts), "does not exist")


def _index(part: str, length: int) -> int | None:
    return int(part) if part.isascii() and part.isdigit() and int(part) < length else None


def _read(document: Any, parts: list[str], at: str) -> Any:
    for part in parts:
        if is_object(document) and part in document:
            document = document[part]
        elif is_array(document) and (index := _index(part, len(document))) is not None:
            document = document[index]
        else:
            raise _absent(parts, at)
    return document


def _add(document: Any, parts: list[str], value: Any, at: str) -> Any:
    if not parts:
        return value
    *above, last = parts
    parent = _read(document, above, at)
    if is_object(parent):
        parent[last] = value
    elif is_array(parent):
        index = len(parent) if last == "-" else _index(last, len(parent) + 1)
        if index is None:
            raise _absent(parts, at)
        parent.insert(index, value)
    else:
        raise _absent(parts, at)
    return document


def _remove(document: Any, parts: list[str], at: str) -> Any:
    _read(document, parts, at)
    if not parts:
        return None
    *above, last = parts
    parent = _read(document, above, at)
    if is_array(parent):
        del parent[int(last)]
    else:
        del parent[last]
    return document


def _op_add(document: Any, operation: dict[str, Any], at: str) -> Any:
    return _add(document, _pointer(operation, "path", at), copy.deepcopy(_value(operation, at)), at)


def _op_remove(document: Any, operation: dict[str, Any], at: str) -> Any:
    return _remove(document, _pointer(operation, "path", at), at)


def _op_replace(document: Any, operation: dict[str, Any], at: str) -> Any:
    parts = _pointer(operation, "path", at)
    value = copy.deepcopy(_value(operation, at))
    return _add(_remove(document, parts, at), parts, value, at)


def _op_move(document: Any, operation: dict[str, Any], at: str) -> Any:
    source, target = _pointer(operation, "from", at), _pointer(operation, "path", at)
    if target[: len(source)] == source and target != source:
        raise InvalidResource(f"{at}.path", operation["path"], "is inside what is moved")
    value = _read(document, source, at)
    return _add(_remove(document, source, at), target, value, at)


def _op_copy(document: Any, operation: dict[str, Any], at: str) -> Any:
    value = copy.deepcopy(_read(document, _pointer(operation, "from", at), at))
    return _add(document, _pointer(operation, "path", at), value, at)


def _op_test(document: Any, operation: dict[str, Any], at: str) -> Any:
    found = _read(document, _pointer(operation, "path", at), at)
    if found != _value(operation, at):
        raise InvalidResource(f"{at}.path", operation["path"], "has another value than the patch expects")
    return document


_OPERATIONS: Mapping[str, Callable[[Any, dict[str, Any], str], Any]] = {
    "add": _op_add,
    "remove": _op_remove,
    "replace": _op_replace,
    "move": _op_move,
    "copy": _op_copy,
    "test": _op_test,
}
