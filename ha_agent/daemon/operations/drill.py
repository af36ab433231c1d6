"""Operations of a failover-test: its beginning, its fault and its end on this node, and the reports that are kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ha_agent.adapters.reports import read_reports, save_report
from ha_agent.core.answers import BegunAnswer, OutcomeAnswer, ReportsAnswer, SamplesAnswer
from ha_agent.core.requests import (
    CountRequest,
    DrillBeginRequest,
    DrillFaultRequest,
    DrillRequest,
    Malformed,
    ReportRequest,
)
from ha_agent.core.words import Outcome
from ha_agent.daemon.drill import Drill, DrillRefused
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.looking import Looking

MAX_ID = 64
MAX_SUMMARY = 500


class DrillOperations:
    """``keep``: how many reports are kept in ``state_dir``. ``wall``: the wall clock, in seconds."""

    def __init__(
        self, drill: Drill, state_dir: str, keep: int, events: Events, looking: Looking, wall: Callable[[], float]
    ) -> None:
        self._drill, self._state_dir, self._keep = drill, state_dir, keep
        self._looking = looking
        self._events, self._wall = events, wall

    async def begin(self, request: DrillBeginRequest, call: Call) -> BegunAnswer:
        """Begins to watch."""
        try:
            self._drill.begin(request.drill[:MAX_ID], request.for_s, call.by)
        except DrillRefused as error:
            return {"outcome": Outcome.REFUSED, "reason": str(error)}
        return {"outcome": Outcome.BEGUN, "at": self._wall()}

    async def make_fault(self, request: DrillFaultRequest, _call: Call) -> BegunAnswer:
        """Makes the fault."""
        try:
            at = await self._drill.make_fault(request.drill, request.mode, request.hold_s, really=request.really)
        except DrillRefused as error:
            return {"outcome": Outcome.REFUSED, "reason": str(error)}
        return {"outcome": Outcome.BEGUN, "at": at}

    async def end(self, request: DrillRequest, _call: Call) -> SamplesAnswer:
        """Ends fault and watching."""
        return {"samples": await self._drill.end(request.drill)}

    async def save_report(self, request: ReportRequest, call: Call) -> OutcomeAnswer:
        """Keeps the report of a failover-test on this node."""
        identifier = request.report.get("id")
        if not isinstance(identifier, str):
            raise Malformed(f"report-save: id is {identifier!r:.60}")
        try:
            await asyncio.to_thread(save_report, self._state_dir, identifier, dict(request.report), self._keep)
        except ValueError as error:
            raise Malformed(f"report-save: {error}") from None
        summary = str(request.report.get("summary", ""))[:MAX_SUMMARY]
        self._events.add("drill-report", summary, drill=identifier, by=call.by)
        return {"outcome": Outcome.SAVED}

    async def list_reports(self, request: CountRequest, _call: Call) -> ReportsAnswer:
        """The newest reports."""
        return {"reports": await self._looking.do(read_reports, self._state_dir, request.count)}
