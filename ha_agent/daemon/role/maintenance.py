"""Maintenance: for a stated time the agent watches and does nothing, so that an operator can work on what it watches over.

Owns the flag, its end and its file. It outlives a restart of the agent, but not a reboot: the machine that comes up is not
the one that somebody was working on, and it says so in the history.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace

from ha_agent.adapters.files import keep_note, put_aside, read_note, read_or_none, write_atomic, write_note
from ha_agent.core.account import Window
from ha_agent.core.reasons import reason_of
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

LONGEST_S = 7 * 86400.0

STEP_S = 1.0
"""A wall clock that is off by less was not set, but only goes a little faster or slower."""


class Maintenance:
    """The flag of one node."""

    def __init__(self, path: str, events: Events, wall: Callable[[], float], uptime: Callable[[], float]) -> None:
        """``path``: its file, in the state directory; ``wall``: the wall clock, ``uptime``: since boot, both in seconds.

        It lasts by ``uptime``: a wall clock that is set would prolong it, or end it in the middle of the work.
        """
        self._path = path
        self._events, self._wall, self._uptime = events, wall, uptime
        self._life = ""
        self._window: Window | None = None

    @property
    def is_on(self) -> bool:
        """Whether the agent must do nothing now."""
        return self._window is not None and self._uptime() < self._window.until_uptime

    @property
    def window(self) -> Window | None:
        """The maintenance that is on, with its end by the wall clock as that is set now."""
        window = self._window
        if window is None:
            return None
        until = self._wall() + window.until_uptime - self._uptime()
        if abs(until - window.until) < STEP_S:
            return window
        self._window = replace(window, until=until)
        return self._window

    def load(self, life: str) -> None:
        """Goes on with a maintenance of this boot, which ``life`` tells from every other one.

        A damaged file ends it, and the history says so.
        """
        self._life = life
        try:
            raw = read_or_none(self._path)
            if raw is None:
                return
            content = json.loads(raw)
            since, until = float(content["since"]), float(content["until"])
            # An agent of version 0.1 noted the wall clock alone.
            until_uptime = float(content.get("until_uptime", self._uptime() + until - self._wall()))
            reason, by, boot = (str(content[name]) for name in ("reason", "by", "boot"))
            window = Window(since, until, reason, by, boot, until_uptime)
        except (OSError, ValueError, KeyError, TypeError):
            self._end(f"{self._path} cannot be read")
            return
        if window.boot != self._life:
            self._end("the machine was started again")
            return
        self._window = window
        self.update()

    def begin(self, for_s: float, reason: str, by: str) -> Window:
        """Begins, or changes the end and the reason of the one under way. Raises ``OSError``; nothing has changed then."""
        now = self._wall()
        since = self._window.since if self._window else now
        length_s = min(for_s, LONGEST_S)
        window = Window(since, now + length_s, reason, by, self._life, self._uptime() + length_s)
        write_atomic(self._path, json.dumps(asdict(window)).encode())
        self._window = window
        text = f"maintenance for {for_s:.0f} s: nothing is decided, started or stopped" + (f" ({reason})" if reason else "")
        self._events.add("maintenance-on", text, by=by, until=round(window.until, 3))
        return window

    def end(self, by: str) -> None:
        """Ends it before its time. Raises ``OSError``."""
        if self._window is not None:
            self._end("ended by an operator", by=by)

    def update(self) -> bool:
        """Ends what has had its time; says whether maintenance is on."""
        if self._window is not None and not self.is_on:
            self._end("it has expired")
        return self._window is not None

    def _end(self, why: str, **details: str) -> None:
        self._window = None
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            put_aside(self._path)
        except OSError as error:
            log.error("%s cannot be removed: %s", self._path, reason_of(error, self._path))
        self._events.add("maintenance-off", f"maintenance is over: {why}", **details)


def read_life(path: str) -> str:
    """What tells this boot from every other: a token at ``path``, in /run, which a reboot empties.

    One that cannot be read is made again: what was begun before counts as another boot's.
    """
    raw = read_note(path)
    if not raw:
        raw = secrets.token_hex(8).encode()
        try:
            write_note(path, raw)
        except OSError as error:
            log.error("%s cannot be written: %s", path, reason_of(error, path))
    return raw.decode("ascii", "replace")


def keep_life(path: str, life: str) -> bool:
    """Makes sure that the token at ``path`` is ``life``; says whether it had to be written. Raises ``OSError``."""
    return keep_note(path, life.encode())
