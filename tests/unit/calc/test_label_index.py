"""The index against brute force: whatever is put, dropped, inherited, watched and unwatched, in any order."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tortie.calc.label_index import LabelIndex
from tortie.calc.postings import Postings
from tortie.calc.required_terms import Term, mentioned, required_terms
from tortie.selector import parse

NAMES = ("app", "tier", "team")
VALUES = ("a", "b", "ab", "")
labels = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=3)
parents = st.lists(st.sampled_from(["p", "q", "r"]), max_size=3, unique=True).map(tuple)
items = st.integers(0, 7)

_name, _value = st.sampled_from(NAMES), st.sampled_from(VALUES)
_values = st.lists(_value, max_size=3).map(lambda found: ", ".join(f"'{each}'" for each in found))
_leaves = st.one_of(
    st.just("all()"),
    st.builds("has({})".format, _name),
    st.builds(
        "{} {} '{}'".format,
        _name,
        st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]),
        _value,
    ),
    st.builds("{} {} {{{}}}".format, _name, st.sampled_from(["in", "not in"]), _values),
)
selectors = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds("!({})".format, inner),
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {} || {})".format, inner, inner, inner),
    ),
    max_leaves=6,
).map(parse)


def effective(
    own: Mapping[str, str], named: tuple[str, ...], inherited: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in [own, *(inherited.get(name, {}) for name in named)]:
        for label, value in each.items():
            found.setdefault(label, value)
    return found


class Machine(RuleBasedStateMachine):
    """Keeps what `LabelIndex` is told, and the matches that it told of."""

    def __init__(self) -> None:
        super().__init__()
        self.index: LabelIndex[str, int] = LabelIndex(self.started, self.stopped)
        self.told: set[tuple[str, int]] = set()
        self.items: dict[int, tuple[dict[str, str], tuple[str, ...]]] = {}
        self.parents: dict[str, dict[str, str]] = {}
        self.watched: dict[str, str] = {}

    def started(self, key: str, item: int) -> None:
        assert (key, item) not in self.told, "started twice"
        self.told.add((key, item))

    def stopped(self, key: str, item: int) -> None:
        self.told.remove((key, item))

    @rule(item=items, own=labels, named=parents)
    def put(self, item: int, own: dict[str, str], named: tuple[str, ...]) -> None:
        self.items[item] = (own, named)
        self.index.put(item, own, named)

    @rule(item=items)
    def drop(self, item: int) -> None:
        self.items.pop(item, None)
        self.index.drop(item)

    @rule(name=st.sampled_from(["p", "q", "r"]), inherited=st.none() | labels)
    def inherit(self, name: str, inherited: dict[str, str] | None) -> None:
        self.parents[name] = inherited or {}
        self.index.set_parent(name, inherited)

    @rule(key=st.sampled_from("wxyz"), selector=selectors)
    def watch(self, key: str, selector: object) -> None:
        self.watched[key] = str(selector)
        self.index.watch(key, parse(str(selector)))

    @rule(key=st.sampled_from("wxyz"))
    def unwatch(self, key: str) -> None:
        self.watched.pop(key, None)
        self.index.unwatch(key)

    @invariant()
    def told_what_is_so(self) -> None:
        expected = {
            (key, item)
            for key, selector in self.watched.items()
            for item, (own, named) in self.items.items()
            if parse(selector).matches(effective(own, named, self.parents))
        }
        assert self.told == expected
        for key in self.watched:
            assert sorted(self.index.matching(key)) == sorted(i for k, i in expected if k == key)
        assert (len(self.index), self.index.selectors) == (len(self.items), len(self.watched))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(labels, max_size=6), selectors)
def test_set_algebra_is_matching(carried: list[dict[str, str]], selector: object) -> None:
    parsed = parse(str(selector))
    postings = Postings()
    for number, each in enumerate(carried):
        postings.all.add(number)
        postings.add(number, each.items())
    expected = [number for number, each in enumerate(carried) if parsed.matches(each)]
    assert list(postings.matching(parsed.root)) == expected
    for number, each in enumerate(carried):
        postings.all.discard(number)
        postings.discard(number, each.items())
    assert not postings.matching(parsed.root)
    assert [postings.count(name, None) for name in NAMES] == [0, 0, 0]


@given(labels, selectors)
def test_what_matches_has_a_required_term(carried: dict[str, str], selector: object) -> None:
    parsed = parse(str(selector))
    terms = required_terms(parsed.root, lambda term: len(term[0]))
    if terms is not None and parsed.matches(carried):
        assert any(name in carried and value in (None, carried[name]) for name, value in terms)


@given(labels, labels, selectors)
def test_only_mentioned_labels_matter(one: dict[str, str], other: dict[str, str], selector: object) -> None:
    parsed = parse(str(selector))
    names = mentioned(parsed.root)
    mixed = {name: value for name, value in one.items() if name in names}
    mixed |= {name: value for name, value in other.items() if name not in names}
    assert parsed.matches(one) == parsed.matches(mixed)


def test_the_rarest_required_term_is_taken() -> None:
    costs: dict[Term, int] = {("app", "web"): 5, ("tier", "x"): 2, ("tier", "y"): 2, ("team", None): 9}
    root = parse("app == 'web' && tier in {'x', 'y'} && has(team) && !has(old)").root
    assert required_terms(root, lambda term: costs[term]) == (("tier", "x"), ("tier", "y"))
    assert required_terms(parse("!has(app)").root, lambda term: 1) is None
    assert required_terms(parse("app in {}").root, lambda term: 1) == ()
    assert required_terms(parse("!(app != 'web' || has(old))").root, lambda term: 1) == (("app", "web"),)


def test_the_items_own_labels_win_then_the_first_parents() -> None:
    matched: set[tuple[str, str]] = set()
    index: LabelIndex[str, str] = LabelIndex(
        lambda key, item: matched.add((key, item)), lambda key, item: matched.remove((key, item))
    )
    index.watch("q", parse("app == 'q'"))
    index.set_parent("p", {"app": "p"})
    index.set_parent("q", {"app": "q"})
    index.put("own", {"app": "own"}, ["q"])
    index.put("pq", {}, ["p", "q"])
    index.put("qp", {}, ["q", "p"])
    assert matched == {("q", "qp")}
    index.set_parent("p", None)
    assert matched == {("q", "qp"), ("q", "pq")}
