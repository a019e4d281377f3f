"""The registry: every kind is found by every word a user may write."""

from __future__ import annotations

import pytest

from tortie.errors import UsageError
from tortie.resources import registry
from tortie.resources.resource import Kind


def test_words() -> None:
    for word in ("ippools", "IPPool", "ipp", "IPPOOL", "pool"):
        assert registry.find(word).kind.name == "IPPool"
    assert registry.find("po").kind == Kind("", "Pod")
    assert registry.find("pods").api_version == "v1"
    assert registry.find("nodes").api_version == "projectcalico.org/v3"


def test_no_word_means_two_kinds() -> None:
    words = [word.lower() for each in registry.KINDS for word in {*each.words, each.title.lower()}]
    assert sorted(words) == sorted(set(words))


def test_an_unknown_word_lists_the_kinds() -> None:
    with pytest.raises(UsageError, match=r"there is no kind 'things'; the kinds are ippools, .*, endpoints$"):
        registry.find("things")
    with pytest.raises(UsageError, match=r"no kind Thing in group core"):
        registry.info(Kind("", "Thing"))
    assert registry.by_document("v1", "IPPool") is None
