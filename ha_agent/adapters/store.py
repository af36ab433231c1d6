"""What the agent remembers across restarts: the epoch, the agreed manifest, and the history.

Everything here is written so that a crash leaves the old or the new, and read so that damage is said and never guessed
over: a damaged file is put aside under another name, a file of a newer version stops the agent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ha_agent.adapters.files import make_dir, put_aside, read_or_none, write_all, write_atomic
from ha_agent.adapters.registry_log import RegistryLog
from ha_agent.core.history_codes import former_event_code
from ha_agent.core.manifest import EMPTY, Manifest
from ha_agent.core.places import StatePlaces
from ha_agent.core.transaction import Watermark

VERSION = 1

RESERVE_BYTES = 256 * 1024
"""Kept occupied for the one write that a takeover cannot do without."""

PAGE_BYTES = 256 * 1024
"""Lines of the history in one answer: who looks has the agent hold no more than that, and the loop describe no more."""


class StateTooNew(Exception):
    """A state file was written by a newer agent; continuing could destroy what it means."""


@dataclass(slots=True)
class Loaded:
    """What was found at the start. ``remarks`` tell of damage and of what was done about it."""

    known: Watermark = field(default_factory=Watermark)
    generation: int = 0
    agreed: Manifest = EMPTY
    remarks: list[str] = field(default_factory=list)


class Store:
    """Files below the state directory."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self._places = StatePlaces(state_dir)
        self._registry_log = RegistryLog(self._places.registry_log, self._places.older_registry_log)

    def prepare(self) -> bool:
        """Makes the directories, readable by root alone, and the reserve. Says whether it made one. Raises ``OSError``."""
        places = self._places
        made = [make_dir(path, 0o700) for path in (self.state_dir, places.staging, places.outgoing, places.kept)]
        self.renew_reserve()
        return any(made)

    def renew_reserve(self) -> None:
        """Makes the reserve again where it was used up. A full disk is not an error."""
        if os.path.isfile(self._places.reserve):
            return
        temporary = self._places.reserve + ".new"
        try:
            if os.path.lexists(self._places.reserve):
                put_aside(self._places.reserve)
            with open(temporary, "wb", buffering=0) as file:
                write_all(file.fileno(), bytes(RESERVE_BYTES))
            os.rename(temporary, self._places.reserve)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def load(self) -> Loaded:
        """Reads everything. Raises ``StateTooNew``, and ``OSError`` where damage can be neither read nor put aside."""
        loaded = Loaded()
        state = self._read(self._places.state, loaded.remarks)
        agreed = self._read(self._places.agreed, loaded.remarks)
        if state is not None:
            loaded.known = Watermark(int(state["epoch"]), str(state["claimed_by"]))
            loaded.generation = int(state["generation"])
        if agreed is not None:
            loaded.agreed = Manifest.from_rows(agreed["rows"])
            mark = Watermark(int(agreed["epoch"]), str(agreed["claimed_by"]))
            if (mark.epoch, mark.claimed_by) > (loaded.known.epoch, loaded.known.claimed_by):
                loaded.known = mark
        return loaded

    def _read(self, path: str, remarks: list[str]) -> dict[str, Any] | None:
        raw = b"?"
        try:
            found = read_or_none(path)
            if found is None:
                return None
            raw = found
            content = json.loads(raw)
            if content["version"] > VERSION:
                raise StateTooNew(
                    f"{path} is of version {content['version']}, this agent knows {VERSION}: "
                    "install the newer ha-agent again, or move the file away to begin from nothing"
                )
            _check_shape(content, has_rows=path == self._places.agreed)
        except (OSError, ValueError, TypeError, KeyError) as error:
            aside = f"{path}.damaged-{int(time.time())}"
            os.rename(path, aside)
            what = "empty" if not raw else f"damaged ({type(error).__name__})"
            remarks.append(f"{path} is {what}; put aside as {aside}, the agent continues without it")
            return None
        return content if isinstance(content, dict) else None

    def save_state(self, known: Watermark, generation: int) -> None:
        """Puts the epoch on disk, durably. Raises ``OSError``; the old state is kept then.

        A full disk does not keep a node from taking over: the reserve makes room.
        """
        content = {"version": VERSION, "epoch": known.epoch, "claimed_by": known.claimed_by, "generation": generation}
        data = json.dumps(content).encode() + b"\n"
        try:
            write_atomic(self._places.state, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not os.path.exists(self._places.reserve):
                raise
            os.unlink(self._places.reserve)
            write_atomic(self._places.state, data)

    def save_agreed(self, known: Watermark, generation: int, agreed: Manifest) -> None:
        """Puts the agreed manifest on disk, durably. Raises ``OSError``; the old one is kept then."""
        content = {
            "version": VERSION,
            "epoch": known.epoch,
            "claimed_by": known.claimed_by,
            "generation": generation,
            "rows": agreed.to_rows(),
        }
        write_atomic(self._places.agreed, json.dumps(content, separators=(",", ":")).encode() + b"\n")
        self._registry_log.note(agreed, f"{known.epoch}.{generation}")


def _check_shape(content: dict[str, Any], *, has_rows: bool) -> None:
    Watermark(int(content["epoch"]), str(content["claimed_by"]))
    int(content["generation"])
    if has_rows:
        Manifest.from_rows(content["rows"])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line of the history begins: in which file, by its inode, and how far from its beginning."""

    inode: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """The inverse of ``str``. Raises ``ValueError``."""
        inode, offset = text.split(":")
        return cls(int(inode), int(offset))

    def __str__(self) -> str:
        return f"{self.inode}:{self.offset}"


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Events, oldest first. ``older``: before which place those lie that were asked for, too; None where there are none."""

    events: list[dict[str, Any]]
    older: Place | None


class History:
    """``history.jsonl``: one JSON object a line, every transition and decision with its cause."""

    def __init__(self, state_dir: str, node: str, max_bytes: int) -> None:
        places = StatePlaces(state_dir)
        self._path, self._older_path = places.history, places.older_history
        self._node = node
        self._max_bytes = max_bytes

    def add(self, code: str, text: str, **details: Any) -> dict[str, Any]:
        """Appends an event and returns it, with the ``alias`` of its code where there is one.

        A full disk loses the line, not the agent.
        """
        event = {"at": round(time.time(), 3), "node": self._node, "code": code, "text": text, **details}
        if (alias := former_event_code(event)) is not None:
            event["alias"] = alias
        with contextlib.suppress(OSError):
            if os.path.isdir(self._path):
                put_aside(self._path)
            with open(self._path, "a", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o640)
                file.write(json.dumps(event) + "\n")
                size = file.tell()
            if size > self._max_bytes:
                os.rename(self._path, self._older_path)
        return event

    def read(self, count: int, since_wall: float = 0.0) -> list[dict[str, Any]]:
        """The newest ``count`` events that are not older than ``since_wall``, oldest first, as many as a page holds.

        Raises ``OSError``.
        """
        return self.read_page(count, since_wall).events

    def read_page(self, count: int, since_wall: float = 0.0, before: Place | None = None) -> HistoryPage:
        """The newest ``count`` events before a place, not older than ``since_wall``, as many as ``PAGE_BYTES`` hold.

        Lines that are no JSON (cut off by a crash) are left out, and a directory in the file's place holds none. Raises
        ``OSError``.
        """
        events: list[dict[str, Any]] = []
        if count <= 0:
            return HistoryPage(events, None)
        used = 0
        for place, line in self._lines_before(before):
            used += len(line)
            with contextlib.suppress(ValueError, TypeError, KeyError):
                event = json.loads(line)
                if float(event["at"]) < since_wall:
                    break
                events.append(event)
            if len(events) >= count:
                break
            if used >= PAGE_BYTES:
                return HistoryPage(events[::-1], place)
        return HistoryPage(events[::-1], None)

    def _lines_before(self, before: Place | None) -> Iterator[tuple[Place, bytes]]:
        """The lines before a place with the places where they begin, the last one first."""
        for path in (self._path, self._older_path):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError), open(path, "rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if before is not None and before.inode != inode:
                    continue
                end = file.seek(0, os.SEEK_END)
                if before is not None:
                    end, before = min(end, before.offset), None
                for offset, line in _lines_backwards(file, end):
                    yield Place(inode, offset), line


def _lines_backwards(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """The lines of a file up to ``end`` and where they begin, the last one first, read in blocks from there."""
    position, rest = end, b""
    while position > 0:
        step = min(position, 65536)
        position -= step
        file.seek(position)
        rest, *lines = (file.read(step) + rest).split(b"\n")
        at = position + len(rest) + 1 + sum(len(line) + 1 for line in lines)
        for line in reversed(lines):
            at -= len(line) + 1
            if line:
                yield at, line
    if rest:
        yield 0, rest
