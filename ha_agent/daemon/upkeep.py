"""Keeps what the agent has below its run directory: whoever has a note there says here how to make it right again.

Files in /run are anybody's who is root, and may be gone at any moment. They are looked at every other second, so what was
removed, emptied or replaced is back before it is needed, and the history says so. Must not know what any note means.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha_agent.adapters.files import Room, read_room
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

LOW_BYTES, LOW_FILES = 1 << 20, 256
"""Less room than this is told: a takeover writes the active set and a few notes."""

FULL_BYTES, FULL_FILES = 64 << 10, 16
"""With less room than this no takeover can come to its end."""

Job = Callable[[], bool]


class Upkeep:
    """For one node. ``room`` says how much the run directory still takes, and raises ``OSError``."""

    def __init__(self, run_dir: str, events: Events, room: Callable[[str], Room] = read_room) -> None:
        self._run_dir, self._events, self._room = run_dir, events, room
        self._jobs: list[tuple[str, Job, bool]] = []
        self._looked = False
        self.problem: str | None = None
        """What cannot be made right, and why; None where everything is."""
        self.vital_problem: str | None = None
        """The same, of what no takeover can do without."""
        self.low: str | None = None
        """How little room is left; None where there is enough."""

    def add(self, name: str, job: Job, *, vital: bool = False) -> None:
        """Has ``job`` done with every look, in the order in which they were added.

        It makes ``name`` right, says whether that was needed, and raises ``OSError`` where it could not. ``vital``: no
        takeover can do without.
        """
        self._jobs.append((name, job, vital))

    def look(self) -> None:
        """Looks once at everything. Never raises for a file: it says so.

        What the first look makes is not told: at a boot nothing is there yet.
        """
        made, failed, vital = [], [], []
        for name, job, is_vital in self._jobs:
            try:
                if job():
                    made.append(name)
            except OSError as error:
                text = f"{name}: {error.strerror or error}"
                failed.append(text)
                vital += [text] if is_vital else []
        if made and self._looked:
            self._events.add("notes-remade", f"made again below {self._run_dir}: {', '.join(made)}")
        self._looked = True
        full = self._look_at_room()
        self.vital_problem = "; ".join(vital) or full
        self._note_problem("; ".join(failed) or full)

    def _look_at_room(self) -> str | None:
        """Notes what is to be told of the room; returns why no takeover can be finished, if that is so."""
        try:
            room = self._room(self._run_dir)
        except OSError as error:
            self.low = None
            return f"{self._run_dir}: {error.strerror or error}"
        files = room.files
        text = f"{self._run_dir} has {room.bytes >> 10} KiB left" + (f" and {files} inodes" if files is not None else "")
        self.low = text if room.bytes < LOW_BYTES or (files is not None and files < LOW_FILES) else None
        return text if room.bytes < FULL_BYTES or (files is not None and files < FULL_FILES) else None

    def _note_problem(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            log.error("notes cannot be kept: %s", problem)
            self._events.add("notes-failing", f"notes cannot be kept: {problem}")
        self.problem = problem
