"""Selectors: the grammar's edges, and what must hold of every selector."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.errors import SelectorSyntaxError
from tortie.selector import ALL, parse
from tortie.selector.ast import All, And, Compare, Comparison, Global, Has, In, Node, Not, Or

LABELS = st.text(alphabet="abcXYZ019_./-", min_size=1, max_size=12)
VALUES = st.one_of(
    st.text(alphabet="ab'{}, é()!", max_size=6),
    st.text(alphabet='ab"{}, =&|', max_size=6),
)


def _in(label: str, values: set[str], negated: bool) -> In:
    return In(label, tuple(sorted(values)), negated)


COMPARISONS: list[Comparison] = ["==", "!=", "contains", "starts with", "ends with"]
LEAVES: st.SearchStrategy[Node] = st.one_of(
    st.just(All()),
    st.just(Global()),
    st.builds(Has, LABELS),
    st.builds(Compare, LABELS, st.sampled_from(COMPARISONS), VALUES),
    st.builds(_in, LABELS, st.sets(VALUES), st.booleans()),
)


def _extend(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(inner, min_size=2, max_size=4).map(tuple)
    return st.one_of(
        inner.filter(lambda node: not isinstance(node, Not)).map(Not), several.map(And), several.map(Or)
    )


NODES = st.recursive(LEAVES, _extend, max_leaves=12)
SOME_LABELS = st.dictionaries(LABELS, st.text(alphabet="ab", max_size=3), max_size=4)


@given(NODES)
def test_canonical_form_reads_back_as_the_same_selector(node: Node) -> None:
    assert parse(str(node)).root == node


@given(NODES, SOME_LABELS)
def test_not_is_the_opposite(node: Node, labels: dict[str, str]) -> None:
    assert parse(f"!({node})").matches(labels) is not parse(str(node)).matches(labels)


@given(st.text(alphabet="ab =!&|(){},\"'\thasinotcontainsstartswith/.-", max_size=40))
def test_any_text_is_a_selector_or_an_error_with_a_column(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorSyntaxError as error:
        column = error.column
    else:
        assert parse(str(selector)) == selector
        return
    assert 1 <= column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "all()"),
        (" \t", "all()"),
        ("all( )", "all()"),
        ("global()", "global()"),
        ("has( a )", "has(a)"),
        ("!!has(a)", "has(a)"),
        ("! ! !has(a)", "!has(a)"),
        ("a=='b'", 'a == "b"'),
        ("a == 'x\"y'", "a == 'x\"y'"),
        ("a in {'c','b', 'c',}", 'a in {"b", "c"}'),
        ("a notin {}", "a not in {}"),
        ("a not\tin {'b'}", 'a not in {"b"}'),
        ("a startswith 'b'", 'a starts with "b"'),
        ("a ends with 'b'", 'a ends with "b"'),
        ("a contains'b'", 'a contains "b"'),
        ('in == "x"', 'in == "x"'),
        ('not in in {"x"}', None),
        ('contains contains "x"', 'contains contains "x"'),
        ('has == "x"', 'has == "x"'),
        ("has(a) && has(b) || has(c)", "((has(a) && has(b)) || has(c))"),
        ("has(a) && (has(b) || has(c))", "(has(a) && (has(b) || has(c)))"),
        ("!has(a) && has(b)", "(!has(a) && has(b))"),
        ("!(has(a) && has(b))", "!(has(a) && has(b))"),
        ("((has(a)))", "has(a)"),
        ("projectcalico.org/namespace == 'x-y.z'", 'projectcalico.org/namespace == "x-y.z"'),
    ],
)
def test_canonical_form(text: str, canonical: str | None) -> None:
    if canonical is None:
        with pytest.raises(SelectorSyntaxError):
            parse(text)
    else:
        assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("b == b", 6),
        ("'x' == b", 1),
        ("b", 2),
        ("a b", 3),
        ("has(a) & has(b)", 8),
        ("has(a) | has(b)", 8),
        ("!", 2),
        ('foo in ""', 8),
        ("a == 'x", 8),
        ("()", 2),
        ("has(a) &&", 10),
        ("%", 1),
        ("a = 'b'", 3),
        ("has (a)", 5),
        ("has()", 5),
        ("has(a", 6),
        ("all(", 5),
        ("(has(a)", 8),
        ("has(a))", 7),
        ("a in {'b'", 10),
        ("a in {,}", 7),
        ("a in {'b' 'c'}", 11),
        ("a ==\n'b'", 5),
        ("a inside {'b'}", 3),
        ("a starts 'b'", 3),
        ("x" * 513 + " == 'a'", 1),
        ("(" * 200 + "all()" + ")" * 200, 101),
    ],
)
def test_refused_with_the_column(text: str, column: int) -> None:
    with pytest.raises(SelectorSyntaxError) as caught:
        parse(text, "spec.nodeSelector")
    assert caught.value.column == column
    assert caught.value.field == "spec.nodeSelector"
    assert f"at column {column}: expected" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("a == 'b'", {}, False),
        ("a != 'b'", {}, True),
        ("a in {'b'}", {}, False),
        ("a not in {'b'}", {}, True),
        ("a in {}", {"a": "b"}, False),
        ("a not in {}", {"a": "b"}, True),
        ("a contains ''", {}, False),
        ("a contains 'b'", {"a": "abc"}, True),
        ("a starts with 'b'", {"a": "abc"}, False),
        ("a ends with 'bc'", {"a": "abc"}, True),
        ("!a == 'b'", {"a": "c"}, True),
        ("has(a) || has(b) && has(c)", {"a": ""}, True),
    ],
)
def test_matches(text: str, labels: dict[str, str], expected: bool) -> None:
    assert parse(text).matches(labels) is expected


def test_unique_id_is_calicos() -> None:
    assert parse("").unique_id == ALL.unique_id == "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"
    assert parse("has(a)").unique_id != ALL.unique_id


def test_equal_selectors_are_one_set_member() -> None:
    assert {parse("a=='b'"), parse('a == "b"')} == {parse("(a == 'b')")}
    assert parse("").is_all
    assert not parse("has(a)").is_all
    assert repr(parse("has(a)")) == "Selector('has(a)')"
