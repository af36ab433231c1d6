"""How a plan is run: in order, measured, to its end or to the first failure, and abandoned only where that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from ha_agent.core.plans import BREAKABLE_STEPS, RELEASE_STEPS, TAKEOVER_STEPS
from ha_agent.core.words import Step
from ha_agent.daemon.role.plan_run import PlanRun, StepCode, StepFailed


class Steps:
    """Steps that note their runs; ``failing`` raises, ``waiting`` goes on when ``released`` is set."""

    def __init__(self, failing: Step | None = None, waiting: Step | None = None, error: Exception | None = None) -> None:
        self.done: list[Step] = []
        self.begun: list[Step] = []
        self.failing, self.waiting, self.error = failing, waiting, error or StepFailed("no")
        self.released = asyncio.Event()

    def codes(self) -> dict[Step, StepCode]:
        return {step: self._code(step) for step in Step}

    def _code(self, step: Step) -> StepCode:
        async def run() -> Mapping[str, Any] | None:
            self.begun.append(step)
            if step is self.waiting:
                await self.released.wait()
            if step is self.failing:
                raise self.error
            self.done.append(step)
            return {"of": step.value}

        return run


@pytest.mark.parametrize("plan", [TAKEOVER_STEPS, RELEASE_STEPS])
def test_all_steps_run_in_their_order_and_are_measured(plan: tuple[Step, ...]) -> None:
    async def main() -> None:
        steps, run = Steps(), PlanRun("takeover", "why")
        await run.run(plan, steps.codes())
        assert run.done is True and run.failure is None
        assert steps.done == list(plan)
        assert [(s["step"], s["of"]) for s in run.steps] == [(step.value, step.value) for step in plan]
        assert all(s["took_s"] >= 0 for s in run.steps)
        assert run.current_step is None

    asyncio.run(main())


@pytest.mark.parametrize("failing", TAKEOVER_STEPS)
@pytest.mark.parametrize("error", [StepFailed("no"), OSError("disk full")])
def test_a_step_that_fails_ends_the_plan_and_is_named(failing: Step, error: Exception) -> None:
    async def main() -> None:
        steps, run = Steps(failing=failing, error=error), PlanRun("takeover", "why")
        await run.run(TAKEOVER_STEPS, steps.codes())
        assert run.done is False and run.failure == f"{failing.value}: {error}" and not run.abandoned
        assert steps.done == list(TAKEOVER_STEPS[: TAKEOVER_STEPS.index(failing)])
        assert "took_s" in run.steps[-1]

    asyncio.run(main())


def test_a_defect_in_a_step_is_not_taken_for_a_failure_of_the_plan() -> None:
    async def main() -> None:
        steps, run = Steps(failing=Step.LOAD, error=ZeroDivisionError()), PlanRun("takeover", "why")
        with pytest.raises(ZeroDivisionError):
            await run.run(TAKEOVER_STEPS, steps.codes())

    asyncio.run(main())


@pytest.mark.parametrize("at", TAKEOVER_STEPS)
def test_an_abandoned_plan_ends_before_its_next_step_and_only_what_may_be_is_broken_off(at: Step) -> None:
    async def main() -> None:
        steps, run = Steps(waiting=at), PlanRun("takeover", "why")
        running = asyncio.create_task(run.run(TAKEOVER_STEPS, steps.codes()))
        while at not in steps.begun:
            await asyncio.sleep(0)
        assert run.current_step == at.value
        run.abandon()
        for _ in range(5):
            await asyncio.sleep(0)
        assert running.done() == (at in BREAKABLE_STEPS)
        steps.released.set()
        await running
        assert run.done is False
        expected = TAKEOVER_STEPS[: TAKEOVER_STEPS.index(at) + (at not in BREAKABLE_STEPS)]
        assert steps.done == list(expected)

    asyncio.run(main())


def test_an_end_of_the_agent_is_no_abandoning() -> None:
    async def main() -> None:
        steps, run = Steps(waiting=Step.INTERLOCK), PlanRun("takeover", "why")
        running = asyncio.create_task(run.run(TAKEOVER_STEPS, steps.codes()))
        while Step.INTERLOCK not in steps.begun:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert run.done is None

    asyncio.run(main())
