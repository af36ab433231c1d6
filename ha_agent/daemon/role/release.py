"""The steps of a release: disarm, stop, sweep, unload; each goes on where supervisord does not help."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.supervisord import ShuttingDown, SupervisordDown
from ha_agent.core.words import Step
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper
from ha_agent.daemon.role.hooks import HookSteps
from ha_agent.daemon.role.plan_run import StepCode, StepFailed
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)


class Release:
    """Releases for one group. Every step is idempotent.

    ``remove_vips`` takes VIPs off, those that are named or all, and says whether that was done.
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
        remove_vips: Callable[[Collection[str] | None], Awaitable[bool]],
    ) -> None:
        self._standing, self._active_set = standing, active_set
        self._supervised, self._loader, self._sweeper = supervised, loader, sweeper
        self._keepalived, self._events = keepalived, events
        self._remove_vips = remove_vips
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
            log.error("the active set cannot be emptied: %s", error)
        if self._keepalived.is_alive or not self._standing.vip_here:
            return {}
        return {"vip_removed": await self._remove_vips(None)}

    async def _stop(self) -> dict[str, Any]:
        """Has supervisord stop everything at once, and waits for the ends of the processes themselves.

        One that hangs is frozen first, so that it cannot start again what the sweep ends.
        """
        await self._supervised.wait_loaded()
        try:
            await self._loader.stop()
        except ShuttingDown as error:
            await self._sweeper.hurry_shutdown()
            return {"supervisord": str(error)}
        except SupervisordDown as error:
            self._hung = self._supervised.freeze()
            return {"supervisord": str(error), "hung": self._hung}
        return {}

    async def _sweep(self) -> dict[str, Any]:
        """Ends what supervisord did not end, or no longer owns; then a supervisord that hangs itself."""
        left = await self._sweeper.sweep()
        self._standing.note_left_running(len(left))
        if self._hung:
            await self._supervised.end()
            self._events.add("supervisord-ended", "supervisord did not answer; its programs were ended without it")
            self._hung = False
        return {"left": [f"{p.process} (pid {p.pid})" for p in left[:20]]} if left else {}

    async def _unload(self) -> dict[str, Any]:
        """Unloads, and looks at the processes once more: this is the word that the peer waits for."""
        self._active_set.remove()
        try:
            await self._loader.unload()
        except SupervisordDown as error:
            if not await self._supervised.is_up():
                # It hangs, or it is gone and comes back to an empty active set. Either way it starts nothing from now on.
                await self._supervised.end()
            elif not await self._sweeper.find_left():
                raise StepFailed(str(error)) from None
        self._standing.note_left_running(len(await self._sweeper.sweep()))
        return {}
