"""Operations of alerts: the list, a test of the sinks, and what supervisord's event listener brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from ha_agent.core.alert_codes import CODES
from ha_agent.core.alerts import Kind, Notification
from ha_agent.core.answers import AlertListAnswer, AlertTestAnswer, OutcomeAnswer
from ha_agent.core.events import StateEvent
from ha_agent.core.reasons import reason_of
from ha_agent.core.requests import AlertTestRequest, CountRequest, EventsRequest, Malformed
from ha_agent.core.words import Outcome
from ha_agent.daemon.alerts.delivery import Delivery
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.alerts.records import LISTED, AlertRecords
from ha_agent.daemon.operations.call import Call

MAX_EVENTS = 10_000


class AlertOperations:
    """``wake`` has alerts looked at soon. ``wall``: the wall clock, in seconds.

    ``supervisord_begins`` is told when supervisord begins again: ``True`` where it is only about to, or about to end.
    """

    def __init__(
        self,
        node: str,
        config_path: str,
        records: AlertRecords,
        delivery: Delivery,
        watcher: ProgramWatcher,
        wake: Callable[[], None],
        supervisord_begins: Callable[[bool], None],
        wall: Callable[[], float],
    ) -> None:
        self._node, self._config_path = node, config_path
        self._records, self._delivery, self._watcher = records, delivery, watcher
        self._wake, self._supervisord_begins, self._wall = wake, supervisord_begins, wall

    async def list_alerts(self, request: CountRequest, _call: Call) -> AlertListAnswer:
        """The alerts that last, the newest notifications, and how the sinks are."""
        count = min(max(request.count, 0), LISTED)
        now = self._wall()
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
            for one in self._records.book.open.values()
            if one.told_at is not None or one.silenced or now - one.since >= CODES[one.code].hold_s
        ]
        sinks = {
            name: {
                **asdict(self._records.sinks[name]),
                "kind": sink.kind,
                "waiting": self._delivery.count_waiting(name),
            }
            for name, sink in self._delivery.sinks.items()
        }
        recent = [note.to_dict() for note in self._records.notes[-count:]] if count else []
        return {"node": self._node, "at": round(now, 3), "lasting": lasting, "recent": recent, "sinks": sinks}

    async def test_sinks(self, request: AlertTestRequest, call: Call) -> AlertTestAnswer:
        """Delivers a test to every sink, or to the one named, at once and past the queue."""
        only = request.sink
        chosen = {name: sink for name, sink in self._delivery.sinks.items() if only in ("", name)}
        if not chosen:
            reason = f"there is no [sinks.{only}] in {self._config_path}" if only else "no sink is configured"
            return {"outcome": Outcome.REFUSED, "reason": f"{reason}; see the end of: ha-agent config sample"}
        note = self._make_test(call.by)
        results = await asyncio.gather(*(self._delivery.deliver(sink, note) for sink in chosen.values()))
        rows = [
            {"sink": name, "kind": sink.kind, "delivered": status == 0, "said": said}
            for (name, sink), (status, said) in zip(chosen.items(), results, strict=True)
        ]
        return {"outcome": Outcome.DONE, "id": f"{note.node}-{note.number}", "results": rows}

    def _make_test(self, by: str) -> Notification:
        code, now = CODES["alert-test"], round(self._wall(), 3)
        self._records.book.number += 1
        return Notification(
            self._records.book.number,
            now,
            self._node,
            Kind.MOMENT,
            code.code,
            code.severity,
            (self._node,),
            f"a test, asked for by {by}",
            code.remedy,
            now,
            {"by": by},
        )

    async def take_events(self, request: EventsRequest, _call: Call) -> OutcomeAnswer:
        """Takes what the listener brings, which runs as root as supervisord does."""
        if len(request.events) > MAX_EVENTS:
            raise Malformed(f"program-events: {len(request.events)} events at once")
        try:
            events = [StateEvent.from_dict(row) for row in request.events]
        except (KeyError, ValueError, TypeError) as error:
            raise Malformed(f"program-events: an event that is none: {reason_of(error)}") from None
        if request.stopping or request.began:
            self._supervisord_begins(request.stopping)
        self._watcher.feed(events, request.lost, began=request.began)
        if events or request.lost:
            self._wake()
        return {"outcome": Outcome.TAKEN}
