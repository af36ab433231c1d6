"""Programs that are started after others: what waits after a takeover, and its start once that is up.

Works beside the role while the node is active, and decides no role. What it starts it starts as everybody does: under the
lock that a release waits for, after one more look at the role. ``core/start_run.py`` says who may start when.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.supervisord import Fault, ProcessInfo, SupervisordDown
from ha_agent.core.account import WaitAccount
from ha_agent.core.confs import Selection
from ha_agent.core.order_keys import Address
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import OrderSettings
from ha_agent.core.start_plan import NOBODY, Known, Process, StartPlan, plan_start
from ha_agent.core.start_run import Ended, How, Sight, StartRun, critical_path, say_path
from ha_agent.core.supervisor_words import FaultCode, State, full_name
from ha_agent.core.transitions import Transition
from ha_agent.core.width import count_text
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.hand_back import HandBack
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

CONNECT_S = 0.5
"""An address has this long to take a connection. One on this machine needs a fraction of a millisecond."""

QUICK_POLL_S, QUICK_FOR_S, POLL_S = 0.2, 10.0, 1.0
"""Between two looks at what is waited for, in the first ten seconds and later. An event of supervisord wakes sooner."""

LEAST_PAUSE_S = 0.01

SKIPPED_POLL_S = 5.0
"""Between two looks for whether one that was not started was started by hand."""

SHOWN = 20
"""So many waits are named in a line of the history."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a start depends on besides the role. ``may_start``: no maintenance, and the votes last where they are needed."""

    may_start: Callable[[], bool]
    give_way: Callable[[str], None]
    """Has keepalived give up MASTER here, because a program that others wait for did not come."""


