"""What was done for checks, for an agent that comes after this one and for the peer: hand-overs, restarts.

Owns the file in the state directory. Every change is on the disk before what it is about begins.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable

from ha_agent.adapters.files import read_or_none, write_atomic
from ha_agent.core.check_acts import Move, find_open, merge_moves, moves_to_rows, note_passed, read_moves
from ha_agent.core.reasons import reason_of
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

MOST_RESTARTS = 1000
LONGEST_WINDOW_S = 86400.0
"""What ``within_s`` may be at most: older restarts count nowhere."""


class CheckRecord:
    """``path``: its file. ``wall``: the wall clock, in seconds."""

    def __init__(self, path: str, events: Events, wall: Callable[[], float]) -> None:
        self._path, self._events, self._wall = path, events, wall
        self.moves: tuple[Move, ...] = ()
        """Hand-overs that checks have caused, of both nodes."""
        self.restarts: dict[str, tuple[float, ...]] = {}
        """When programs were restarted on this node, by check."""
        self.restarting = ""
        """The check for which a program is being restarted: an agent that was killed then goes on with it."""

    def load(self) -> None:
        """Takes up what an agent before this one wrote. One that cannot be read is told, and nothing is known then."""
        try:
            raw = read_or_none(self._path)
            if raw is None:
                return
            content = json.loads(raw)
            self.moves = read_moves(content["moves"]) or ()
            restarts = {str(name): tuple(map(float, times)) for name, times in content["restarts"].items()}
            self.restarts, self.restarting = restarts, str(content["restarting"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s cannot be read: %s", self._path, reason_of(error, self._path))
            self._events.add("state-damaged", f"{self._path} cannot be read: what checks have done before is not known")

    def hear(self, moves: Iterable[Move]) -> None:
        """Takes in what the peer says; it is on the disk when this returns, or it is not taken in."""
        try:
            self._set_moves(merge_moves(self.moves, moves))
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, reason_of(error, self._path))

    def add_move(self, move: Move) -> None:
        """Notes a hand-over that is about to begin. Raises ``OSError``; nothing has changed then."""
        self._set_moves(merge_moves(self.moves, [move]))

    def note_passed(self, check: str) -> None:
        """Notes that ``check`` passes: the fault of its last hand-over is over."""
        if not self.moves or find_open(self.moves, check) is None:
            return
        try:
            self._set_moves(note_passed(self.moves, check))
        except OSError as error:
            # The next good answer tries it again.
            log.error("%s cannot be written: %s", self._path, reason_of(error, self._path))

    def begin_restart(self, check: str) -> None:
        """Notes a restart that is about to begin. Raises ``OSError``; nothing has changed then."""
        now, before = self._wall(), (self.restarts, self.restarting)
        recent = {name: tuple(t for t in times if abs(now - t) < LONGEST_WINDOW_S) for name, times in self.restarts.items()}
        recent[check] = (*recent.get(check, ()), round(now, 3))[-MOST_RESTARTS:]
        self.restarts, self.restarting = {name: times for name, times in recent.items() if times}, check
        try:
            self._save()
        except OSError:
            self.restarts, self.restarting = before
            raise

    def end_restart(self) -> None:
        """Notes that it has come to its end."""
        self.restarting = ""
        try:
            self._save()
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, reason_of(error, self._path))

    def _set_moves(self, moves: tuple[Move, ...]) -> None:
        if moves == self.moves:
            return
        before, self.moves = self.moves, moves
        try:
            self._save()
        except OSError:
            self.moves = before
            raise

    def _save(self) -> None:
        content = {"moves": moves_to_rows(self.moves), "restarts": self.restarts, "restarting": self.restarting}
        write_atomic(self._path, json.dumps(content).encode())
