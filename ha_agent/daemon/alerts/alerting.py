"""Alerts of one node: asks what holds, keeps the book, and hands what is to be told to the delivery.

Must not decide anything about roles or programs, and never makes them wait: while a takeover or release is under way
nothing is written or sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ha_agent.core.account import NodeAccount
from ha_agent.core.alerts import Condition, Moment, matches
from ha_agent.core.conditions import find_conditions
from ha_agent.core.settings import AlertSettings
from ha_agent.core.transitions import Transition, Verification
from ha_agent.core.words import Role
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.alerts.delivery import Delivery
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.alerts.records import AlertRecords
from ha_agent.daemon.alerts.takeover_summary import TakeoverSummary
from ha_agent.daemon.events import Event
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

STEP_S = 1.0
PLAN_PATIENCE_S = 10.0
"""What a takeover holds back, it holds back for this long at most."""

PASSED_ON = frozenset(
    {
        "divergence-kept",
        "stalled",
        "drill-report",
        "switchover",
        "standby-ordered",
        "standby-lifted",
        "maintenance-on",
        "maintenance-off",
        "ran-twice",
        "registry-found",
        "wait-timed-out",
        "start-refused",
        "check-restart",
        "check-moves",
    }
)
"""Events of the history that are alerts as they are."""


class Alerting:
    """``wake`` has it look soon; it looks every second anyway. ``clock``: monotonic, ``wall``: wall clock seconds."""

    def __init__(
        self,
        settings: AlertSettings,
        standing: Standing,
        accountant: Accountant,
        watcher: ProgramWatcher,
        summary: TakeoverSummary,
        records: AlertRecords,
        delivery: Delivery,
        maintenance: Maintenance,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._settings, self._standing, self._accountant = settings, standing, accountant
        self._watcher, self._summary = watcher, summary
        self._records, self._delivery, self._maintenance = records, delivery, maintenance
        self._clock, self._wall = clock, wall
        self._moments: list[Moment] = []
        self._woken = asyncio.Event()
        self._held_since_mono: float | None = None

    # ---- life ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Goes on with what an agent before this one knew."""
        self._records.load()
        lasting = list(self._records.book.open.values())
        self._watcher.watch.adopt(
            (one.subject for one in lasting if one.code == "program-exited"),
            (one.subject for one in lasting if one.code == "program-looping"),
        )

    async def run(self) -> None:
        """Works until cancelled."""
        self._delivery.start()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STEP_S):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._watcher.update()
                if not self._must_wait():
                    await self.step()
            except Exception:
                # A defect in here must not end the agent, which has more to do than to tell.
                log.exception("alerts could not be looked at")

    async def close(self) -> None:
        """Lets deliveries under way come to their end, and writes everything."""
        await self._delivery.close()
        await self._records.save()

    def wake(self) -> None:
        """Has it look soon."""
        self._woken.set()

    # ---- what is heard ------------------------------------------------------------------------------------

    def hear_event(self, event: Event) -> None:
        """Makes an alert of an event of the history, where it is one. Never raises: a takeover writes history, too."""
        self._guard(self._hear_event, event)

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role. Never raises."""
        self._guard(self._hear_transition, told)

    def hear_verification(self, seen: Verification) -> None:
        """Takes in what became of the programs. Never raises."""
        self._guard(self._hear_verification, seen)

    def _guard(self, hear: Callable[[Any], None], what: object) -> None:
        try:
            hear(what)
        except Exception:
            log.exception("no alert can be made of %r", what)

    def _hear_event(self, event: Event) -> None:
        if event["code"] in PASSED_ON:
            details = {k: v for k, v in event.items() if k not in ("at", "node", "code", "text")}
            self._moments.append(Moment(str(event["code"]), self._standing.node, str(event["text"]), details))
            self.wake()

    def _hear_transition(self, told: Transition) -> None:
        self._watcher.hear_transition(told)
        self._summary.hear_transition(told)
        self.wake()

    def _hear_verification(self, seen: Verification) -> None:
        if seen.resumed:
            self._make_up_for(seen)
        else:
            self._watcher.plan_ended(verifying=False)
            self._summary.hear_verification(seen)
        self.wake()

    def _make_up_for(self, seen: Verification) -> None:
        last, records = Transition.from_event(self._standing.last_transition), self._records
        if last is None or not records.book.number:
            return
        told = any(note.code == "role-active" and note.at >= last.at_wall for note in records.notes)
        self._summary.make_up_for(last, seen, self._wall(), told=told)

    # ---- what is told -------------------------------------------------------------------------------------

    def _must_wait(self) -> bool:
        """Whether a takeover or release is under way, for which the disk and the processor are to be free."""
        if self._standing.plan is None:
            self._held_since_mono = None
            return False
        now = self._clock()
        if self._held_since_mono is None:
            self._held_since_mono = now
        return now - self._held_since_mono < PLAN_PATIENCE_S

    async def step(self) -> None:
        """Looks once at what holds and what has happened, and tells what is to be told."""
        now = self._wall()
        if self._summary.is_due:
            self._watcher.plan_ended(verifying=False)
            self._summary.sum_up_late()
        # Conditions come first: an end that brings one about is no moment of its own, and what has happened is taken once.
        conditions = [self._mark(condition) for condition in self._find_conditions(now)]
        moments, self._moments = [*self._moments, *self._summary.take_moments(), *self._watcher.moments(now)], []
        told = self._records.book.step(
            conditions,
            [moment for moment in moments if not self._is_silenced(moment.code)],
            now,
        )
        self._records.add(told)
        await self._records.save_if_changed()
        if told:
            for note in told:
                log.info("alert %s %s: %s", note.kind.value, note.code, note.text)
            self._delivery.wake()

    def _find_conditions(self, now: float) -> list[Condition]:
        account = self._accountant.gather(now)
        found = [
            *find_conditions(account),
            *self._watcher.conditions(now),
            *self._delivery.conditions(),
        ]
        if not self._watcher.watch.is_synced:
            # Until the first look, keep the conditions of the last run.
            found += [
                Condition(one.code, one.subject, one.text, one.details)
                for one in self._records.book.open.values()
                if one.code.startswith("program-")
            ]
        return [*found, *self._keep_unknown(account)]

    def _keep_unknown(self, account: NodeAccount) -> Iterator[Condition]:
        """What an agent before this one has found, or this one a while ago, and nobody knows now whether it still holds.

        Checks that nobody has made since, as after a maintenance, and files that cannot be compared.
        """
        unknown = (
            {check.name for check in account.checks if check.health == "unknown"} if account.role is Role.ACTIVE else ()
        )
        for one in self._records.book.open.values():
            is_uncompared = account.role is Role.ACTIVE and account.drift is not None and account.drift.problem is not None
            if (one.code == "check-failed" and one.subject in unknown) or (one.code == "payload-differs" and is_uncompared):
                yield Condition(one.code, one.subject, one.text, one.details)

    def _is_silenced(self, code: str) -> bool:
        return self._maintenance.is_on and matches(code, self._settings.maintenance_silences)

    def _mark(self, condition: Condition) -> Condition:
        return replace(condition, silenced=True) if self._is_silenced(condition.code) else condition
