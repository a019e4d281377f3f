"""The oracle's selectors, against the language's description."""

from __future__ import annotations

import pytest

from tests.oracle.selectors import compiled

LABELS = {"app": "web", "env": "production", "in": "x", "empty": "", "pcns.team": "red", "pcsa.role": "ops"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("all()", True),
        ("!all()", False),
        ("app == 'web'", True),
        ('app == "web"', True),
        ("app == 'we'", False),
        ("nope == 'web'", False),
        ("app != 'web'", False),
        ("app != 'db'", True),
        ("nope != 'web'", True),
        ("has(app)", True),
        ("has(empty)", True),
        ("has(nope)", False),
        ("!has(nope)", True),
        ("!!has(app)", True),
        ("app in {'db', 'web'}", True),
        ("app in {'db',}", False),
        ("app in {}", False),
        ("nope in {'web'}", False),
        ("app not in {'db'}", True),
        ("app not in {}", True),
        ("nope not in {'web'}", True),
        ("app notin {'web'}", False),
        ("env contains 'duct'", True),
        ("nope contains ''", False),
        ("env starts with 'prod'", True),
        ("env startswith 'ion'", False),
        ("env ends with 'ion'", True),
        ("nope endswith 'ion'", False),
        ("in == 'x'", True),
        ("has(app) && app == 'db' || env == 'production'", True),
        ("app == 'db' && (has(app) || has(env))", False),
        ("!has(nope) && !has(app)", False),
        ("!(has(nope) || app == 'db')", True),
    ],
)
def test_matches(text: str, wanted: bool) -> None:
    assert compiled(text)(LABELS) is wanted


@pytest.mark.parametrize(
    "text",
    [
        "b == b",
        "'x' == b",
        "b",
        "a b",
        "has(foo) &&",
        "foo in ''",
        "foo == 'x",
        "()",
        "%",
        "!",
        "a == 'x'\n",
        "has(a) has(b)",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError):
        compiled(text)


def test_labels_of_the_namespace_and_of_the_account() -> None:
    assert compiled("team == 'red'", "pcns.")(LABELS)
    assert not compiled("app == 'web'", "pcns.")(LABELS)
    assert compiled("role == 'ops'", "pcsa.")(LABELS)
    outside = {"app": "x"}
    inside = outside | {"projectcalico.org/namespace": "here"}
    assert compiled("all()", "pcns.")(inside)
    assert not compiled("all()", "pcns.")(outside)
    assert compiled("global()", "pcns.")(outside)
    assert not compiled("global()", "pcns.")(inside)
    assert compiled("global() || team == 'red'", "pcns.")(inside | {"pcns.team": "red"})
    with pytest.raises(ValueError):
        compiled("global()")
