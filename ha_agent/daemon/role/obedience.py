"""Sees to it that keepalived obeys the track file: that it looks where the file is, and gives up MASTER when told to.

A keepalived that stays MASTER where this node must not be would keep the pair from its service, or run it twice: it is
stopped by its unit, and started again when the node is fit. Owns that, and the note of it in the state directory.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from ha_agent.adapters.files import read_note, remove_note, write_note
from ha_agent.adapters.keepalived import Keepalived
from ha_agent.adapters.procs import ProcessWatch
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import VrrpState
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

OBEY_S = 3.0
"""keepalived gives up within milliseconds of FAULT; its report may take a second on a busy machine."""

LOOK_S = 2.0
SETTLED_S = 0.5
RETRY_S = 10.0

_ReloadKey = tuple[tuple[int, int], int, int]


class Obedience:
    """For one node. ``directory``: that of the track file; ``note``: the file by which a later agent knows of a stop."""

    def __init__(
        self,
        keepalived: Keepalived,
        process: ProcessWatch,
        directory: str,
        note: str,
        events: Events,
        start_task: Callable[[Coroutine[Any, Any, None]], object],
        wake_at: Callable[[float], None],
    ) -> None:
        self._keepalived, self._process = keepalived, process
        self._directory, self._note = directory, note
        self._events, self._start_task, self._wake_at = events, start_task, wake_at
        self._has_stopped = read_note(note) is not None
        self._told_mono: float | None = None
        self._look_mono = 0.0
        self._next_mono = 0.0
        self._is_busy = False
        self._looked: _ReloadKey | None = None
        self._reloaded: _ReloadKey | None = None
        self._heard: tuple[int, int] | None = None
        """The keepalived that was seen to watch the directory."""

    def update(self, now: float, unfit: str | None, vrrp_state: VrrpState, vip_here: bool | None) -> None:
        """Looks once. ``unfit``: why keepalived is told FAULT; None where it is not."""
        if not self._process.is_alive:
            self._told_mono = None
            if self._has_stopped and unfit is None:
                self._begin(now, self._start())
            return
        if self._has_stopped and not self._is_busy:
            self._forget()
        self._see_that_it_hears(now)
        holds_on = vip_here is not False and vrrp_state in (VrrpState.MASTER, VrrpState.UNKNOWN)
        if unfit is None or not holds_on:
            self._told_mono = None
        elif self._told_mono is None:
            self._told_mono = now
            self._wake_at(now + OBEY_S)
        elif now - self._told_mono >= OBEY_S:
            self._begin(now, self._stop(unfit))

    def _see_that_it_hears(self, now: float) -> None:
        """Has keepalived look anew where the track file's directory is not the one that it watches.

        One that is new is looked at when it has stood for a moment: whoever removes things may not be done, and a keepalived
        that finds no track file takes that for FAULT.
        """
        identity = self._process.identity
        try:
            found = os.stat(self._directory)
        except OSError:
            return
        if identity is None:
            return
        key = (identity, found.st_dev, found.st_ino)
        if key != self._looked:
            self._looked, self._look_mono = key, now + SETTLED_S
            self._wake_at(now + SETTLED_S)
        if now < self._look_mono:
            return
        self._look_mono = now + LOOK_S
        hears = self._keepalived.hears(self._directory)
        if hears:
            self._heard = identity
        # Once is enough: some file systems number their inodes otherwise for inotify than for stat.
        if (hears is False or (hears is None and self._heard == identity)) and key != self._reloaded:
            self._reloaded = key
            self._keepalived.reload()
            text = f"{self._directory} is another directory than keepalived watches: it reads its configuration again"
            self._events.add("keepalived-reloaded", text)

    def _begin(self, now: float, work: Coroutine[Any, Any, None]) -> None:
        if self._is_busy or now < self._next_mono:
            work.close()
            return
        self._is_busy, self._next_mono = True, now + RETRY_S
        self._wake_at(now + RETRY_S)
        self._start_task(work)

    async def _stop(self, why: str) -> None:
        self._has_stopped = True
        try:
            write_note(self._note, f"{why}\n".encode(), 0o600)
        except OSError as error:
            log.error(
                "%s cannot be written, a later agent would not start keepalived again: %s", self._note, reason_of(error)
            )
        text = f"keepalived was told to give up MASTER ({why}) and has not within {OBEY_S:g} s: it is stopped"
        self._events.add("keepalived-stopped", text)
        failure = await self._keepalived.stop()
        if failure is not None:
            log.error("keepalived could not be stopped: %s", failure)
        self._is_busy = False

    async def _start(self) -> None:
        failure = await self._keepalived.start()
        if failure is None:
            self._events.add("keepalived-started", "this node is fit again: keepalived, which was stopped here, is started")
            self._forget()
        else:
            log.error("keepalived could not be started: %s", failure)
        self._is_busy = False

    def _forget(self) -> None:
        self._has_stopped = False
        with contextlib.suppress(OSError):
            remove_note(self._note)
