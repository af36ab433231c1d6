"""Frames: length-prefixed JSON objects, on the control socket and between the two agents alike."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from ha_agent.core.reasons import reason_of

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Enough for the manifest of a registry of about 100,000 confs; anything longer is an attack or an accident."""

MOST_SECONDS = 1e15
"""More than any time or duration. JSON as Python reads it has NaN, and numbers too large for any arithmetic with a clock."""

_HEADER = struct.Struct(">I")

Message = dict[str, Any]


class FrameError(ValueError):
    """The bytes received are not a frame. The connection that sent them cannot be used any further."""


def encode_frame(message: Message) -> bytes:
    """``message`` as bytes ready to send. Raises ``FrameError`` where it is longer than a frame may be, or holds a NaN."""
    try:
        body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise FrameError(f"a message cannot be sent: {error}") from None
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"frame of {len(body)} bytes; at most {MAX_FRAME_BYTES} are allowed")
    return _HEADER.pack(len(body)) + body


class FrameDecoder:
    """Turns a stream of bytes into messages, however the bytes were cut."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max = max_bytes

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by ``data``. Raises ``FrameError``; the decoder is unusable afterwards."""
        self.push(data)
        messages: list[Message] = []
        while (message := self.take()) is not None:
            messages.append(message)
        return messages

    def push(self, data: bytes) -> None:
        """Takes ``data`` in, for ``take``."""
        self._buffer += data

    def take(self) -> Message | None:
        """The next message; None where it is not complete. Raises ``FrameError``; the decoder is unusable afterwards."""
        if len(self._buffer) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self._buffer)
        if length > self._max:
            raise FrameError(f"a frame announces {length} bytes; at most {self._max} are allowed")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        message = _decode_body(bytes(self._buffer[_HEADER.size : end]))
        del self._buffer[:end]
        return message

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _read_float(text: str) -> float:
    """A finite number; Python reads 1e999 as infinity, with which no comparison and no clock means anything."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is not a number")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_read_float)


def _decode_body(body: bytes) -> Message:
    try:
        message = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a frame is not JSON: {reason_of(error)}") from None
    if not isinstance(message, dict):
        raise FrameError(f"a frame holds {type(message).__name__}, not an object")
    return message
