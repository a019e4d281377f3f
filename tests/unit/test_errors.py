"""How errors read."""

from __future__ import annotations

from tortie.errors import InvalidResource


def test_a_long_value_is_not_printed_whole() -> None:
    error = InvalidResource("spec.cidr", "x" * 100_000, "is no prefix", f"IPPool {'y' * 300}", "f.yaml:1")
    text = str(error)
    assert len(text) < 500
    assert text.startswith("f.yaml:1: IPPool yyy")
    assert text.endswith("xxx… (100000 characters) is no prefix")


def test_a_short_one_is() -> None:
    error = InvalidResource("spec.blockSize", 33, "is not between 20 and 32", "IPPool a", "f.yaml:4")
    assert str(error) == "f.yaml:4: IPPool a: spec.blockSize: 33 is not between 20 and 32"
