"""Frames come back whole however the bytes are cut, and rubbish is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.frames import FrameDecoder, FrameError, encode_frame

messages = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4), max_size=5)


@given(messages, st.lists(st.integers(min_value=1, max_value=9), min_size=1))
def test_messages_survive_any_cutting_of_the_stream(sent: list[dict[str, object]], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, sent))
    decoder, got, at, turn = FrameDecoder(), [], 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        got += decoder.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    assert got == sent
    assert decoder.pending_bytes == 0


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_waited_for_and_nothing_else(data: bytes) -> None:
    decoder = FrameDecoder(max_bytes=1000)
    try:
        decoder.feed(data)
    except FrameError:
        return
    assert decoder.pending_bytes <= len(data)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1x", b"\0\0\0\2\xff\xff", b"\0\0\x10\0" + b"[" * 4096]
)
def test_frames_that_are_too_long_or_no_object_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        FrameDecoder(max_bytes=5000).feed(data)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000])
def test_what_is_no_number_is_no_frame(number: str) -> None:
    body = f'{{"hold_s": {number}}}'.encode()
    with pytest.raises(FrameError, match="not JSON"):
        FrameDecoder().feed(len(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_sent(number: float) -> None:
    with pytest.raises(FrameError, match="cannot be sent"):
        encode_frame({"took_s": number})
