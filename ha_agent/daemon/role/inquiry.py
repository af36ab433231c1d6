"""Asks keepalived for its state where what it reported does not say it, or does not fit what is seen.

keepalived reports each state once. A report that was deleted, or that the hook could not leave, would be missing for ever.
Owns the answer, which counts as a report of the moment in which it was asked for. Must not decide what follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ha_agent.adapters.keepalived import Keepalived
from ha_agent.core.notify import NotifyEvent, outranks_report
from ha_agent.core.words import VrrpState
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

ANSWER_S = 1.5
"""keepalived answers within 0.1 s; a machine that is busy takes longer."""

AGAIN_S = 10.0
"""Pause between two questions that change nothing."""


class Inquiry:
    """For one VRRP instance.

    ``on_silence``: what is done where keepalived lives and does not answer. ``ticks``: clock ticks since boot.
    """

    def __init__(
        self,
        keepalived: Keepalived,
        instance: str,
        events: Events,
        wake: Callable[[], None],
        on_silence: Callable[[], None],
        start_task: Callable[[Coroutine[Any, Any, None]], object],
        clock: Callable[[], float],
        ticks: Callable[[], int],
    ) -> None:
        self._keepalived, self._instance, self._events = keepalived, instance, events
        self._wake, self._on_silence, self._start_task = wake, on_silence, start_task
        self._clock, self._ticks = clock, ticks
        self._answer: NotifyEvent | None = None
        self._next_mono = 0.0
        self.is_under_way = False
        """Whether keepalived is being asked; for ``ANSWER_S`` at most."""

    def newest(self, report: NotifyEvent | None, life_ticks: int) -> NotifyEvent | None:
        """What counts: ``report``, the newest one of the keepalived that began at ``life_ticks``, or the answer.

        An answer that a report has overridden, or that another keepalived gave, is forgotten.
        """
        answer = self._answer
        if answer is None or answer.started_ticks < life_ticks or (report and not outranks_report(answer, report)):
            self._answer = None
            return report
        return answer

    def ask(self, why: str) -> None:
        """Begins to ask, unless that is under way or was in vain a moment ago. ``why``: for the history."""
        now = self._clock()
        if self.is_under_way or now < self._next_mono:
            return
        self.is_under_way = True
        self._next_mono = now + AGAIN_S
        self._start_task(self._ask(why))

    async def _ask(self, why: str) -> None:
        asked_ticks = self._ticks()
        try:
            state = await self._keepalived.ask_state(self._instance, ANSWER_S)
        finally:
            self.is_under_way = False
        if state is None:
            self._events.add("vrrp-asked", f"{why}: keepalived was asked and does not answer")
            self._on_silence()
        elif state is not VrrpState.UNKNOWN:
            self._note(state, asked_ticks, why)
        self._wake()

    def _note(self, state: VrrpState, asked_ticks: int, why: str) -> None:
        """Takes the answer in. What the hook reports from the moment of the question on is newer."""
        before = self._answer
        self._answer = NotifyEvent(asked_ticks - 1, 0, state, "")
        if before is None or before.state is not state:
            self._events.add("vrrp-asked", f"{why}: keepalived was asked and says {state.value}", vrrp_state=state.value)
