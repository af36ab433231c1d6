"""``alerts.json``: the book of alerts, the recent notifications, and how far each sink has got. One file, one rename.

An alert and the note that it was told are in the same file, so a crash can neither lose an alert nor send it again, except
in the moment between a sink's word that it has the alert and the next write.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ha_agent.adapters.files import read_or_none, write_atomic
from ha_agent.core.alerts import Notification
from ha_agent.core.places import StatePlaces
from ha_agent.core.reasons import reason_of

VERSION = 1


@dataclass(slots=True)
class SinkState:
    """How far one sink has got: the number of the last notification that it has, or that was dropped for it."""

    cursor: int
    delivered: int = 0
    dropped: int = 0
    failures: int = 0
    """Attempts that have failed since the last success."""
    problem: str | None = None
    since: float | None = None
    """Wall clock time of the first of these failures."""


@dataclass(slots=True)
class Stored:
    """What the file holds. ``book`` as ``Book.to_dict`` gives it; ``remark`` tells of damage."""

    book: Mapping[str, Any] | None = None
    notes: list[Notification] = field(default_factory=list)
    sinks: dict[str, SinkState] = field(default_factory=dict)
    remark: str | None = None


class AlertStore:
    """Reads once, writes often. Writing blocks: call it in a thread."""

    def __init__(self, state_dir: str) -> None:
        self._path = StatePlaces(state_dir).alerts

    def load(self) -> Stored:
        """What was saved last. A damaged file is put aside, and ``remark`` says so. Raises ``OSError``."""
        try:
            raw = read_or_none(self._path)
            if raw is None:
                return Stored()
            content = json.loads(raw)
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}")
            notes = [Notification.from_dict(row) for row in content["notes"]]
            sinks = {str(name): SinkState(**row) for name, row in content["sinks"].items()}
            return Stored(dict(content["book"]), notes, sinks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            aside = f"{self._path}.damaged-{int(time.time())}"
            os.rename(self._path, aside)
            said = reason_of(error, self._path)
            return Stored(remark=f"{self._path} cannot be used ({said}); put aside as {aside}, alerts begin from nothing")

    def save(self, book: Mapping[str, Any], notes: list[dict[str, Any]], sinks: Mapping[str, dict[str, Any]]) -> None:
        """Puts everything on disk, durably. Raises ``OSError``; the old file is kept then."""
        content = {"version": VERSION, "book": book, "notes": notes, "sinks": sinks}
        write_atomic(self._path, json.dumps(content, separators=(",", ":")).encode() + b"\n")
