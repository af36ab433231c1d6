"""The steps of a takeover and a release that run the operator's hooks. Must not decide a role."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ha_agent.core.hooks import AT_RELEASE, MOMENTS, HookEnd, HookSettings, hooked_steps, hooks_at
from ha_agent.core.words import Step
from ha_agent.daemon.events import Events
from ha_agent.daemon.role.hand_back import HandBack
from ha_agent.daemon.role.plan_run import StepCode, StepFailed
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

VOTES_LOOK_S = 0.05
"""How often it is looked, while a hook runs before a stop, whether the votes have ended: less than the shortest margin."""

RunHook = Callable[[Sequence[str], float, Mapping[str, str], Callable[[str], None]], Awaitable[HookEnd]]

_ROLES = {Step.BEFORE_START: "active", Step.AFTER_START: "active", Step.BEFORE_STOP: "standby", Step.AFTER_STOP: "standby"}
_MOMENT_OF = {step: moment for moment, step in MOMENTS.items()}


class HookSteps:
    """For one group. ``takeover`` and ``release`` have the steps for which there is a hook; where there is none, nothing.

    ``names``: of this node, the peer and the group. ``give_way`` has keepalived give up MASTER here. ``has_votes``: no votes
    of this node have ended.
    """

    def __init__(
        self,
        hooks: Mapping[str, HookSettings],
        names: tuple[str, str, str],
        standing: Standing,
        events: Events,
        run: RunHook,
        hand_back: HandBack,
        give_way: Callable[[str], None],
        has_votes: Callable[[], bool],
    ) -> None:
        self._hooks, self._names, self._standing, self._events = hooks, names, standing, events
        self._run, self._hand_back, self._give_way = run, hand_back, give_way
        self._has_votes = has_votes
        self._told: tuple[int, str] | None = None
        steps = {step: functools.partial(self._run_step, step) for step in hooked_steps(hooks)}
        self.takeover: dict[Step, StepCode] = {s: code for s, code in steps.items() if s not in AT_RELEASE}
        self.release: dict[Step, StepCode] = {s: code for s, code in steps.items() if s in AT_RELEASE}

    async def _run_step(self, step: Step) -> dict[str, Any]:
        """Runs the hooks of one step, one after the other, until one fails that says "stop"."""
        ends: list[dict[str, Any]] = []
        result: dict[str, Any] = {"hooks": ends}
        if self._is_passed_over(step):
            return {}
        if step not in AT_RELEASE and not self._has_votes():
            raise StepFailed("the votes have ended: no hook is run")
        for name, hook in hooks_at(self._hooks, step):
            work = self._run(hook.command, hook.timeout_s, self._environment(step), functools.partial(_tell, name))
            end = await (self._in_time(work) if step is Step.BEFORE_STOP else work)
            if end is None:
                break
            ends.append({"hook": name, "took_s": end.took_s, **({} if end.is_good else {"failed": end.describe()})})
            if end.is_good:
                continue
            stops = hook.on_failure == "stop"
            text = f"hook {name} ({_MOMENT_OF[step]}) {end.describe()}"
            self._tell_failure(text, hook=name, at_step=step.value, goes_on=not stops, took_s=end.took_s)
            if stops:
                self._stop(step, text, result)
                break
        return result

    async def _in_time(self, work: Awaitable[HookEnd]) -> HookEnd | None:
        """Does ``work`` as long as this node has its votes; None where they end before: no program may run on for it."""
        running = asyncio.ensure_future(work)
        try:
            while self._has_votes():
                done, _ = await asyncio.wait({running}, timeout=VOTES_LOOK_S)
                if done:
                    return running.result()
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            raise
        # The hook is ended beside the kill of the programs, which does not wait for it.
        running.cancel()
        return None

    def _is_passed_over(self, step: Step) -> bool:
        """Nothing waits for a hook where everything is to be killed at once, and none takes down what is still in use."""
        if step is Step.BEFORE_STOP:
            return not self._has_votes()
        return step is Step.AFTER_STOP and self._standing.left_running > 0

    def _tell_failure(self, text: str, **fields: Any) -> None:
        """Tells each failure once an epoch: a plan that fails is tried again and again."""
        key = (self._standing.claim.epoch, text)
        if key != self._told:
            self._told = key
            self._events.add("hook-failed", text, **fields)

    def _stop(self, step: Step, text: str, result: dict[str, Any]) -> None:
        """What a failure with "stop" means. Raises ``StepFailed``, but for a release that must go on to stop programs."""
        if step is Step.BEFORE_STOP:
            return
        if step is not Step.AFTER_STOP:
            self._hand_back.attempt(lambda: self._give_way(text))
        raise StepFailed(text, result)

    def _environment(self, step: Step) -> dict[str, str]:
        node, peer, group = self._names
        plan = self._standing.plan
        values = {
            "HOOK": _MOMENT_OF[step],
            "ROLE": _ROLES[step],
            "EPOCH": str(self._standing.claim.epoch),
            "GROUP": group,
            "NODE": node,
            "PEER": peer,
            "REASON": plan.reason if plan is not None else "",
        }
        return {f"HA_AGENT_{name}": value for name, value in values.items()}


def _tell(name: str, line: str) -> None:
    log.info("hook %s: %s", name, line)
