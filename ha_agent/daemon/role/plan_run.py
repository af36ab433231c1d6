"""Carries out a takeover or a release: runs the plan's steps in order, measures them, and can be abandoned between two."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ha_agent.core.plans import BREAKABLE_STEPS
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import Step

log = logging.getLogger(__name__)

StepCode = Callable[[], Awaitable[Mapping[str, Any] | None]]


class StepFailed(Exception):
    """A step could not be finished; the whole plan may be tried again. The text says what and why.

    ``result``: what is known of the step all the same, for the history.
    """

    def __init__(self, text: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.result = result or {}


@dataclass(slots=True)
class PlanRun:
    """One run of a plan. ``done`` is None while it runs, then whether it reached its end; ``steps`` holds the durations.

    A plan that is abandoned ends before its next step. Only ``BREAKABLE_STEPS`` are broken off within: a request to
    supervisord goes on in its thread, and what follows must not overtake it.
    """

    name: str
    reason: str
    done: bool | None = None
    failure: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    abandoned: bool = False
    began_mono: float = 0.0
    finished: asyncio.Event | None = None
    """Set at the end; None as long as it has not begun."""
    _waiting: asyncio.Future[Mapping[str, Any] | None] | None = None

    @property
    def current_step(self) -> str | None:
        """The name of the step under way; None where there is none."""
        return str(self.steps[-1]["step"]) if self.steps and self.done is None else None

    def abandon(self) -> None:
        """Has the plan end as soon as it safely can."""
        self.abandoned = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self, plan: Sequence[Step], code: Mapping[Step, StepCode]) -> None:
        """Runs the steps of ``plan`` until the end, a failure, or ``abandoned``."""
        clock = asyncio.get_running_loop().time
        self.began_mono = clock()
        for step in plan:
            if self.abandoned:
                self.failure, self.done = f"abandoned before {step.value}", False
                return
            began = clock()
            outcome: dict[str, Any] = {"step": step.value}
            self.steps.append(outcome)
            try:
                outcome.update(await self._run_step(step, code[step]) or {})
            except asyncio.CancelledError:
                if not self.abandoned:
                    raise
                self.failure, self.done = f"abandoned during {step.value}", False
                return
            except (StepFailed, OSError) as error:
                outcome.update(error.result if isinstance(error, StepFailed) else {})
                self.failure, self.done = f"{step.value}: {reason_of(error)}", False
                return
            finally:
                outcome["took_s"] = round(clock() - began, 4)
        self.done = True

    async def _run_step(self, step: Step, code: StepCode) -> Mapping[str, Any] | None:
        if step not in BREAKABLE_STEPS:
            return await code()
        self._waiting = asyncio.ensure_future(code())
        try:
            return await self._waiting
        finally:
            self._waiting.cancel()
            self._waiting = None
