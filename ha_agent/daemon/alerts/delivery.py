"""Brings notifications to the sinks: each is served by a task of its own, in order, and waits for no other.

A delivery is a process of its own with a deadline: no sink can end, or hold up, the agent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from typing import Any

from ha_agent.adapters.alert_store import SinkState
from ha_agent.adapters.runner import Ended, ProgramMissing, run_program
from ha_agent.core.alerts import Condition, Notification, is_wanted
from ha_agent.core.faults import Urgency
from ha_agent.core.settings import SinkSettings
from ha_agent.daemon.alerts.records import AlertRecords

log = logging.getLogger(__name__)

CLOSE_S = 2.0
RETRY_FIRST_S, RETRY_MAX_S = 1.0, 300.0
FAILURES = 3
"""A sink that failed so often in a row is an alert itself."""

NEVER = 3
"""Exit status of a sender whose sink will never take this notification."""

SENDER_GRACE_S = 5.0
OLD_S = 86400.0
"""What could not be delivered for a day is dropped, and that is counted."""


async def send_by_process(sink: SinkSettings, note: Notification) -> Ended:
    """Has a process of its own deliver ``note``. Raises ``ProgramMissing``."""
    words = [sys.executable, "-m", "ha_agent.alert_sender"]
    env = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    data = json.dumps({"sink": asdict(sink), "note": note.to_dict()}).encode()
    return await run_program(words, sink.timeout_s + SENDER_GRACE_S, env=env, data=data)


class Delivery:
    """Serves the sinks. ``wall``: the wall clock, in seconds.

    ``send`` delivers one notification to one sink; ``pause`` waits so many seconds before the next attempt.
    """

    def __init__(
        self,
        sinks: Mapping[str, SinkSettings],
        records: AlertRecords,
        start_task: Callable[[Coroutine[Any, Any, None]], object],
        wall: Callable[[], float],
        send: Callable[[SinkSettings, Notification], Coroutine[Any, Any, Ended]] = send_by_process,
        pause: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self.sinks = sinks
        self._records, self._start_task, self._wall = records, start_task, wall
        self._send, self._pause = send, pause
        self._fresh = {name: asyncio.Event() for name in sinks}
        self._sending: set[asyncio.Future[Ended]] = set()

    def start(self) -> None:
        """Begins to serve every sink."""
        for name, sink in self.sinks.items():
            self._start_task(self._keep_serving(name, sink))

    def wake(self) -> None:
        """Says that there are notifications that no sink has seen."""
        for fresh in self._fresh.values():
            fresh.set()

    async def close(self) -> None:
        """Lets deliveries under way come to their end, ``CLOSE_S`` at most, so that none is done twice."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_S)
            # What waited for them notes that they are done.
            await asyncio.sleep(0.01)

    def conditions(self) -> list[Condition]:
        """The sinks that do not take what they are sent."""
        return [
            Condition("sink-failing", name, f"{name}: {state.problem}", {"failures": state.failures})
            for name, state in self._records.sinks.items()
            if state.failures >= FAILURES
        ]

    def count_waiting(self, name: str) -> int:
        """How many notifications wait for the sink ``name``."""
        state, sink = self._records.sinks[name], self.sinks[name]
        wanted = (n for n in self._records.notes if n.number > state.cursor)
        return sum(is_wanted(n, Urgency(sink.severity), sink.codes, sink.ends) for n in wanted)

    async def _keep_serving(self, name: str, sink: SinkSettings) -> None:
        while True:
            try:
                await self._serve(name, sink)
            except Exception as error:
                # A defect in here must end neither the agent, which has more to do than to tell, nor another sink.
                log.exception("sink %s cannot be served", name)
                self._records.sinks[name].failures += 1
                self._records.sinks[name].problem = f"{type(error).__name__}: {error}"
                await self._pause(RETRY_MAX_S)

    async def _serve(self, name: str, sink: SinkSettings) -> None:
        """Delivers to one sink, in order; one that does not take it is asked again later and later."""
        state, fresh = self._records.sinks[name], self._fresh[name]
        while True:
            note = self._records.next_for(name)
            if note is None:
                fresh.clear()
                await fresh.wait()
                continue
            is_old = self._wall() - note.at > OLD_S
            if is_old or not is_wanted(note, Urgency(sink.severity), sink.codes, sink.ends):
                state.dropped += int(is_old)
                state.cursor = note.number
                continue
            code, said = await self.deliver(sink, note)
            self._note_outcome(name, state, note, code, said)
            if code in (0, NEVER):
                state.dropped += int(code == NEVER)
                state.cursor = max(state.cursor, note.number)
                await self._records.save()
            else:
                await self._pause(min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(state.failures - 1, 10)))

    def _note_outcome(self, name: str, state: SinkState, note: Notification, code: int | None, said: str) -> None:
        if code == 0:
            state.delivered += 1
            state.failures, state.problem, state.since = 0, None, None
            return
        state.failures, state.problem = state.failures + 1, said
        state.since = state.since or round(self._wall(), 3)
        log.warning("alert %s-%d could not be delivered to %s: %s", note.node, note.number, name, said)

    async def deliver(self, sink: SinkSettings, note: Notification) -> tuple[int | None, str]:
        """Delivers ``note`` now; returns the sender's exit status (None: it was ended at its deadline), and what it said."""
        running = asyncio.ensure_future(self._send(sink, note))
        self._sending.add(running)
        try:
            ended = await asyncio.shield(running)
        except ProgramMissing as error:
            return 1, str(error)
        finally:
            running.add_done_callback(self._sending.discard)
        said = ended.output.strip() or ended.errors.strip().rpartition("\n")[2] or f"exit status {ended.code}"
        return ended.code, said[:300]
