"""Patches: the examples of the RFCs, Kubernetes' directives, and that a patch that cannot be applied says why."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.errors import InvalidResource
from tortie.resources.patching import patched
from tortie.resources.shape import is_object

CALICO = "projectcalico.org"


def apply(document: Any, patch: Any, form: str, group: str = CALICO) -> Any:
    before = copy.deepcopy((document, patch))
    found = patched(document, patch, form, group=group)
    assert (document, patch) == before, "a patch changes nothing in place"
    return found


# RFC 7386, appendix A (those whose patch is an object).
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), MERGES)
def test_merge(document: Any, patch: Any, expected: Any) -> None:
    assert apply(document, patch, "merge") == expected


# RFC 6902, appendix A.
JSONS: list[tuple[Any, list[dict[str, Any]], Any]] = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["a", "b", "c"]},
        [{"op": "move", "from": "/foo/0", "path": "/foo/2"}],
        {"foo": ["b", "c", "a"]},
    ),
    ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
    (
        {"baz": "qux", "foo": ["a", 2]},
        [{"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2]},
    ),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["a"]}], {"foo": ["bar", ["a"]]}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), JSONS)
def test_json(document: Any, patch: list[dict[str, Any]], expected: Any) -> None:
    assert apply(document, patch, "json") == expected


REFUSED: list[tuple[Any, str, str]] = [
    ({}, "json", "(patch): is not a list of operations"),
    ([5], "json", "(patch)[0]: is not an operation"),
    (
        [{"op": "change"}],
        "json",
        "(patch)[0].op: change is not one of add, remove, replace, move, copy, test",
    ),
    (
        [{"op": "add", "path": "a", "value": 1}],
        "json",
        "(patch)[0].path: a is not a path such as /spec/order",
    ),
    ([{"op": "add", "path": "/a"}], "json", "(patch)[0].value: is required"),
    ([{"op": "add", "path": "/x/y", "value": 1}], "json", "(patch)[0].path: /x does not exist"),
    ([{"op": "add", "path": "/list/7", "value": 1}], "json", "(patch)[0].path: /list/7 does not exist"),
    ([{"op": "remove", "path": "/list/-"}], "json", "(patch)[0].path: /list/- does not exist"),
    (
        [{"op": "test", "path": "/a", "value": 2}],
        "json",
        "(patch)[0].path: /a has another value than the patch expects",
    ),
    ([{"op": "move", "from": "/a", "path": "/a/b"}], "json", "(patch)[0].path: /a/b is inside what is moved"),
    ([], "merge", "(patch): is not a mapping of fields"),
    (5, "strategic", "(patch): is not a mapping of fields"),
]


@pytest.mark.parametrize(("patch", "form", "expected"), REFUSED)
def test_refused(patch: Any, form: str, expected: str) -> None:
    with pytest.raises(InvalidResource) as raised:
        apply({"a": 1, "list": [0]}, patch, form)
    assert str(raised.value) == expected


def test_strategic_directives() -> None:
    document = {"spec": {"a": {"x": 1, "y": 2}, "list": [1, 2]}, "metadata": {"finalizers": ["f"]}}
    assert apply(document, {"spec": {"a": {"$patch": "replace", "z": 3}}}, "strategic")["spec"]["a"] == {
        "z": 3
    }
    assert "a" not in apply(document, {"spec": {"a": {"$patch": "delete"}}}, "strategic")["spec"]
    assert apply(document, {"spec": {"a": {"$retainKeys": ["y", "z"], "z": 3}}}, "strategic")["spec"]["a"] == {
        "y": 2, "z": 3,
    }  # fmt: skip
    assert apply(document, {"spec": {"list": [3]}}, "strategic")["spec"]["list"] == [3]
    assert apply(document, {"spec": {"$deleteFromPrimitiveList/list": [1]}}, "strategic")["spec"]["list"] == [
        2
    ]
    more = {"metadata": {"finalizers": ["f", "g"], "$setElementOrder/finalizers": ["g", "f"]}}
    assert apply(document, more, "strategic")["metadata"]["finalizers"] == ["f", "g"]
    assert "a" not in apply(document, {"spec": {"a": None}}, "strategic")["spec"]


def test_strategic_lists_of_kubernetes_own_kinds_are_merged() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443}]}}
    patch = {
        "spec": {"ports": [{"port": 80, "nodePort": 1}, {"port": 443, "$patch": "delete"}, {"port": 8080}]}
    }
    assert apply(service, patch, "strategic", "")["spec"]["ports"] == [
        {"port": 80, "name": "http", "nodePort": 1},
        {"port": 8080},
    ]
    # Calico's HostEndpoint has spec.ports too, which are replaced.
    assert apply(service, {"spec": {"ports": [{"port": 1}]}}, "strategic")["spec"]["ports"] == [{"port": 1}]
    with pytest.raises(InvalidResource, match=r"spec\.ports: has an element without port"):
        apply(service, {"spec": {"ports": [{"name": "x"}]}}, "strategic", "")


VALUES = st.recursive(
    st.booleans() | st.integers(0, 3) | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def difference(old: Any, new: Any) -> Any:
    """The merge patch from one to the other."""
    if not (is_object(old) and is_object(new)):
        return new
    gone: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    return {**gone, **{name: difference(old.get(name), new[name]) for name in new}}


@given(OBJECTS, OBJECTS)
def test_merge_and_strategic_lead_from_any_object_to_any_other(old: Any, new: Any) -> None:
    patch = difference(old, new)
    assert apply(old, patch, "merge") == new
    assert apply(old, patch, "strategic") == new


@given(OBJECTS, OBJECTS)
def test_a_json_patch_leads_from_any_object_to_any_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = [{"op": "remove", "path": f"/{name}"} for name in old]
    patch += [{"op": "add", "path": f"/{name}", "value": value} for name, value in new.items()]
    assert apply(old, patch, "json") == new
