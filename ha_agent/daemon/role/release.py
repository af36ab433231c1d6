"""The steps of a release: disarm, stop, sweep, unload; each goes on where supervisord does not help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ha_agent.adapters.runner import find_program, run_program
from ha_agent.adapters.supervisord import ShuttingDown, SupervisordDown
from ha_agent.core.words import Step
from ha_agent.daemon.role.plan_run import StepCode, StepFailed

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent


class Release:
    """Releases for one agent. Every step is idempotent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._hung = False
        self.steps: dict[Step, StepCode] = {
            Step.DISARM: self._disarm,
            Step.STOP: self._stop,
            Step.SWEEP: self._sweep,
            Step.UNLOAD: self._unload,
        }

    async def _disarm(self) -> dict[str, Any]:
        """Makes sure that neither a restarted supervisord nor a VIP left behind goes on with what ends here."""
        agent = self._agent
        agent.active_set.remove()
        if agent.keepalived.is_alive or not agent.standing.vip_here:
            return {}
        vrrp = agent.settings.vrrp
        outcome = await run_program([find_program("ip"), "addr", "del", vrrp.vip, "dev", vrrp.interface], 5.0)
        return {"vip_removed": outcome.code == 0}

    async def _stop(self) -> dict[str, Any]:
        """Has supervisord stop everything at once, and waits for the ends of the processes themselves.

        One that hangs is frozen first, so that it cannot start again what the sweep ends.
        """
        programs = self._agent.programs
        await programs.wait_loaded()
        try:
            await programs.stop()
        except ShuttingDown as error:
            await programs.hurry_shutdown()
            return {"supervisord": str(error)}
        except SupervisordDown as error:
            self._hung = programs.freeze_supervisord()
            return {"supervisord": str(error), "hung": self._hung}
        return {}

    async def _sweep(self) -> dict[str, Any]:
        """Ends what supervisord did not end, or no longer owns; then a supervisord that hangs itself."""
        programs = self._agent.programs
        left = await programs.sweep()
        self._agent.standing.note_left_running(len(left))
        if self._hung:
            await programs.end_supervisord()
            self._agent.history.add("supervisord-ended", "supervisord did not answer; its programs were ended without it")
            self._hung = False
        return {"left": [f"{p.process} (pid {p.pid})" for p in left[:20]]} if left else {}

    async def _unload(self) -> dict[str, Any]:
        """Unloads, and looks at the processes once more: this is the word that the peer waits for."""
        programs = self._agent.programs
        try:
            await programs.unload()
        except SupervisordDown as error:
            if not await programs.is_up():
                # It hangs, or it is gone and comes back to an empty active set. Either way it starts nothing from now on.
                await programs.end_supervisord()
            elif not await programs.find_left():
                raise StepFailed(str(error)) from None
        self._agent.standing.note_left_running(len(await programs.sweep()))
        return {}
