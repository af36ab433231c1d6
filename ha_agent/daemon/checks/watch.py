"""The checks of one node: what they have come to since it is active. Acts through ``CheckActs`` alone.

Checks are made while the node is active and settled: no takeover, release or maintenance. At a change of role every look is
broken off in the same moment, and what was known is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ha_agent.adapters.check_probes import Asker, Probe
from ha_agent.core.account import CheckAccount
from ha_agent.core.check_acts import Act, Move, Verdict, count_within
from ha_agent.core.check_state import CheckState, Health, Limits, Result, is_due, note_done, take
from ha_agent.core.checks import CheckSettings
from ha_agent.core.supervisor_words import State
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role
from ha_agent.daemon.checks.acting import CheckActs
from ha_agent.daemon.checks.looker import Looker, Looks
from ha_agent.daemon.checks.record import LONGEST_WINDOW_S, CheckRecord
from ha_agent.daemon.checks.states import ProgramStates
from ha_agent.daemon.events import Events
from ha_agent.daemon.parts import keep_running
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

StartTask = Callable[[Coroutine[Any, Any, None]], object]


class NoChecks:
    """A node without checks: nothing is asked, kept or done."""

    @property
    def moves(self) -> tuple[Move, ...] | None:
        """The hand-overs that checks have caused; None where there are no checks."""
        return None

    def load(self) -> None:
        """Takes up what an agent before this one did."""

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done all the time."""
        return []

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role."""

    def describe(self) -> tuple[CheckAccount, ...]:
        """All that is known."""
        return ()

    def close(self) -> None:
        """Breaks off every look."""


class CheckWatch(NoChecks):
    """``clock``: the loop's, monotonic; ``wall``: wall clock seconds. ``start_task`` has a coroutine done beside it."""

    def __init__(
        self,
        checks: Mapping[str, CheckSettings],
        asker: Asker,
        standing: Standing,
        maintenance: Maintenance,
        states: ProgramStates,
        record: CheckRecord,
        acts: CheckActs,
        events: Events,
        start_task: StartTask,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._checks, self._asker, self._standing, self._maintenance = checks, asker, standing, maintenance
        self._states, self._record, self._acts, self._events = states, record, acts, events
        self._start_task, self._clock, self._wall = start_task, clock, wall
        self._limits = {name: Limits(check.fall, check.rise) for name, check in checks.items()}
        self._seen: dict[str, CheckState] = {}
        self._held: dict[str, str] = {}
        """Why nothing is done about a check that fails."""
        self._acting: set[str] = set()
        self._spell = 0
        """Counts how often checks have begun to be made: what was begun before that is out of date."""
        self._begun_mono: float | None = None
        probes = {name: (check, Probe(check, asker)) for name, check in checks.items()}
        self._looker = Looker(Looks(probes, self._is_on, self._judge), self._begin, self._take, clock)

    @property
    def moves(self) -> tuple[Move, ...]:
        """The hand-overs that checks of either node have caused."""
        return self._record.moves

    def load(self) -> None:
        """Takes up what an agent before this one did."""
        self._record.load()

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done all the time. No role depends on it."""
        works = [keep_running("health checks", self._looker.run, self._events)]
        if any(check.program for check in self._checks.values()):
            works.append(keep_running("the states of checked programs", self._states.run, self._events))
        return works

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role: nothing of before it counts any more."""
        self._forget()
        if told.after is Role.ACTIVE:
            self._looker.wake()

    def close(self) -> None:
        """Breaks off every look."""
        self._looker.stop()
        self._asker.close()

    # ---- when ---------------------------------------------------------------------------------------------

    def _is_on(self) -> bool:
        standing = self._standing
        return standing.role is Role.ACTIVE and standing.plan is None and not self._maintenance.is_on

    def _forget(self) -> None:
        self._looker.stop()
        self._spell += 1
        self._seen, self._held, self._begun_mono = {}, {}, None

    def _begin(self) -> None:
        """Checks are made from now on: after a takeover, a maintenance, or a start of the agent."""
        self._spell += 1
        self._seen, self._held, self._begun_mono = {}, {}, self._clock()
        name = self._record.restarting
        if name in self._checks and name not in self._acting:
            self._act(name, lambda: self._resume_restart(name, self._checks[name]))

    async def _resume_restart(self, name: str, check: CheckSettings) -> Verdict:
        """Goes on with a restart that an agent before this one was killed in: perhaps the program is stopped."""
        await self._states.refresh(at_once=True)
        if self._is_stopped(check):
            return await self._acts.finish_restart(name, check)
        self._record.end_restart()
        return Verdict(Act.NOTHING)

    def _judge(self, name: str) -> Result | bool:
        check = self._checks[name]
        why = self._find_wait(name)
        if why is not None:
            if check.program and name not in self._acting and self._is_stopped(check):
                # Somebody has stopped it on purpose: what was known of it is of no use.
                self._seen.pop(name, None)
                self._held.pop(name, None)
            return False
        return self._judge_program(check) if check.program else True

    def _is_stopped(self, check: CheckSettings) -> bool:
        found = self._states.find(check.program)
        return found is None or found.state in ("", State.STOPPED, State.STOPPING)

    def _find_wait(self, name: str) -> str | None:
        """Why ``name`` is not looked at now; None where it may be."""
        check = self._checks[name]
        if self._standing.role is not Role.ACTIVE:
            return "this node is not active"
        if self._begun_mono is None or not self._is_on():
            return "maintenance is on" if self._maintenance.is_on else "this node is not settled yet"
        if name in self._acting:
            return "something is being done about it"
        if not check.program:
            return None if self._clock() - self._begun_mono >= check.after_s else "it is given time to come up"
        found = self._states.find(check.program)
        if found is None or self._is_stopped(check):
            return f"{check.program} is {found.state or 'not loaded' if found else 'not known yet'}"
        up_s = self._wall() - found.since
        if found.state == State.STARTING or (found.state == State.RUNNING and 0 <= up_s < check.after_s):
            return f"{check.program} is given time to come up"
        return None

    def _judge_program(self, check: CheckSettings) -> Result | bool:
        found = self._states.find(check.program)
        state = found.state if found is not None else ""
        if state != State.RUNNING:
            return Result(False, f"{check.program} is {state}", 0.0)
        return Result(True, "ok", 0.0) if check.kind == "running" else True

    # ---- what they come to --------------------------------------------------------------------------------

    def _take(self, name: str, result: Result) -> None:
        before = self._seen.get(name, CheckState())
        after = self._seen[name] = take(before, result, self._limits[name], round(self._wall(), 3))
        if after.health is not before.health:
            self._tell(name, before, after)
        if after.health is Health.PASSING:
            self._record.note_passed(name)
        if is_due(after, self._limits[name]) and name not in self._acting:
            check, spell = self._checks[name], self._spell

            def is_wanted() -> bool:
                return self._spell == spell and self._is_on() and self._health_of(name) is Health.FAILING

            if check.on_failure != "alert":
                self._act(name, lambda: self._acts.act(name, check, result.text, is_wanted))

    def _health_of(self, name: str) -> Health:
        return self._seen.get(name, CheckState()).health

    def _tell(self, name: str, before: CheckState, after: CheckState) -> None:
        last = after.last
        if after.health is Health.FAILING and last is not None:
            self._events.add("check-failed", f"check {name} fails: {last.text}", check=name)
        elif before.health is Health.FAILING:
            self._held.pop(name, None)
            self._events.add("check-recovered", f"check {name} passes again", check=name)

    def _act(self, name: str, work: Callable[[], Coroutine[Any, Any, Verdict]]) -> None:
        self._acting.add(name)
        self._start_task(self._do(name, work, self._spell))

    async def _do(self, name: str, work: Callable[[], Coroutine[Any, Any, Verdict]], spell: int) -> None:
        try:
            verdict = await work()
            if verdict.act is Act.RESTART:
                await self._states.refresh(at_once=True)
        except Exception:
            # A defect in here must not end the agent, whose role does not depend on it.
            log.exception("nothing could be done about check %s", name)
            verdict = Verdict(Act.HOLD, "a defect of ha-agent: see its log")
        finally:
            self._acting.discard(name)
        if spell != self._spell:
            return
        if verdict.act is Act.RESTART:
            self._count_anew(self._checks[name].program)
        if not verdict.why:
            self._held.pop(name, None)
        elif self._health_of(name) is Health.FAILING:
            self._hold(name, verdict.why)

    def _count_anew(self, program: str) -> None:
        """Every check of a program that was restarted must fail again before more is done."""
        for name, check in self._checks.items():
            if check.program == program and name in self._seen:
                self._seen[name] = note_done(self._seen[name])

    def _hold(self, name: str, why: str) -> None:
        """Nothing is done; that is told once for each reason."""
        if self._held.get(name) != why:
            self._events.add("check-held-back", f"check {name}: {why}", check=name)
        self._held[name] = why

    def describe(self) -> tuple[CheckAccount, ...]:
        """All that is known of each, in the order of the file."""
        return tuple(self._describe(name, check) for name, check in self._checks.items())

    def _describe(self, name: str, check: CheckSettings) -> CheckAccount:
        wait = self._find_wait(name)
        seen = self._seen.get(name, CheckState())
        return CheckAccount(
            name=name,
            kind=check.kind,
            program=check.program,
            on_failure=check.on_failure,
            health=seen.health.value,
            since=seen.since,
            last=seen.last.text if seen.last is not None else None,
            took_s=seen.last.took_s if seen.last is not None else None,
            at=seen.at,
            waits=wait,
            held=self._held.get(name),
            restarts=count_within(self._record.restarts.get(name, ()), self._wall(), LONGEST_WINDOW_S),
        )
