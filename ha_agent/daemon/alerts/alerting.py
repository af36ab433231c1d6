"""Alerts of one node: asks what holds, keeps the book on disk, and has each sink served by a task of its own.

Must not decide anything about roles or programs, and never makes them wait: while a takeover or release is under way
nothing is written or sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.alert_store import AlertStore, SinkState, Stored
from ha_agent.adapters.rpc import Handler, Progress
from ha_agent.adapters.runner import Ended, ProgramMissing, run_program
from ha_agent.core.alert_codes import CODES, Severity
from ha_agent.core.alerts import Book, Condition, Kind, Moment, Notification, is_wanted, matches
from ha_agent.core.frames import Message
from ha_agent.core.settings import SinkSettings
from ha_agent.core.words import Role
from ha_agent.daemon.conditions import gather_conditions
from ha_agent.daemon.operations.node import take

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

log = logging.getLogger(__name__)

STEP_S = 1.0
LISTED = 200
"""So many notifications of late are kept for those who ask, whether or not they are delivered."""

PLAN_PATIENCE_S = 10.0
"""What a takeover holds back, it holds back so long at most."""

SUMMARY_S = 15.0
"""A takeover whose programs are not all settled by then is summed up without them."""

CLOSE_S = 2.0
RETRY_FIRST_S, RETRY_MAX_S = 1.0, 300.0
NEVER = 3
SENDER_GRACE_S = 5.0
OLD_S = 86400.0
"""What could not be delivered for a day is dropped, and that is counted."""

PASSED_ON = frozenset({"divergence-kept", "stalled", "drill-report", "switchover", "maintenance-on", "maintenance-off"})
"""Events of the history that are alerts as they are."""


class Alerting:
    """The alerts of one agent. ``wake`` has it look soon; it looks every second anyway."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._settings = agent.settings.alerts
        self._store = AlertStore(agent.settings.paths.state_dir)
        self.book = Book(agent.node, self._settings.repeat_s)
        self.notes: list[Notification] = []
        self.sinks: dict[str, SinkState] = {}
        self._moments: list[Moment] = []
        self._summary: dict[str, Any] | None = None
        self._cause = ""
        """Why the last takeover was begun."""
        self._summary_due_mono = 0.0
        self._woken = asyncio.Event()
        self._fresh: dict[str, asyncio.Event] = {name: asyncio.Event() for name in agent.settings.sinks}
        self._saving = asyncio.Lock()
        self._saved: object = None
        self._held_since_mono: float | None = None
        self._sending: set[asyncio.Task[Ended]] = set()
        self.handlers: dict[str, Handler] = {"alert-list": self._serve_list, "alert-test": self._serve_test}

    # ---- life ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Goes on with what an agent before this one knew; begins anew where that cannot be read."""
        try:
            stored = self._store.load()
        except OSError as error:
            stored = Stored(remark=f"alerts begin anew: {error}")
        if stored.book is not None:
            try:
                self.book.load(stored.book)
            except (KeyError, ValueError, TypeError) as error:
                log.error("the book of alerts cannot be used, it begins anew: %r", error)
        if stored.remark:
            log.error("%s", stored.remark)
        lasting = list(self.book.open.values())
        self._agent.program_alerts.watch.adopt(
            (one.subject for one in lasting if one.code == "program-exited"),
            (one.subject for one in lasting if one.code == "program-looping"),
        )
        self.notes = stored.notes
        known = stored.sinks
        self.sinks = {name: known.get(name) or SinkState(self.book.number) for name in self._agent.settings.sinks}

    async def run(self) -> None:
        """Works until cancelled."""
        for name, sink in self._agent.settings.sinks.items():
            self._agent.start_task(self._keep_serving(name, sink))
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), STEP_S)
            self._woken.clear()
            try:
                await self._agent.program_alerts.look()
                if not self._must_wait():
                    await self._step()
            except Exception:
                # A defect in here must not end the agent, which has more to do than to tell.
                log.exception("alerts could not be looked at")

    async def close(self) -> None:
        """Lets deliveries under way come to their end, ``CLOSE_S`` at most, so that none is done twice."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_S)
            # What waited for them notes that they are done.
            await asyncio.sleep(0.01)
        await self._save()

    def wake(self) -> None:
        """Has it look soon."""
        self._woken.set()

    # ---- what is to be told -------------------------------------------------------------------------------

    def take_event(self, event: Mapping[str, Any]) -> None:
        """Makes an alert of an event of the history, where it is one. Never raises: a takeover writes history, too."""
        try:
            self._take_event(event)
        except Exception:
            log.exception("no alert can be made of %r", event)

    def _take_event(self, event: Mapping[str, Any]) -> None:
        code = str(event["code"])
        if "from" in event and "to" in event:
            self._take_transition(event)
        elif code == "takeover-verified":
            self._agent.program_alerts.plan_ended(verifying=False)
            self._sum_up(event)
        elif code == "agent-resumed":
            self._make_up_for(event)
        elif code in PASSED_ON:
            details = {k: v for k, v in event.items() if k not in ("at", "node", "code", "text")}
            self._add(Moment(code, self._agent.node, str(event["text"]), details))

    def _take_transition(self, event: Mapping[str, Any]) -> None:
        if event["to"] == Role.TAKING_OVER.value:
            self._cause = str(event["text"])
        elif event["to"] == Role.ACTIVE.value:
            self._agent.program_alerts.plan_ended(verifying=True)
            self._summary = dict(event)
            self._summary_due_mono = self._agent.loop.time() + SUMMARY_S
        elif event["from"] in (Role.RELEASING.value, Role.FENCED.value):
            self._agent.program_alerts.plan_ended(verifying=False)
            self._summary = None
            if event["to"] == Role.STANDBY.value:
                text = f"{self._agent.node} is standby after {event.get('took_s', 0):.2f} s: {event['text']}"
                self._add(Moment("role-standby", self._agent.node, text, {"report": dict(event)}))

    def _make_up_for(self, event: Mapping[str, Any]) -> None:
        """Sums up a takeover that an agent before this one did not live to tell of."""
        last = self._agent.standing.last_transition
        at = float(last.get("at", 0.0))
        told = any(note.code == "role-active" and note.at >= at for note in self.notes)
        if last.get("to") == Role.ACTIVE.value and not told and time.time() - at < OLD_S and self.book.number:
            self._summary = dict(last)
            self._sum_up(event)

    def _sum_up(self, seen: Mapping[str, Any] | None) -> None:
        """Tells of a takeover once, with what became of its programs as far as that is known."""
        summary, self._summary = self._summary, None
        if summary is None:
            return
        took_s = float(summary.get("took_s", 0.0))
        how = next((str(s["interlock"]) for s in summary.get("steps", ()) if "interlock" in s), "none")
        because = f"{self._cause}; " if self._cause else ""
        text = f"{self._agent.node} is active after {took_s:.2f} s ({because}the peer's word: {how})"
        if seen is None:
            text += ", programs are still starting"
        else:
            failed = dict(seen.get("failed", {}))
            text += f": {seen.get('running', 0)} programs running, {len(failed)} failed"
            text += "".join(f"; {name}: {why}" for name, why in list(failed.items())[:10])
            summary["programs"] = {"running": seen.get("running"), "failed": failed, "took_s": seen.get("took_s")}
        self._add(Moment("role-active", self._agent.node, text, {"report": summary}))

    def _add(self, moment: Moment) -> None:
        self._moments.append(moment)
        self.wake()

    def _is_silenced(self, code: str) -> bool:
        return self._agent.maintenance.is_on and matches(code, self._settings.maintenance_silences)

    def _must_wait(self) -> bool:
        """Whether a takeover or release is under way, for which the disk and the processor are to be free."""
        now = self._agent.loop.time()
        if self._agent.standing.plan is None:
            self._held_since_mono = None
            return False
        if self._held_since_mono is None:
            self._held_since_mono = now
        return now - self._held_since_mono < PLAN_PATIENCE_S

    async def _step(self) -> None:
        agent, now = self._agent, time.time()
        if self._summary is not None and agent.loop.time() >= self._summary_due_mono:
            agent.program_alerts.plan_ended(verifying=False)
            self._sum_up(None)
        conditions = [*gather_conditions(agent, now), *agent.program_alerts.conditions(now), *self._of_sinks()]
        if not agent.program_alerts.watch.is_synced:
            # Nobody has looked at programs yet: what was so still is.
            conditions += [
                Condition(one.code, one.subject, one.text, one.details)
                for one in self.book.open.values()
                if one.code.startswith("program-")
            ]
        moments, self._moments = [*self._moments, *agent.program_alerts.moments(now)], []
        told = self.book.step(
            [self._marked(condition) for condition in conditions],
            [moment for moment in moments if not self._is_silenced(moment.code)],
            now,
        )
        self.notes += told
        await self._save_if_changed()
        if told:
            for note in told:
                log.info("alert %s %s: %s", note.kind.value, note.code, note.text)
            for fresh in self._fresh.values():
                fresh.set()

    def _marked(self, condition: Condition) -> Condition:
        if not self._is_silenced(condition.code):
            return condition
        return Condition(condition.code, condition.subject, condition.text, condition.details, silenced=True)

    def _of_sinks(self) -> list[Condition]:
        return [
            Condition("sink-failing", name, f"{name}: {state.problem}", {"failures": state.failures})
            for name, state in self.sinks.items()
            if state.failures >= 3
        ]

    # ---- the disk -----------------------------------------------------------------------------------------

    async def _save_if_changed(self) -> None:
        told = frozenset((key, one.told_at) for key, one in self.book.open.items() if one.told_at is not None)
        signature = (self.book.number, told, len(self.book.to_dict()["waiting"]))
        if signature != self._saved:
            self._saved = signature
            await self._save()

    async def _save(self) -> None:
        """Writes everything. A full disk costs what a crash would lose, not the alerts."""
        async with self._saving:
            self._trim()
            notes = [note.to_dict() for note in self.notes]
            sinks = {name: asdict(state) for name, state in self.sinks.items()}
            try:
                await asyncio.to_thread(self._store.save, self.book.to_dict(), notes, sinks)
            except OSError as error:
                log.error("alerts cannot be saved; after a crash some would be told again: %s", error)
                self._saved = None

    def _trim(self) -> None:
        """Keeps what is listed, and what waits for a sink up to ``queue_max``; what is dropped is counted."""
        oldest = self.notes[-LISTED].number if len(self.notes) > LISTED else 0
        waiting = min((state.cursor for state in self.sinks.values()), default=self.book.number) + 1
        first = max(min(oldest, waiting), self.book.number - max(self._settings.queue_max, LISTED) + 1)
        self.notes = [note for note in self.notes if note.number >= first]
        for state in self.sinks.values():
            if state.cursor < first - 1:
                state.dropped += first - 1 - state.cursor
                state.cursor = first - 1

    # ---- the sinks ----------------------------------------------------------------------------------------

    async def _keep_serving(self, name: str, sink: SinkSettings) -> None:
        while True:
            try:
                await self._serve_sink(name, sink)
            except Exception as error:
                # As above: neither the agent nor another sink ends with it.
                log.exception("sink %s cannot be served", name)
                self.sinks[name].failures += 1
                self.sinks[name].problem = f"{type(error).__name__}: {error}"
                await asyncio.sleep(RETRY_MAX_S)

    async def _serve_sink(self, name: str, sink: SinkSettings) -> None:
        """Delivers to one sink, in order; one that does not take it is asked again later and later."""
        state, fresh = self.sinks[name], self._fresh[name]
        while True:
            note = next((n for n in self.notes if n.number > state.cursor), None)
            if note is None:
                fresh.clear()
                await fresh.wait()
                continue
            if not is_wanted(note, Severity(sink.severity), sink.codes, sink.ends) or time.time() - note.at > OLD_S:
                state.dropped += int(time.time() - note.at > OLD_S)
                state.cursor = note.number
                continue
            code, said = await self._deliver(sink, note)
            if code == 0:
                state.delivered += 1
                state.failures, state.problem, state.since = 0, None, None
            else:
                state.failures, state.problem = state.failures + 1, said
                state.since = state.since or round(time.time(), 3)
                log.warning("alert %s-%d could not be delivered to %s: %s", note.node, note.number, name, said)
            if code in (0, NEVER):
                state.dropped += int(code == NEVER)
                state.cursor = max(state.cursor, note.number)
                await self._save()
            else:
                await asyncio.sleep(min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(state.failures - 1, 10)))

    async def _deliver(self, sink: SinkSettings, note: Notification) -> tuple[int | None, str]:
        """Has a process of its own deliver; returns its exit status, and what it said."""
        words = [sys.executable, "-m", "ha_agent.alert_sender"]
        env = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        data = json.dumps({"sink": asdict(sink), "note": note.to_dict()}).encode()
        running = asyncio.ensure_future(run_program(words, sink.timeout_s + SENDER_GRACE_S, env=env, data=data))
        self._sending.add(running)
        try:
            outcome = await asyncio.shield(running)
        except ProgramMissing as error:
            return 1, str(error)
        finally:
            running.add_done_callback(self._sending.discard)
        said = outcome.output.strip() or outcome.errors.strip().rpartition("\n")[2] or f"exit status {outcome.code}"
        return outcome.code, said[:300]

    # ---- what operators ask -------------------------------------------------------------------------------

    async def _serve_list(self, message: Message, _progress: Progress) -> Message:
        """The alerts that last, the notifications of late, and how the sinks are."""
        count = min(max(take(message, "count", int, 50), 0), LISTED)
        now = time.time()
        lasting = [
            {
                "code": one.code,
                "severity": CODES[one.code].severity.value,
                "subject": one.subject,
                "text": one.text,
                "since": round(one.since, 3),
                "told": one.told_at is not None,
                "silenced": one.silenced,
                "remedy": CODES[one.code].remedy,
            }
            for one in self.book.open.values()
            if one.told_at is not None or one.silenced or now - one.since >= CODES[one.code].hold_s
        ]
        sinks = {
            name: {**asdict(state), "kind": sink.kind, "waiting": self._waiting_for(state, sink)}
            for name, sink in self._agent.settings.sinks.items()
            for state in [self.sinks[name]]
        }
        recent = [note.to_dict() for note in self.notes[-count:]] if count else []
        return {"node": self._agent.node, "at": round(now, 3), "lasting": lasting, "recent": recent, "sinks": sinks}

    def _waiting_for(self, state: SinkState, sink: SinkSettings) -> int:
        wanted = (n for n in self.notes if n.number > state.cursor)
        return sum(is_wanted(n, Severity(sink.severity), sink.codes, sink.ends) for n in wanted)

    async def _serve_test(self, message: Message, _progress: Progress) -> Message:
        """Delivers a test to every sink, or to the one named, at once and past the queue."""
        only = take(message, "sink", str, "")
        chosen = {name: sink for name, sink in self._agent.settings.sinks.items() if only in ("", name)}
        if not chosen:
            reason = f"there is no [sinks.{only}] in {self._agent.config_path}" if only else "no sink is configured"
            return {"outcome": "refused", "reason": f"{reason}; see the end of: ha-agent config sample"}
        code, now, by = CODES["alert-test"], round(time.time(), 3), str(message.get("by", "?"))
        self.book.number += 1
        note = Notification(
            self.book.number,
            now,
            self._agent.node,
            Kind.MOMENT,
            code.code,
            code.severity,
            (self._agent.node,),
            f"a test, asked for by {by}",
            code.remedy,
            now,
            {"by": by},
        )
        results = await asyncio.gather(*(self._deliver(sink, note) for sink in chosen.values()))
        rows = [
            {"sink": name, "kind": sink.kind, "delivered": status == 0, "said": said}
            for (name, sink), (status, said) in zip(chosen.items(), results, strict=True)
        ]
        return {"outcome": "done", "id": f"{note.node}-{note.number}", "results": rows}
