"""Headers as HTTP/2 packs them. The examples are those of RFC 7541, appendix C, and strings packed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.datastore.etcd.header_blocks import Unreadable, read, written

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)


@given(st.dictionaries(WORDS.filter(bool), WORDS, max_size=5))
def test_what_was_written_reads_the_same(headers: dict[str, str]) -> None:
    assert read(written(headers.items())) == headers


def test_names_and_values_of_the_static_table() -> None:
    assert read(bytes.fromhex("88")) == {":status": "200"}
    assert read(bytes.fromhex("8d")) == {":status": "404"}
    assert read(bytes.fromhex("4803333032")) == {":status": "302"}
    assert read(bytes.fromhex("82 86 84".replace(" ", ""))) == {}


def test_huffmans_code() -> None:
    # C.4.1: www.example.com, C.4.3: custom-key: custom-value, C.6.1: 302
    packed = bytes.fromhex("40 8825a849e95ba97d7f 8925a849e95bb8e8b4bf".replace(" ", ""))
    assert read(packed) == {"custom-key": "custom-value"}
    assert read(bytes.fromhex("418cf1e3c2e5f23a6ba0ab90f4ff")) == {}
    assert read(bytes.fromhex("48826402")) == {":status": "302"}


def test_a_table_that_is_not_allowed() -> None:
    assert read(bytes.fromhex("2088")) == {":status": "200"}  # a table of no size is one that is not kept
    with pytest.raises(Unreadable, match="table"):
        read(bytes.fromhex("3f01"))
    with pytest.raises(Unreadable, match="table"):
        read(bytes.fromhex("be"))


@pytest.mark.parametrize(
    "block", ["40", "4085", "40856162", "ff", "00ffffffffffffff7f61", "40ff80808080808001"]
)
def test_half_a_block(block: str) -> None:
    with pytest.raises(Unreadable):
        read(bytes.fromhex(block))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(block: bytes) -> None:
    try:
        found = read(block)
    except Unreadable:
        return
    assert all(isinstance(value, str) for value in found.values())
