"""A client outside the two nodes that writes to the redis of the examples through the VIP, and says what became of it.

Two writers: one waits after each write until a second redis has it (WAIT 1) and takes it for done only then; the other one
takes the redis's own answer for it, as most clients do. In the end what the redis holds is compared with what was answered.
Run at the switch: ``python -m ha_agent.lab.writes ADDRESS PORT SECONDS`` prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ha_agent.core.reasons import reason_of

TIMEOUT_S = 0.5
COPY_MS = 200
"""How long the careful writer has the redis wait for the second one's word."""
PAUSE_S = 0.002
BATCH = 50
"""The hurried writer sends so many writes at once."""
AFTERWARDS_S = 30.0
"""How long the redis may be away at the end, before this gives up."""


@dataclass(slots=True)
class Tally:
    """What one writer was told, by the numbers that it wrote."""

    answered: set[int] = field(default_factory=set)
    confirmed: set[int] = field(default_factory=set)
    last_mono: float | None = None
    pause_s: float = 0.0

    def note_answer(self, number: int, now: float) -> None:
        """A write was answered at ``now``, monotonic seconds."""
        self.answered.add(number)
        if self.last_mono is not None:
            self.pause_s = max(self.pause_s, now - self.last_mono)
        self.last_mono = now

    def judge(self, kept: Collection[int]) -> dict[str, Any]:
        """The account, once it is known which numbers the redis holds."""
        lost = self.answered - set(kept)
        return {
            "answered": len(self.answered),
            "confirmed": len(self.confirmed),
            "lost_confirmed": len(lost & self.confirmed),
            "lost_answered": len(lost - self.confirmed),
            "pause_s": round(self.pause_s, 2),
        }


class Refused(OSError):
    """The redis answered with an error: it is a replica, or loads its data."""


class Connection:
    """One connection to a redis. Every method raises ``OSError``."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), TIMEOUT_S)
        self._file: BinaryIO = self._socket.makefile("rb")

    def ask(self, commands: Sequence[str]) -> Iterator[Any]:
        """Sends commands (words with blanks between) at once; yields each answer as it comes.

        Raises ``Refused`` for an answer that is an error.
        """
        self._socket.sendall("".join(command + "\r\n" for command in commands).encode())
        for _ in commands:
            yield self._read()

    def _read(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode("utf-8", "replace"))
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2] if rest != b"-1" else None
        return int(rest) if kind == b":" else rest

    def close(self) -> None:
        """Ends it."""
        self._file.close()
        self._socket.close()


class Writer:
    """Writes numbers into a set of the redis until it is told to end, over a new connection after each failure."""

    def __init__(self, target: tuple[str, int], key: str, *, is_careful: bool) -> None:
        self._target, self._key, self._is_careful = target, key, is_careful
        self.tally = Tally()

    def work(self, until_mono: float) -> None:
        """Writes until ``until_mono``."""
        first, connection = 0, None
        while time.monotonic() < until_mono:
            batch = range(first, first + (1 if self._is_careful else BATCH))
            first = batch.stop
            try:
                connection = connection or Connection(*self._target)
                self._write(connection, batch)
            except OSError:
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
            time.sleep(PAUSE_S)
        if connection is not None:
            connection.close()

    def _write(self, connection: Connection, batch: range) -> None:
        wait = [f"WAIT 1 {COPY_MS}"] if self._is_careful else []
        answers = connection.ask([f"SADD {self._key} {number}" for number in batch] + wait)
        for number in batch:
            next(answers)
            self.tally.note_answer(number, time.monotonic())
        for copies in answers:
            if copies >= 1:
                self.tally.confirmed.update(batch)


def read_kept(target: tuple[str, int], key: str, limit_s: float = AFTERWARDS_S) -> set[int]:
    """The numbers that the redis holds, which are removed there. Raises ``OSError`` where it does not answer in time."""
    until = time.monotonic() + limit_s
    while True:
        try:
            connection = Connection(*target)
            with contextlib.closing(connection):
                members, _ = connection.ask([f"SMEMBERS {key}", f"DEL {key}"])
                return {int(one) for one in members}
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def render(account: dict[str, Any]) -> str:
    """The account as a person reads it."""
    lines = []
    for name, kind in (("careful", "each with WAIT 1"), ("hurried", "without WAIT")):
        one = account[name]
        lines.append(f"{name}, {kind}: {one['answered']} writes were answered, longest pause {one['pause_s']:.2f} s")
        if name == "careful":
            lines.append(f"  confirmed by a second redis: {one['confirmed']}, of these lost: {one['lost_confirmed']}")
        lines.append(
            f"  answered by one redis alone: {one['answered'] - one['confirmed']}, of these lost: {one['lost_answered']}"
        )
    return "\n".join(lines)


def main() -> int:
    """Command line: ``python -m ha_agent.lab.writes ADDRESS PORT SECONDS``."""
    target, until = (sys.argv[1], int(sys.argv[2])), time.monotonic() + float(sys.argv[3])
    token = secrets.token_hex(4)
    writers = {n: Writer(target, f"writes:{token}:{n}", is_careful=n == "careful") for n in ("careful", "hurried")}
    threads = [threading.Thread(target=writer.work, args=(until,)) for writer in writers.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        kept = {name: read_kept(target, f"writes:{token}:{name}") for name in writers}
    except OSError as error:
        print(f"the redis at {target[0]} does not answer: {reason_of(error)}", file=sys.stderr)
        return 1
    print(json.dumps({name: writer.tally.judge(kept[name]) for name, writer in writers.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
