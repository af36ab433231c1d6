"""Keeps the verdicts on all confs current: the readiness of a standby, the last good content of an active node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.heap import trim_heap
from ha_agent.core.confs import Selection
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import ReadinessSettings
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

PAUSE_S = 0.1
"""A change travels first and is judged then; several are judged together. Who needs a verdict now calls ``judge``."""


class Readiness:
    """Judges when ``wake`` is called, and everything afresh now and then, because the machine changes too.

    ``clock``: the loop's monotonic clock.
    """

    def __init__(
        self,
        limits: ReadinessSettings,
        standing: Standing,
        view: RegistryView,
        active_set: ActiveSet,
        loaded: LoadedGroups,
        checker: ConfChecker,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._limits, self._standing, self._view = limits, standing, view
        self._active_set, self._loaded, self._checker = active_set, loaded, checker
        self._events, self._clock = events, clock
        self._wanted = asyncio.Event()
        self._is_damaged = False

    @property
    def is_current(self) -> bool:
        """Whether the verdicts are those on the registry as it is known now."""
        return self._active_set.is_current and self._active_set.judged == self._view.manifest

    def wake(self) -> None:
        """Says that the registry or the role changed."""
        self._wanted.set()

    def keep(self) -> bool:
        """Has the active set written again where somebody has changed it; says whether that is so. Raises ``OSError``."""
        if not self._active_set.keep():
            return False
        self._is_damaged = True
        self.wake()
        return True

    async def run(self) -> None:
        """Works until cancelled."""
        interval, idle, clock = self._limits.interval_s, self._limits.idle_s, self._clock
        next_full = clock() + interval
        trim_due = False
        self.wake()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(next_full - clock(), idle or interval))):
                    await self._wanted.wait()
            if self._wanted.is_set():
                await asyncio.sleep(PAUSE_S)
            self._wanted.clear()
            full = clock() >= next_full
            if full:
                next_full = clock() + interval
            damaged, self._is_damaged = self._is_damaged, False
            if full or damaged or self._view.manifest != self._active_set.judged:
                await self.judge(afresh=full)
                trim_due = True
            elif trim_due:
                # Nothing changed for a while: what the last judgements needed is returned to the system.
                trim_due = False
                trim_heap()
            if not self._standing.owns and clock() - self._checker.last_used_mono >= idle:
                await self._checker.close()

    async def judge(self, *, afresh: bool = False) -> Selection:
        """Judges the registry as it is known now; on an active node the active set follows."""
        before = dict(self._active_set.selection.problems)
        selection = await self._active_set.judge(self._view.manifest, afresh=afresh)
        if self._standing.may_start and self._active_set.is_current:
            try:
                await self._active_set.write(keep_last_good=True)
                self._loaded.remember(selection.groups)
            except OSError as error:
                log.error("the active set cannot be written: %s", reason_of(error))
        for path in selection.problems.keys() - before.keys():
            self._events.add("conf-not-loadable", f"{path}: {selection.problems[path]}", path=path)
        return selection
