"""Frames survive any cutting of the stream; what is no frame is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.cni import frames
from tortie.cni.errors import CNIError
from tortie.cni.frames import DelegateEnd, Frame

kinds = st.sampled_from([frames.REQUEST, frames.CONFIG, frames.DELEGATE, frames.DELEGATE_END, frames.RESULT])


@given(sent=st.lists(st.tuples(kinds, st.binary(max_size=40))), cuts=st.lists(st.integers(1, 17), min_size=1))
def test_frames_arrive_whole_however_the_stream_is_cut(
    sent: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frames.encode(kind, payload) for kind, payload in sent)
    decoder = frames.Decoder()
    got: list[Frame] = []
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        turn += 1
        got += decoder.feed(stream[:size])
        stream = stream[size:]
    assert [tuple(frame) for frame in got] == sent


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", frames.HEADER.pack(0, b"Z"), frames.HEADER.pack(1 << 23, b"Q")]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(CNIError, match="no frame of ours"):
        list(frames.Decoder().feed(data))


def test_a_frame_has_a_largest_size() -> None:
    with pytest.raises(ValueError, match="larger than"):
        frames.encode_result(0, b"x" * frames.MAX_PAYLOAD_BYTES)


def test_the_end_of_a_delegated_plugin() -> None:
    assert frames.decode_delegate_end(b"\0\0\0\x83out") == DelegateEnd(131, b"out")
    with pytest.raises(CNIError):
        frames.decode_delegate_end(b"\0")


def test_an_unreadable_request_says_what_to_do() -> None:
    with pytest.raises(CNIError, match="tortie cni install"):
        frames.decode_request(b'{"env": 7}')
