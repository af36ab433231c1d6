"""What becomes of the programs after a takeover: watched until each runs or has failed, then told once."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.adapters.supervisord import SupervisordDown
from ha_agent.core.transitions import Verification
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.standing import Standing

VERIFY_POLL_S = 0.2
VERIFY_LIMIT_S = 120.0


class Verifier:
    """For one group. ``clock``: the loop's monotonic clock; ``on_verified`` hears the outcome."""

    def __init__(
        self,
        standing: Standing,
        active_set: ActiveSet,
        loader: Loader,
        events: Events,
        clock: Callable[[], float],
        count_open: Callable[[], int] = lambda: 0,
    ) -> None:
        """``count_open``: how many groups wait for others and are not loaded yet."""
        self._standing, self._active_set, self._loader = standing, active_set, loader
        self._events, self._clock, self._count_open = events, clock, count_open
        self.listeners: list[Callable[[Verification], None]] = []
        self.is_under_way = False
        """Whether programs are waited for that a takeover started."""

    async def verify(self, *, resumed: bool) -> None:
        """Looks until every program runs or has failed, ``VERIFY_LIMIT_S`` at most, or the node is no longer active.

        ``resumed``: the agent was started again, and takes stock of what it found.
        """
        self.is_under_way = True
        try:
            await self._verify(resumed=resumed)
        finally:
            self.is_under_way = False

    async def _verify(self, *, resumed: bool) -> None:
        began = self._clock()
        while self._standing.role is Role.ACTIVE:
            asked = self._clock()
            try:
                seen = await self._loader.verify(self._active_set.selection.not_started)
            except SupervisordDown as error:
                self._events.add("supervisord-down", str(error))
                return
            waiting = seen.waiting + self._count_open()
            if not waiting or self._clock() - began > VERIFY_LIMIT_S:
                text = f"{seen.running} programs running, {len(seen.failed)} failed, {waiting} still starting"
                took = round(self._clock() - began, 3)
                code = "agent-resumed" if resumed else "takeover-verified"
                self._events.add(code, text, failed=seen.failed, running=seen.running, took_s=took)
                for listener in self.listeners:
                    listener(Verification(seen.running, seen.failed, took, resumed))
                return
            # supervisord needs 0.2 s to describe 500 processes and does nothing else meanwhile.
            await self._standing.wait_change(max(VERIFY_POLL_S, 4 * (self._clock() - asked)))
