"""The receiver's intent journal: a transaction is decided by one fsync, and everything after it can be done again.

A record is ``HAJ1 <length> <sha256>\\n`` and a JSON body. A record that is not whole was never acknowledged and is
dropped at the next start; a whole one is rolled forward.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any

from ha_agent.adapters.files import fsync_dir, write_all

_MAGIC = b"HAJ1"


class Journal:
    """An append-only file of transactions that the agreed manifest on disk does not include yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self.size = 0

    def append(self, record: dict[str, Any]) -> None:
        """Adds ``record`` and waits until it is on disk. Raises ``OSError``; the record then counts as not written."""
        body = json.dumps(record, separators=(",", ":")).encode("ascii")
        head = b"%s %d %s\n" % (_MAGIC, len(body), hashlib.sha256(body).hexdigest().encode())
        fd = self._open()
        start = self.size
        try:
            write_all(fd, head + body + b"\n")
            os.fdatasync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, start)
            raise
        self.size = start + len(head) + len(body) + 1

    def _open(self) -> int:
        if self._fd is None:
            fresh = not os.path.exists(self._path)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self._fd).st_size
            if fresh:
                fsync_dir(os.path.dirname(self._path))
        return self._fd

    def read(self) -> list[dict[str, Any]]:
        """All whole records, oldest first. Stops at the first one that is not whole. Raises ``OSError``."""
        try:
            with open(self._path, "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            return []
        records = []
        at = 0
        while (end := raw.find(b"\n", at)) >= 0:
            parts = raw[at:end].split(b" ")
            if len(parts) != 3 or parts[0] != _MAGIC or not parts[1].isdigit():
                break
            body = raw[end + 1 : end + 1 + int(parts[1])]
            if hashlib.sha256(body).hexdigest().encode() != parts[2]:
                break
            records.append(json.loads(body))
            at = end + 1 + len(body) + 1
        return records

    def clear(self) -> None:
        """Forgets all records, durably. Raises ``OSError``."""
        fd = self._open()
        os.ftruncate(fd, 0)
        os.fdatasync(fd)
        self.size = 0

    def close(self) -> None:
        """Closes the file. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
