"""What the registry was and when: one line for each manifest that both nodes have agreed on, as it came to the disk.

``registry.jsonl`` in the state directory; a line holds what changed since the one before it, the first line of a file all of
it. The contents are elsewhere: in the registry, and among the kept copies of both nodes.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ha_agent.core.manifest import Manifest, diff_manifests

TURN_BYTES = 4 * 1024 * 1024
"""Size at which the file is turned over; one older file is kept."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A manifest and since when it was agreed on, by this node's wall clock. ``label``: EPOCH.GENERATION."""

    at: float
    label: str
    manifest: Manifest


class RegistryLog:
    """Of one node. A line that cannot be written is lost, and the next one makes up for it."""

    def __init__(self, path: str, older: str, turn_bytes: int = TURN_BYTES) -> None:
        self._path, self._older, self._turn_bytes = path, older, turn_bytes
        self._written: Manifest | None = None

    def note(self, manifest: Manifest, label: str, wall: float | None = None) -> None:
        """Notes that both nodes hold ``manifest`` now, where that is another one than before."""
        if self._written is None:
            self._written = self._last_written()
        if self._written is not None and self._written == manifest:
            return
        line: dict[str, Any] = {"at": round(time.time() if wall is None else wall, 3), "label": label}
        if self._written is None:
            line["rows"] = manifest.to_rows()
        else:
            changes = diff_manifests(self._written, manifest)
            line |= {"puts": [entry.to_row() for entry in changes.puts], "deletes": list(changes.deletes)}
        try:
            size = self._append(json.dumps({**line, "hash": manifest.hash}, separators=(",", ":")))
        except OSError:
            self._written = None
            return
        self._written = manifest
        if size > self._turn_bytes:
            with contextlib.suppress(OSError):
                os.rename(self._path, self._older)
                # The new file begins with all of it.
                self._written = None

    def _append(self, line: str) -> int:
        with open(self._path, "a+b") as file:
            os.fchmod(file.fileno(), 0o600)
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                # A crash has left half a line.
                line = f"\n{line}"
            file.write(f"{line}\n".encode())
            return file.tell()

    def _last_written(self) -> Manifest | None:
        """What the newest line of the newest file leads to; None where a whole one is due."""
        newest = collections.deque(_read_file(self._path), maxlen=1)
        return newest[0].manifest if newest and newest[0] is not None else None

    def read(self) -> Iterator[Agreed]:
        """Every manifest that is known, oldest first. After a damaged line nothing is known before the next whole one."""
        for path in (self._older, self._path):
            for found in _read_file(path):
                if found is not None:
                    yield found


def _read_file(path: str) -> Iterator[Agreed | None]:
    """One a line; None for those that say nothing, because they are damaged or come after such a one."""
    manifest: Manifest | None = None
    with contextlib.suppress(FileNotFoundError, IsADirectoryError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
                manifest = _step(manifest, row)
                yield None if manifest is None else Agreed(float(row["at"]), str(row["label"]), manifest)
            except (ValueError, KeyError, TypeError):
                manifest = None
                yield None


def _step(before: Manifest | None, row: Any) -> Manifest | None:
    """The manifest that a line leads to. Raises ``ValueError``, ``KeyError`` and ``TypeError`` for what is no line."""
    if "rows" in row:
        manifest = Manifest.from_rows(row["rows"])
    elif before is None:
        return None
    else:
        manifest = before.changed(Manifest.from_rows(row["puts"]), [str(path) for path in row["deletes"]])
    return manifest if manifest.hash == row["hash"] else None


def find_agreed(known: Iterator[Agreed], at: float) -> tuple[Agreed | None, float | None]:
    """What was agreed on at the wall clock time ``at``, None where that is not known, and since when anything is known."""
    found, oldest = None, None
    for one in known:
        oldest = one.at if oldest is None else oldest
        if one.at <= at:
            found = one
    return found, oldest
