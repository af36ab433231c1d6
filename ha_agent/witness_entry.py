"""The forced command of a pair's keys at a witness host: keeps one record in a file, and does nothing else.

``authorized_keys`` names this program and the record, so a key reaches that record alone. Needs nothing but Python (3.7 and
later) and is one file, so that it can be copied to any host. It measures no time of the pair's: it reads the record, and
changes it where it still is what the asker saw. Frames on standard input and output: a length of four bytes, then JSON.

A host has two of these a pair, so it is kept small: it holds 4.3 MiB; argparse and typing, for which a session has no use,
made 6.1 of them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_DIRECTORY = "/var/lib/ha-agent-witness"

COMMAND = "votes"
"""The one thing that a node asks for; nothing else is answered."""

LONGEST_FRAME = 16384
LONGEST_TEXT = 4096

IDLE_S = 60.0
"""A session that says nothing for so long ends: its other end is gone, and sshd may not know it."""

LOCK_S = 0.3
"""Another session may hold the record for so long; one that was stopped meanwhile must not stop this one."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,126}")


DAMAGED = "the file of the record is damaged; an operator must remove it"


class Refused(Exception):
    """What was asked cannot be done; the text says why."""


def read_record(directory: str, name: str) -> tuple[int, str | None]:
    """(revision, text) of the record; (0, None) where there is none. Raises ``Refused`` for a file that is damaged."""
    try:
        with open(os.path.join(directory, name + ".json"), encoding="utf-8") as file:
            kept = json.load(file)
        revision, text = kept["revision"], kept["text"]
    except OSError as error:
        if error.errno == errno.ENOENT:
            return 0, None
        raise Refused(f"the record cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Refused(DAMAGED) from None
    if type(revision) is not int or revision < 1 or not isinstance(text, str):
        raise Refused(DAMAGED)
    return revision, text


def write_record(directory: str, name: str, revision: int, text: str) -> None:
    """Puts the record on the disk: new file, fsync, rename, fsync of the directory. A crash leaves the old or the new."""
    path = os.path.join(directory, name + ".json")
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, json.dumps({"revision": revision, "text": text}).encode("utf-8"))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(path + ".new", path)
    above = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


class Lock:
    """The record's lock, which other sessions take too. It is a file of its own: the record's is replaced at each write."""

    def __init__(self, directory: str, name: str) -> None:
        self._fd = os.open(os.path.join(directory, name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> None:
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused("another session holds the record") from None
                time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)


def answer(directory: str, name: str, lock: Lock, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question. Raises ``Refused``."""
    op = asked.get("op")
    if op not in ("read", "swap"):
        raise Refused("this key may read and swap one record")
    with lock:
        revision, text = read_record(directory, name)
        if op == "read":
            return {"revision": revision, "text": text}
        new = asked.get("new")
        if not isinstance(new, str) or len(new) > LONGEST_TEXT:
            raise Refused("new is not a text, or too long")
        done = asked.get("revision") == revision and asked.get("text") == text
        if done:
            revision, text = revision + 1, new
            write_record(directory, name, revision, text)
        return {"done": done, "revision": revision, "text": text}


def read_bytes(count: int) -> bytes | None:
    """``count`` bytes of standard input; None at its end, or when nothing came for ``IDLE_S``."""
    found = b""
    while len(found) < count:
        ready, _, _ = select.select([0], [], [], IDLE_S)
        piece = os.read(0, count - len(found)) if ready else b""
        if not piece:
            return None
        found += piece
    return found


def read_question() -> dict[str, Any] | None:
    """The next question; None at the end. Raises ``Refused`` for what is none, which ends the session."""
    head = read_bytes(4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    if length > LONGEST_FRAME:
        raise Refused(f"a frame of {length} bytes")
    body = read_bytes(length)
    if body is None:
        return None
    try:
        asked = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refused("a frame that is not JSON") from None
    if not isinstance(asked, dict):
        raise Refused("a frame that is not an object")
    return asked


def send(message: dict[str, Any]) -> None:
    """Sends one frame, in whole."""
    body = json.dumps(message).encode("ascii")
    data = struct.pack(">I", len(body)) + body
    while data:
        data = data[os.write(1, data) :]


def serve(directory: str, name: str) -> None:
    """Answers until the other end is gone. Raises ``Refused`` and ``OSError``."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = Lock(directory, name)
    while True:
        asked = read_question()
        if asked is None:
            return
        try:
            said = answer(directory, name, lock, asked)
        except Refused as error:
            said = {"error": str(error)}
        except OSError as error:
            said = {"error": f"the record cannot be written: {error.strerror}"}
        said["id"] = asked.get("id")
        send(said)


def read_words(words: list[str]) -> tuple[str, str]:
    """The record's name and the directory, of a command line; for one of another form the usage is shown, and it ends."""
    given = dict(zip(words[::2], words[1::2]))  # noqa: B905 Python 3.7 knows no strict
    if "--record" in given and given.keys() <= {"--record", "--directory"} and len(given) * 2 == len(words):
        return given["--record"], given.get("--directory", DEFAULT_DIRECTORY)
    import argparse

    parser = argparse.ArgumentParser(prog="ha-agent-witness", description=__doc__)
    parser.add_argument("--record", required=True, help="the record's name, one for each pair")
    parser.add_argument("--directory", default=DEFAULT_DIRECTORY, help="where records lie (default: %(default)s)")
    options = parser.parse_args(words)
    return options.record, options.directory


def main() -> int:
    """Serves one session; the exit status is what ssh reports at the node."""
    record, directory = read_words(sys.argv[1:])
    os.umask(0o077)
    try:
        if not NAME.fullmatch(record):
            raise Refused(f"{record!r:.80} is not a name of a record")
        asked = os.environ.get("SSH_ORIGINAL_COMMAND", COMMAND)
        if asked != COMMAND:
            raise Refused(f"this key may do {COMMAND}, not {asked!r:.80}")
        serve(directory, record)
    except (Refused, OSError) as error:
        print(f"ha-agent-witness: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 3 if isinstance(error, Refused) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
