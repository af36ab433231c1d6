"""A stream of frames over a pair of file descriptors, driven by the event loop without a task or a copy of its own.

Serves the control socket, the ssh client's pipes, and the pipes of sshd that a relay handed over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ha_agent.core.frames import MAX_FRAME_BYTES, FrameDecoder, FrameError, Message, encode_frame

MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""A reader that is this far behind is given up, so that it cannot fill this node's memory."""


class FrameStream:
    """Calls ``on_message`` for every frame and ``on_close`` once, with a reason. Owns both descriptors.

    ``max_frame_bytes``: a longer frame closes the stream. ``on_drain`` is called when all that was sent has been taken.
    """

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        on_message: Callable[[FrameStream, Message], None],
        on_close: Callable[[FrameStream, str], None],
        max_frame_bytes: int = MAX_FRAME_BYTES,
        on_drain: Callable[[FrameStream], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_fd, self._write_fd = read_fd, write_fd
        self._on_message, self._on_close = on_message, on_close
        self._on_drain = on_drain
        self._decoder = FrameDecoder(max_frame_bytes)
        self._paused = False
        self._unsent = bytearray()
        self.is_open = True
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        self._loop.add_reader(read_fd, self._readable)

    @property
    def unsent_bytes(self) -> int:
        """What the other end has not taken yet."""
        return len(self._unsent)

    def pause(self) -> None:
        """Reads no further, also not what has come in already. Idempotent."""
        if self.is_open and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._read_fd)

    def resume(self) -> None:
        """Reads on, what has come in already first, but not within this call. Idempotent."""
        if self.is_open and self._paused:
            self._paused = False
            self._loop.add_reader(self._read_fd, self._readable)
            self._loop.call_soon(self._deliver)

    def send(self, message: Message) -> int:
        """Sends ``message`` now or as soon as the other end takes it; says how long it is.

        On a closed stream it is dropped.
        """
        if not self.is_open:
            return 0
        data = encode_frame(message)
        self._send(data)
        return len(data)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > MAX_UNSENT_BYTES:
                self.close("the other end does not read")
            return
        try:
            sent = os.write(self._write_fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(f"cannot be written to: {error.strerror}")
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._write_fd, self._writable)

    def _writable(self) -> None:
        try:
            sent = os.write(self._write_fd, self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"cannot be written to: {error.strerror}")
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._write_fd)
            if self._on_drain is not None:
                self._on_drain(self)

    def _readable(self) -> None:
        try:
            data = os.read(self._read_fd, 262144)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"cannot be read: {error.strerror}")
            return
        if not data:
            self.close("closed by the other end")
            return
        self._decoder.push(data)
        self._deliver()

    def _deliver(self) -> None:
        """Hands over what is complete, until the stream is paused by that."""
        while self.is_open and not self._paused:
            try:
                message = self._decoder.take()
            except FrameError as error:
                self.close(str(error))
                return
            if message is None:
                return
            self._on_message(self, message)

    def close(self, reason: str) -> None:
        """Closes both descriptors and reports ``reason``. Idempotent."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._read_fd)
        self._loop.remove_writer(self._write_fd)
        for fd in {self._read_fd, self._write_fd}:
            os.close(fd)
        self._on_close(self, reason)
