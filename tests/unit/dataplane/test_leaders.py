"""Tokens: nobody has another's, the older's is less, and a new agent finds the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.linux.managers.leaders import Tokens
from tortie.dataplane.linux.rules import names

_FIRST = 1_577_836_800
"""The beginning of 2020."""


def created(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


@given(st.lists(st.integers(_FIRST, _FIRST + 62**5 - 1), min_size=2, max_size=8, unique=True))
def test_the_older_has_the_lesser_one(seconds: list[int]) -> None:
    """Whatever their names: a pod that is added renames no group that stands."""
    tokens = Tokens()
    made = {second: tokens.take(f"p{second}", created(second)) for second in reversed(seconds)}
    assert sorted(seconds) == sorted(seconds, key=lambda second: made[second])
    assert {len(each) for each in made.values()} == {names.GROUP_LETTERS}
    anew = Tokens()
    assert made == {second: anew.take(f"p{second}", created(second)) for second in seconds}


def test_who_is_made_in_the_same_second_or_at_no_time_has_its_own() -> None:
    tokens = Tokens()
    found = [tokens.take(name, when) for name in "ab" for when in ("", "no time", created(_FIRST))]
    assert len(set(found)) == 4, "each name has one without a time and one with"
    assert {len(each) for each in found} == {names.GROUP_LETTERS}


def test_one_that_is_made_again_has_another() -> None:
    tokens = Tokens()
    before = tokens.take("a", created(_FIRST))
    assert tokens.take("a", created(_FIRST)) == before
    assert tokens.take("a", created(_FIRST + 1)) > before


def test_no_two_have_one_token_though_their_digests_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody who makes pods by the million could bring about: one would walk the other's policies."""

    def digest(of: object) -> str:
        alike = "same" if of in ("a", "b", "c") else str(of)
        return alike.ljust(names.GROUP_LETTERS, ".")[-names.GROUP_LETTERS :]

    monkeypatch.setattr(names, "group_digest", digest)
    tokens = Tokens()
    found = {name: tokens.take(name, created(_FIRST)) for name in "abc"}
    assert len(set(found.values())) == 3
    assert found == {name: tokens.take(name, created(_FIRST)) for name in "cba"}, "while they stay"
    tokens.give_back("a")
    assert tokens.take("d", created(_FIRST)) not in (found["b"], found["c"])
    assert tokens.take("c", created(_FIRST)) == found["c"]
