"""HPACK (RFC 7541), as far as two who keep no table of headers need it: we write everything out, and read what Go writes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

_STATUS = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}
_STATIC_LENGTH = 61

# How many bits each character of 32 to 126 has; the code is canonical, so that the lengths say all. No other character
# is in a header that concerns us (gRPC escapes them), but for the zero, which takes the first of 13 bits.
_BITS = (
    "6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 "
    "13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 "
    "15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13"
)


class Unreadable(Exception):
    """What came is no block of headers."""


def _codes() -> dict[tuple[int, int], str]:
    """Characters by the length and the value of their code."""
    lengths = sorted([(13, 0), *((int(bits), 32 + at) for at, bits in enumerate(_BITS.split()))])
    found: dict[tuple[int, int], str] = {}
    code, before = 0, lengths[0][0]
    for bits, character in lengths:
        code <<= bits - before
        before = bits
        found[bits, code] = chr(character)
        code += 1
    return found


_CODES = _codes()


def _unpacked(packed: bytes) -> str:
    """A string in Huffman's code."""
    text: list[str] = []
    bits = code = 0
    for byte in packed:
        for shift in range(7, -1, -1):
            code = code << 1 | (byte >> shift & 1)
            bits += 1
            character = _CODES.get((bits, code))
            if character is not None:
                text.append(character)
                bits = code = 0
            elif bits > 30:
                raise Unreadable("a string of headers is in no code")
    return "".join(text)


def _integer(value: int, prefix_bits: int, first: int = 0) -> bytes:
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    written = bytearray((first | most,))
    value -= most
    while value >= 128:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def written(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block that the other side need not remember."""
    block = bytearray()
    for each in headers:
        block.append(0)
        for text in each:
            raw = text.encode()
            block += _integer(len(raw), 7)
            block += raw
    return bytes(block)


@lru_cache(maxsize=64)
def read(block: bytes) -> dict[str, str]:
    """The headers that have a name, and ``:status``. A block depends on none before it, since we allow no table; answers
    that say the same are the same bytes. Raises `Unreadable`."""
    try:
        return _Reading(block).headers()
    except IndexError:
        raise Unreadable("a block of headers ends in the midst of one") from None


class _Reading:
    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = 0

    def headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._at < len(self._block):
            first = self._block[self._at]
            if first & 0x80:  # a name and its value, both of the static table
                index = self._integer(7)
                if index > _STATIC_LENGTH:
                    raise Unreadable("a header refers to a table that is not allowed")
                if index in _STATUS:
                    found[":status"] = _STATUS[index]
            elif first & 0xE0 == 0x20:
                if self._integer(5) != 0:
                    raise Unreadable("a table of headers is not allowed")
            else:
                index = self._integer(6 if first & 0x40 else 4)
                name = self._text() if index == 0 else ":status" if index in _STATUS else ""
                value = self._text()
                if name:
                    found[name] = value
        return found

    def _integer(self, prefix_bits: int) -> int:
        most = (1 << prefix_bits) - 1
        value = self._block[self._at] & most
        self._at += 1
        if value < most:
            return value
        shift = 0
        while True:
            byte = self._block[self._at]
            self._at += 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 28:
                raise Unreadable("a number in a block of headers is too large")

    def _text(self) -> str:
        packed = self._block[self._at] & 0x80
        length = self._integer(7)
        raw = self._block[self._at : self._at + length]
        if len(raw) < length:
            raise IndexError
        self._at += length
        return _unpacked(raw) if packed else raw.decode("utf-8", "replace")
