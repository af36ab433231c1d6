"""Reads the beginnings of files that confs name: scripts, and the programs' own confs. Who wrote the conf is not trusted.

Nothing but regular files is opened: no FIFO that would block, no device that an opening would set off. What is read decides
a question, and is shown to nobody.
"""

from __future__ import annotations

import os
import stat

MOST_BYTES = 64 * 1024
"""Of one file. A script's ``exec`` behind that is not seen."""

MOST_FILES = 5000
"""Of one run."""

_NOT_READ = ("/proc/", "/sys/", "/dev/")


class Peeks:
    """Reads each file once. ``below``: a directory, of which alone files are read; empty for any."""

    def __init__(self, below: str = "") -> None:
        self._below = os.path.realpath(below) + os.sep if below else ""
        self._seen: dict[str, str | None] = {}

    def read(self, path: str) -> str | None:
        """The first ``MOST_BYTES`` of the text file at ``path``, an absolute path.

        None where there is none, the caller may not read it, or it is something else than a regular file of text.
        """
        if path not in self._seen:
            if len(self._seen) >= MOST_FILES:
                return None
            self._seen[path] = self._read(path)
        return self._seen[path]

    def _read(self, path: str) -> str | None:
        try:
            whole = os.path.realpath(path)
            if not path.startswith("/") or whole.startswith(_NOT_READ) or not whole.startswith(self._below):
                return None
            data = read_regular(whole, MOST_BYTES)
        except (OSError, ValueError):
            return None
        return None if b"\0" in data else data.decode("utf-8", "replace")


def read_regular(path: str, most: int) -> bytes:
    """The first ``most`` bytes of a regular file. Raises ``OSError``, also for what is not a regular file.

    What is at ``path`` is looked at before it is opened, and what is opened is what was looked at (``O_PATH``, open(2)).
    """
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(0, "not a regular file", path)
        with open(f"/proc/self/fd/{found}", "rb", buffering=0) as file:
            return file.read(most) or b""
    finally:
        os.close(found)
