"""The steps of a release: disarm, stop, sweep, unload; each goes on where supervisord does not help.

Where the votes of this node end, nothing is waited for: what runs is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.supervisord import ShuttingDown, SupervisordDown
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import Step
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loader import Loader, StopOrder
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper
from ha_agent.daemon.role.hooks import HookSteps
from ha_agent.daemon.role.plan_run import StepCode, StepFailed
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.votes.votes import NoVotes

TELL_S = 0.1
"""supervisord is told to stop everything also when there is no time to wait for that: it starts nothing again then."""

log = logging.getLogger(__name__)


class Release:
    """Releases for one group. Every step is idempotent.

    ``find_order``: in which order programs are stopped. ``remove_vips`` takes VIPs off, those that are named or all, and
    says whether that was done.
    """

    def __init__(
        self,
        standing: Standing,
        active_set: ActiveSet,
        supervised: Supervised,
        loader: Loader,
        sweeper: Sweeper,
        keepalived: ProcessWatch,
        hooks: HookSteps,
        events: Events,
        votes: NoVotes,
        find_order: Callable[[], StopOrder],
        remove_vips: Callable[[Collection[str] | None], Awaitable[bool]],
    ) -> None:
        self._standing, self._active_set = standing, active_set
        self._supervised, self._loader, self._sweeper = supervised, loader, sweeper
        self._keepalived, self._events, self._votes = keepalived, events, votes
        self._find_order, self._remove_vips = find_order, remove_vips
        self._hung = False
        self.steps: dict[Step, StepCode] = {
            Step.DISARM: self._disarm,
            Step.STOP: self._stop,
            Step.SWEEP: self._sweep,
            Step.UNLOAD: self._unload,
            **hooks.release,
        }

    async def _disarm(self) -> dict[str, Any]:
        """Makes sure that neither a restarted supervisord nor a VIP left behind goes on with what ends here.

        Where the active set cannot be emptied the programs are stopped all the same; the last step does not end without.
        """
        try:
            self._active_set.remove()
        except OSError as error:
            log.error("the active set cannot be emptied: %s", reason_of(error))
        if self._keepalived.is_alive or not self._standing.vip_here:
            return {}
        return {"vip_removed": await self._remove_vips(None)}

    async def _stop(self) -> dict[str, Any]:
        """Has supervisord stop everything, and waits for the ends of the processes themselves.

        One that hangs is frozen first, so that it cannot start again what the sweep ends.
        """
        if not self._must_kill():
            await self._supervised.wait_loaded()
        try:
            await self._in_time(self._loader.stop(self._find_order()))
        except ShuttingDown as error:
            await self._in_time(self._sweeper.hurry_shutdown())
            return {"supervisord": str(error)}
        except SupervisordDown as error:
            self._hung = self._supervised.freeze()
            return {"supervisord": str(error), "hung": self._hung}
        return {}

    def _must_kill(self) -> bool:
        left_s = self._votes.find_left_s()
        return left_s is not None and left_s <= 0

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        """Does ``work``, as long as this node has its votes, which it goes on to renew meanwhile. Raises as that does."""
        stopping = asyncio.ensure_future(work)
        try:
            while not stopping.done():
                left_s = self._votes.find_left_s()
                # What was renewed meanwhile is looked at again.
                await asyncio.wait({stopping}, timeout=None if left_s is None else max(left_s, TELL_S))
                if self._must_kill():
                    break
            if stopping.done():
                stopping.result()
        finally:
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError, ShuttingDown, SupervisordDown):
                await stopping

    async def _sweep(self) -> dict[str, Any]:
        """Ends what supervisord did not end, or no longer owns; then a supervisord that hangs itself."""
        left = await self._sweeper.sweep(at_once=self._must_kill())
        self._standing.note_left_running(len(left))
        if self._hung:
            await self._supervised.end()
            self._events.add("supervisord-ended", "supervisord did not answer; its programs were ended without it")
            self._hung = False
        return {"left": [f"{p.process} (pid {p.pid})" for p in left[:20]]} if left else {}

    async def _unload(self) -> dict[str, Any]:
        """Unloads, and looks at the processes once more: that is the word that the peer waits for; it ends the votes."""
        self._active_set.remove()
        try:
            await self._loader.unload()
        except SupervisordDown as error:
            if not await self._supervised.is_up():
                # It hangs, or it is gone and comes back to an empty active set. Either way it starts nothing from now on.
                await self._supervised.end()
            elif not await self._sweeper.find_left():
                raise StepFailed(str(error)) from None
        left = await self._sweeper.sweep(at_once=self._must_kill())
        self._standing.note_left_running(len(left))
        if left:
            self._votes.rest()
        else:
            await self._votes.let_go()
        return {}