class StartOrder:
    """For one group. ``start_all``: a takeover starts every program. ``answers``: whether an address takes a connection
    within so many seconds. ``clock``: monotonic seconds, the same for an agent that is started again."""

    def __init__(
        self,
        limits: OrderSettings,
        standing: Standing,
        active_set: ActiveSet,
        supervised: Supervised,
        loaded: LoadedGroups,
        events: Events,
        hand_back: HandBack,
        bounds: Bounds,
        answers: Callable[[Address, float], Awaitable[bool]],
        clock: Callable[[], float],
        *,
        start_all: bool,
    ) -> None:
        self._limits, self._standing, self._active_set = limits, standing, active_set
        self._supervised, self._loaded, self._events = supervised, loaded, events
        self._hand_back, self._bounds, self._answers, self._clock = hand_back, bounds, answers, clock
        self._start_all = start_all
        self._run: StartRun | None = None
        self._woken = asyncio.Event()
        self._planned: tuple[Selection, StartPlan] = (Selection(), NOBODY)

    # ---- what others ask ----------------------------------------------------------------------------------

    def find_plan(self) -> StartPlan:
        """What the confs that can be loaded here say now."""
        selection = self._active_set.selection
        if self._planned[0] is not selection:
            idle = frozenset[str]() if self._start_all else selection.not_started
            known = Known(selection.groups, selection.processes, idle)
            limits = self._limits
            self._planned = selection, plan_start(selection.order_keys, known, limits.limit_s, limits.on_timeout)
        return self._planned[1]

    def count_open(self) -> int:
        """How many groups wait."""
        return len(self._run.open) if self._run is not None else 0

    def describe(self, now_wall: float) -> tuple[WaitAccount, ...]:
        """Who waits and for what, and who was not started because that did not come. ``now_wall``: wall clock seconds."""
        run = self._run
        if run is None:
            return ()
        offset = now_wall - self._clock()
        waiting, lost = run.waiting(self.find_plan()), run.not_started()
        found = [WaitAccount(w.group, self._name(w.group), w.words, w.since + offset) for w in waiting]
        found += [WaitAccount(g, self._name(g), e.words, run.began + offset, e.at + offset) for g, e in lost.items()]
        return tuple(found)

    def _name(self, group: str) -> tuple[str, ...]:
        selection = self._active_set.selection
        members = selection.groups.get(group, ())
        return tuple(full_name(group, name) for p in members for name in selection.processes.get(p, (p,)))

    def wake(self) -> None:
        """Says that a program changed its state, or that the role did."""
        self._woken.set()

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role: a node that is not active starts nothing more."""
        if told.after not in (Role.ACTIVE, Role.TAKING_OVER) or told.before is Role.ACTIVE:
            self._break_off(told.reason)

    def _break_off(self, reason: str) -> None:
        run, self._run = self._run, None
        if run is not None and run.open:
            waits = _describe_waits(run, self.find_plan())
            said = "; ".join(f"{wait['group']} for {', '.join(wait['for'])}" for wait in waits[:SHOWN])
            text = f"{count_text(len(waits), 'program')} not started that waited ({said}): {reason}"
            self._events.add("order-broken-off", text, waits=waits)
        if run is not None:
            self._standing.note_waits(None)
        self.wake()

    # ---- for the takeover and the role loop ---------------------------------------------------------------

    def begin(self) -> frozenset[str]:
        """Begins an order where the confs ask for one; returns the groups that are not to be loaded with the others.

        They are written down first. A takeover that is tried again begins again.
        """
        plan = self.find_plan()
        run = StartRun(plan.held, self._clock()) if plan.held else None
        self._run = run
        self._standing.note_waits(run.to_note() if run is not None else None)
        if run is not None or plan.ignored:
            self._tell_begin(run, plan)
        return plan.held

    def _tell_begin(self, run: StartRun | None, plan: StartPlan) -> None:
        said = [f"{w.group} for {', '.join(w.words)}" for w in run.waiting(plan)] if run is not None else []
        text = f"{_count(said)} after others: {'; '.join(said[:SHOWN])}" if said else "nothing waits"
        ignored = {f"{group} for {word}": why for (group, word), why in plan.ignored.items()}
        text += "".join(f"; not {what}: {why}" for what, why in list(ignored.items())[:SHOWN])
        self._events.add("order-begun", text, ignored=ignored)

    def resume(self) -> None:
        """Takes up what an agent of this boot left."""
        raw = self._standing.waits
        if raw is None:
            return
        try:
            self._run = StartRun.from_note(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._events.add("order-broken-off", f"the note of what waits cannot be read: {reason_of(error)}")
            self._standing.note_waits(None)

    async def run(self) -> None:
        """Starts what waits, each when it may; until all of it has its end, or the node is not active any more."""
        run = self._run
        if run is None:
            return
        was_over = run.is_over
        while self._run is run and self._standing.role is Role.ACTIVE:
            with contextlib.suppress(SupervisordDown):
                await self._look(run)
            if run.is_over and not was_over and self._run is run:
                was_over = True
                self._tell_end(run)
            if run.is_over and not run.not_started():
                self._finish(run)
                return
            await self._wait(run)

    def _finish(self, run: StartRun) -> None:
        if self._run is run:
            self._run = None
            self._standing.note_waits(None)

    async def _wait(self, run: StartRun) -> None:
        quick = self._clock() - run.began < QUICK_FOR_S
        pause = SKIPPED_POLL_S if run.is_over else QUICK_POLL_S if quick else POLL_S
        due = min((w.until for w in run.waiting(self.find_plan()) if w.until is not None), default=self._clock() + pause)
        pause = min(pause, max(LEAST_PAUSE_S, due - self._clock()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._woken.wait()
        self._woken.clear()

    # ---- looking and starting -----------------------------------------------------------------------------

    async def _look(self, run: StartRun) -> None:
        if not self._active_set.has_judged or not self._active_set.is_current:
            # What the confs say is not known.
            return
        plan = self.find_plan()
        sight = await self._see(run, plan)
        if self._run is not run or not self._bounds.may_start():
            return
        run.note_loaded(sight.loaded, sight.now)
        ended = run.step(plan, sight)
        if not ended:
            return
        starts = [group for group, end in ended.items() if end.how in (How.READY, How.LATE)]
        if starts and not await self._start(run, starts):
            ended = {group: end for group, end in ended.items() if group not in starts}
        if self._run is run:
            # After the start: an agent that ends between the two finds it loaded.
            self._standing.note_waits(run.to_note())
            self._tell_late(run, ended)

    async def _see(self, run: StartRun, plan: StartPlan) -> Sight:
        """One look at what is waited for. Raises ``SupervisordDown``."""
        selection = self._active_set.selection
        needs = [need for group in run.open for need in plan.needs.get(group, ())]
        awaited = {process for need in needs for process in need.processes}
        own = {self._first_process(group, selection) for group in run.open | run.not_started().keys()}
        addresses = sorted({need.address for need in needs if need.address is not None})
        infos, answers = await asyncio.gather(
            self._supervised.read_named(awaited | own),
            asyncio.gather(*(self._answers(address, CONNECT_S) for address in addresses)),
        )
        return Sight(
            self._clock(),
            frozenset(selection.groups),
            frozenset(info.group for info in infos if (info.group, info.name) in own),
            frozenset((info.group, info.name) for info in infos if _is_up(info)),
            frozenset(address for address, answered in zip(addresses, answers, strict=True) if answered),
        )

    def _first_process(self, group: str, selection: Selection) -> Process:
        """A process by which it shows whether supervisord has ``group``."""
        program = next(iter(selection.groups.get(group, ())), group)
        return group, next(iter(selection.processes.get(program, ())), program)

    async def _start(self, run: StartRun, groups: Collection[str]) -> bool:
        """Has supervisord load ``groups``; says whether it was told. What was not told waits on."""
        selection = self._active_set.selection
        idle = selection.not_started if self._start_all else frozenset()
        lazy = [
            f"{group}:{process}"
            for group in groups
            for program in selection.groups.get(group, ())
            if program in idle
            for process in selection.processes.get(program, ())
        ]
        calls: list[tuple[str, list[Any]]] = [("addProcessGroup", [group]) for group in groups]
        calls += [("startProcess", [name, False]) for name in lazy]
        async with self._supervised.loading:
            if self._run is not run or not self._standing.may_start or not self._bounds.may_start():
                for group in groups:
                    run.put_back(group)
                return False
            self._loaded.remember(groups)
            try:
                answers = await self._supervised.batch(calls)
            except SupervisordDown:
                for group in groups:
                    run.put_back(group)
                raise
        for group, answer in zip(groups, answers, strict=False):
            if isinstance(answer, Fault) and answer.code != FaultCode.ALREADY_ADDED:
                text = f"supervisord refuses to start {group}: {answer.text}"
                self._events.add("start-refused", text, group_name=group)
                run.refuse(group, self._clock(), answer.text)
        return True

    # ---- telling ------------------------------------------------------------------------------------------

    def _tell_late(self, run: StartRun, ended: dict[str, Ended]) -> None:
        """Tells what did not come in time, and gives way where a conf says so."""
        for group, end in ended.items():
            if end.how not in (How.LATE, How.SKIPPED, How.FAILED):
                continue
            what = "is started without" if end.how is How.LATE else "is not started:"
            waited_s = round(end.at - run.began, 1)
            text = f"{group} {what} {', '.join(end.words)}, which did not come in {waited_s:g} s"
            self._events.add("wait-timed-out", text, group_name=group, words=list(end.words), how=end.how.value)
            if end.how is How.FAILED:
                self._hand_back.attempt(lambda text=text: self._bounds.give_way(text))  # type: ignore[misc]

    def _tell_end(self, run: StartRun) -> None:
        """Tells how long all of it took, and by what."""
        path = critical_path(run, self.find_plan())
        took_s = max((end.at for end in run.ended.values()), default=run.began) - run.began
        counts = {how: sum(end.how is how for end in run.ended.values()) for how in How}
        text = f"{counts[How.READY]} started in order after {took_s:.1f} s"
        text += "".join(f", {counts[how]} {how.value}" for how in How if how is not How.READY and counts[how])
        text += f"; the longest chain: {say_path(path)}" if path else ""
        waits = [
            {"group": group, "took_s": round(end.at - run.began, 3), "how": end.how.value, "words": list(end.words)}
            for group, end in sorted(run.ended.items(), key=lambda item: item[1].at)
        ]
        chain = [{"name": word, "at_s": seconds} for word, seconds in path]
        self._events.add("order-done", text, took_s=round(took_s, 3), waits=waits, path=chain)


def _is_up(info: ProcessInfo) -> bool:
    """RUNNING means that startsecs have passed. One that ended with 0 after that has done its work."""
    return info.state == State.RUNNING or (info.state == State.EXITED and info.exit_status == 0)


def _count(names: Collection[str]) -> str:
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} to be started"


def _describe_waits(run: StartRun, plan: StartPlan) -> list[dict[str, Any]]:
    return [{"group": wait.group, "for": list(wait.words)} for wait in run.waiting(plan)]
