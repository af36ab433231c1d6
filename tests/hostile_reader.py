"""Somebody who may only look, and asks for as much as the socket takes: a program for a node, and how it is begun there.

``python -m tests.hostile_reader MESSAGE ...`` runs until its standard input ends. It says ``begun`` once all its
connections stand and have sent something, and one JSON object at its end: how many answers came, how many connections were
opened, and how many of them the agent closed. It uses nothing of the project, so that it asks an agent of any age.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
SOCKET = "/run/ha-agent/read.sock"
HISTORY = {"op": "history", "count": 10_000}
"""The largest answer that a reader can have."""

HISTORY_BYTES = 8 << 20
"""What ``paths.history_max_bytes`` allows by default."""


# ---- on the node ----------------------------------------------------------------------------------------------


def frame_of(message: dict[str, Any], size: int) -> bytes:
    """``message`` as a frame; with ``size`` one of about so many bytes, of lists that each cost a reader of JSON more."""
    body = json.dumps({**message, "id": 1}).encode()
    if size:
        body = body[:-1] + b', "rest": [' + b"[]," * ((size - len(body)) // 3) + b"[]]}"
    return struct.pack(">I", len(body)) + body


class Connection:
    """One connection: what is to be sent on it, and how many answers came."""

    def __init__(self, frame: bytes, count: int | None) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5.0)
        self.sock.connect(SOCKET)
        self.sock.setblocking(False)
        self.has_sent = False
        self._frame, self._left, self._out, self._in = frame, count, b"", b""
        self._to_skip = 0

    def wants_to_send(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._out) or self._left != 0

    def send(self) -> None:
        """Sends what the agent takes. Raises ``OSError``."""
        if not self._out:
            batch = max(1, 65536 // len(self._frame))
            batch = batch if self._left is None else min(batch, self._left)
            self._left = None if self._left is None else self._left - batch
            self._out = self._frame * batch
        with contextlib.suppress(BlockingIOError):
            self._out = self._out[self.sock.send(self._out) :]
            self.has_sent = True

    def receive(self) -> int:
        """How many answers are complete. Raises ``OSError`` and ``EOFError``."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return 0
        if not data:
            raise EOFError
        answers = 0
        while data:
            skipped = min(self._to_skip, len(data))
            self._to_skip, data = self._to_skip - skipped, data[skipped:]
            self._in, data = self._in + data[: 4 - len(self._in)], data[4 - len(self._in) :]
            if len(self._in) == 4 and not self._to_skip:
                (self._to_skip,), self._in = struct.unpack(">I", self._in), b""
                answers += 1
        return answers


class HostileReader:
    """Keeps ``wanted`` connections busy, and opens another one for each that the agent closes."""

    def __init__(self, frame: bytes, wanted: int, count: int | None, *, unread: bool) -> None:
        self._frame, self._wanted, self._count, self._unread = frame, wanted, count, unread
        self._connections: dict[int, Connection] = {}
        self.answers = self.closed = self.opened = 0
        self._has_begun = False

    def run(self, pause_s: float) -> None:
        """Works until standard input ends. ``pause_s``: before one that was closed is opened again."""
        while True:
            while len(self._connections) < self._wanted:
                try:
                    one = Connection(self._frame, self._count)
                except OSError:
                    # The backlog is full, or the agent is away.
                    time.sleep(0.01)
                    break
                self._connections[one.sock.fileno()] = one
                self.opened += 1
            if self._turn():
                return
            self._say_begun()
            if len(self._connections) < self._wanted:
                time.sleep(pause_s)

    def _say_begun(self) -> None:
        if not self._has_begun and (self.closed or all(c.has_sent for c in self._connections.values())):
            self._has_begun = True
            print("begun", flush=True)

    def _turn(self) -> bool:
        """One round of sending and receiving; says whether standard input has ended."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        for fd, one in self._connections.items():
            poll.register(fd, (0 if self._unread else select.POLLIN) | (select.POLLOUT if one.wants_to_send() else 0))
        for fd, event in poll.poll(100):
            if fd == 0:
                return True
            try:
                if event & select.POLLOUT:
                    self._connections[fd].send()
                if event & ~select.POLLOUT:
                    self.answers += self._connections[fd].receive()
            except (OSError, EOFError):
                self._connections.pop(fd).sock.close()
                self.closed += 1
        return False


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("message", type=json.loads, help="the request")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--requests", type=int, help="on each connection; without end by default")
    parser.add_argument("--frame-bytes", type=int, default=0, help="longer requests, of lists")
    parser.add_argument("--unread", action="store_true", help="reads no answer")
    parser.add_argument("--pause-s", type=float, default=0.02)
    options = parser.parse_args()
    frame = frame_of(options.message, options.frame_bytes)
    reader = HostileReader(frame, options.connections, options.requests, unread=options.unread)
    reader.run(options.pause_s)
    print(json.dumps({"answers": reader.answers, "closed": reader.closed, "opened": reader.opened}), flush=True)
    return 0


# ---- beside it ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading(words_as: list[str], message: dict[str, Any], *options: str) -> Iterator[dict[str, int]]:
    """Has it run as long as the block does; ``words_as`` runs a command on a node as its user.

    What is yielded is filled in at the end.
    """
    words = [*words_as, "env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1"]
    words += [sys.executable, "-m", "tests.hostile_reader", json.dumps(message), *options]
    found: dict[str, int] = {}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == "begun\n", "the reader did not begin"
            yield found
        finally:
            process.stdin.close()
            said = process.stdout.read()
    if process.returncode == 0:
        found.update(json.loads(said))


def fill_history(folder: str, node: str) -> None:
    """Fills the history below ``folder`` (a node's state directory) almost to its limit, with changes of role."""
    steps = dict.fromkeys(("claim", "interlock", "activate", "orphans", "load", "start", "verify", "push"), 0.012)
    event = {"at": 1.0, "node": node, "code": "vip-here", "from": "taking_over", "to": "active", "epoch": 1, "steps": steps}
    line = json.dumps({**event, "text": "keepalived says MASTER and the VIP is here: everything runs"}) + "\n"
    for name in ("history.jsonl.1", "history.jsonl"):
        path = pathlib.Path(folder, name)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(line * ((HISTORY_BYTES - 64 * 1024 - len(old)) // len(line)) + old, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
