"""Keeps the verdicts on all confs current: the readiness of a standby, the last good content of an active node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from ha_agent.adapters.heap import trim_heap
from ha_agent.core.confs import Selection
from ha_agent.core.words import OWNING_ROLES, Role

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

log = logging.getLogger(__name__)

PAUSE_ACTIVE_S = 0.004
PAUSE_STANDBY_S = 0.1
"""A change travels first and is judged then; several changes are judged together."""


class Readiness:
    """Judges when ``wake`` is called, and everything afresh now and then, because the machine changes too."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Says that the registry or the role changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Works until cancelled."""
        agent = self._agent
        interval, idle = agent.settings.readiness.interval_s, agent.settings.readiness.idle_s
        clock = agent.loop.time
        next_full = clock() + interval
        trim_due = False
        self.wake()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), max(0.0, min(next_full - clock(), idle or interval)))
            if self._wanted.is_set():
                await asyncio.sleep(PAUSE_ACTIVE_S if agent.standing.role is Role.ACTIVE else PAUSE_STANDBY_S)
            self._wanted.clear()
            full = clock() >= next_full
            if full:
                next_full = clock() + interval
            if full or agent.view.manifest != agent.active_set.judged:
                await self.judge(afresh=full)
                trim_due = True
            elif trim_due:
                # Nothing changed for a while: what the last judgements needed goes back to the system.
                trim_due = False
                trim_heap()
            if agent.standing.role not in OWNING_ROLES and clock() - agent.checker.last_used_mono >= idle:
                await agent.checker.close()

    async def judge(self, *, afresh: bool = False) -> Selection:
        """Judges the registry as it is known now; on an active node the active set follows."""
        agent = self._agent
        manifest = agent.view.manifest
        before = dict(agent.active_set.selection.problems)
        selection = await agent.active_set.judge(manifest, afresh=afresh)
        if agent.standing.role is Role.ACTIVE and agent.standing.plan is None and agent.active_set.is_current:
            try:
                await agent.active_set.write(keep_last_good=True)
                agent.programs.remember_groups(selection.groups)
            except OSError as error:
                log.error("the active set cannot be written: %s", error)
        for path in selection.problems.keys() - before.keys():
            agent.history.add("conf-not-loadable", f"{path}: {selection.problems[path]}", path=path)
        return selection
