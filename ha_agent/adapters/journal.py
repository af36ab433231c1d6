"""The receiver's intent journal: a transaction is decided by one fsync, and everything after it can be done again.

The file has a fixed size and is written in place, so that the fsync of a record changes no metadata and starts no commit
of the file system's own journal (measured on ext4: it halves the time, and what follows does not wait either). A record
is ``HAJ1 <round> <length> <sha256>\\n`` and a JSON body. Clearing begins a new round, so that what an older round left
behind the last record is never taken for a record. A record that is not whole was never acknowledged and is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

from ha_agent.adapters.files import fsync_dir, put_aside, write_all

FIRST_BYTES = 4 * 1024 * 1024

_MAGIC = b"HAJ1"

_HEADER_BYTES = 256
"""No first line of a record is longer."""


JournalPlace = tuple[bytes, int]
"""Where the next record goes: it changes with each record, and when the journal is cleared."""


class Journal:
    """Transactions that the agreed manifest on disk does not include yet.

    ``first_bytes``: the size of a new file. What is written beyond it is safe as well, but slower.
    """

    def __init__(self, path: str, first_bytes: int = FIRST_BYTES) -> None:
        self._path, self._first_bytes = path, first_bytes
        self._fd: int | None = None
        self._round = secrets.token_hex(8).encode()
        self.size = 0

    @property
    def place(self) -> JournalPlace:
        """Where the next record goes."""
        return self._round, self.size

    def append(self, record: dict[str, Any]) -> None:
        """Adds ``record`` and waits until it is on disk. Raises ``OSError``; the record then counts as not written."""
        body = json.dumps(record, separators=(",", ":")).encode("ascii")
        digest = hashlib.sha256(body).hexdigest().encode()
        data = b"%s %s %d %s\n%s\n" % (_MAGIC, self._round, len(body), digest, body)
        fd = self._open()
        # The byte behind the record is cleared with it: nothing that follows can begin there.
        written = os.pwrite(fd, data + b"\0", self.size)
        if written != len(data) + 1:
            raise OSError(28, "No space left on device", self._path)
        os.fdatasync(fd)
        self.size += len(data)

    def _open(self) -> int:
        if self._fd is not None and not self._is_there(self._fd):
            # Somebody has taken the file away: what is written to it would be nowhere after a crash.
            self.close()
            self.size = 0
        if self._fd is None:
            if os.path.isdir(self._path):
                put_aside(self._path)
            if not os.path.exists(self._path):
                self._create()
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            self._continue(self._fd)
        return self._fd

    def _is_there(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(fd))
        except FileNotFoundError:
            return False

    def _create(self) -> None:
        temporary = self._path + ".new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, bytes(self._first_bytes))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, self._path)
        fsync_dir(os.path.dirname(self._path))

    def _continue(self, fd: int) -> None:
        """Continues behind the whole records that are there."""
        self.size = 0
        for round_id, end, _ in _records(fd):
            self._round, self.size = round_id, end

    def read(self) -> list[dict[str, Any]]:
        """All whole records, oldest first. Stops at the first record that is not whole. Raises ``OSError``."""
        if not os.path.exists(self._path):
            return []
        return [json.loads(body) for _, _, body in _records(self._open())]

    def clear(self) -> None:
        """Forgets all records, durably. Raises ``OSError``."""
        if self.size == 0 and self._fd is not None:
            return
        fd = self._open()
        if self.size > self._first_bytes:
            os.ftruncate(fd, self._first_bytes)
        os.pwrite(fd, bytes(64), 0)
        os.fdatasync(fd)
        self._round = secrets.token_hex(8).encode()
        self.size = 0

    def close(self) -> None:
        """Closes the file. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _records(fd: int) -> Iterator[tuple[bytes, int, bytes]]:
    """The whole records: round, end and body of each. What lies behind the last one is not read: it is most of the file."""
    at, first, limit = 0, None, os.fstat(fd).st_size
    while (length := (header := os.pread(fd, _HEADER_BYTES, at)).find(b"\n")) >= 0:
        parts = header[:length].split(b" ")
        if len(parts) != 4 or parts[0] != _MAGIC or not parts[2].isdigit() or first not in (None, parts[1]):
            return
        at += length + 1
        body = _read_exactly(fd, min(int(parts[2]), limit), at)
        if hashlib.sha256(body).hexdigest().encode() != parts[3]:
            return
        first = parts[1]
        at += len(body) + 1
        yield parts[1], at, body


def _read_exactly(fd: int, length: int, at: int) -> bytes:
    """``length`` bytes from ``at`` on, or all that there are."""
    chunks = []
    while length and (chunk := os.pread(fd, length, at)):
        chunks.append(chunk)
        at, length = at + len(chunk), length - len(chunk)
    return b"".join(chunks)
