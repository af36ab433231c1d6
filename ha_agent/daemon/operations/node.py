"""Operations that look at this node alone: its history, everything for a screen, contents, verdicts, its doctor."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ha_agent.adapters.conf_checker import CheckerFailed
from ha_agent.adapters.runner import ProgramMissing, find_program, run_program
from ha_agent.adapters.store import Place
from ha_agent.core.answers import ContentsAnswer, DoctorAnswer, HistoryAnswer, JournalAnswer, JudgeAnswer, ViewAnswer
from ha_agent.core.confs import Verdict
from ha_agent.core.journal_lines import UNITS, journal_words, newest_that_fit, read_lines
from ha_agent.core.requests import (
    ContentsRequest,
    CountRequest,
    HistoryRequest,
    JournalRequest,
    JudgeRequest,
    Malformed,
    Request,
)
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.alerts import AlertOperations
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.figures import Figures
from ha_agent.daemon.operations.looking import Looking
from ha_agent.daemon.operations.program_views import ProgramViews
from ha_agent.daemon.operations.status import StatusReporter
from ha_agent.daemon.programs.judgement import Judgement
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.replication.view import RegistryView

MAX_EVENTS = 10_000
MAX_CONTENT_BYTES = 4 * 1024 * 1024
"""Largest content in one answer; ask again for the rest."""

VIEWED_ALERTS = 20
DOCTOR_LIMIT_S = 30.0
JOURNAL_LIMIT_S = 10.0


class NodeOperations:
    """Nothing here waits for the peer. ``wall``: the wall clock, in seconds."""

    def __init__(
        self,
        config_path: str,
        events: Events,
        view: RegistryView,
        judgement: Judgement,
        readiness: Readiness,
        watcher: ProgramWatcher,
        status: StatusReporter,
        programs: ProgramViews,
        alerts: AlertOperations,
        figures: Figures,
        looking: Looking,
        wall: Callable[[], float],
    ) -> None:
        self._config_path, self._events, self._view = config_path, events, view
        self._judgement, self._readiness, self._watcher = judgement, readiness, watcher
        self._status, self._programs, self._alerts, self._figures = status, programs, alerts, figures
        self._looking, self._wall = looking, wall

    async def history(self, request: HistoryRequest, _call: Call) -> HistoryAnswer:
        """The newest events, as many as one answer holds, and where older ones are asked for."""
        try:
            before = Place.parse(request.before) if request.before else None
        except ValueError:
            raise Malformed("before is not what an answer said") from None
        count = min(request.count, MAX_EVENTS)
        page = await self._looking.do(self._events.read_page, count, request.since, before)
        return {"events": page.events, "older": None if page.older is None else str(page.older), "at": self._wall()}

    async def journal(self, request: JournalRequest, _call: Call) -> JournalAnswer:
        """What the agent, or another unit of the pair, wrote into this node's journal: the newest lines, 1 MiB at most."""
        if request.unit not in UNITS:
            raise Malformed(f"unit is {request.unit!r:.40}; there is {', '.join(UNITS)}")
        try:
            words = journal_words(find_program("journalctl"), request.unit, request.count, request.since)
            ended = await run_program(words, JOURNAL_LIMIT_S)
        except ProgramMissing as error:
            return {"failure": f"the journal cannot be read: {error}", "lines": []}
        if ended.code != 0:
            return {"failure": f"journalctl ended with {ended.code}: {ended.errors.strip()[:300]}", "lines": []}
        return {"failure": None, "lines": newest_that_fit(read_lines(ended.output))}

    async def view(self, _request: Request, call: Call) -> ViewAnswer:
        """Everything that a screen or a scrape shows of this node, from one look at supervisord at most."""
        infos = await self._watcher.read_shown()
        programs = await self._programs.describe(infos or ())
        node = await self._status.describe(infos)
        alerts = await self._alerts.list_alerts(CountRequest(VIEWED_ALERTS), call)
        return {"node": node, "programs": programs, "alerts": alerts, "figures": self._figures.describe()}

    async def contents(self, request: ContentsRequest, call: Call) -> ContentsAnswer:
        """The contents of registry files by path, as many as fit; the others are asked for again.

        Those that not everybody may read are withheld from all but root.
        """
        found: dict[str, str | None] = {}
        withheld = []
        total = 0
        for path in request.paths:
            entry = self._view.manifest.find(path)
            if entry is not None and not call.may_read(entry.mode):
                found[path] = None
                withheld.append(path)
                continue
            content = self._view.read_content(path, entry.sha256) if entry is not None else None
            total += len(content or b"")
            if found and total > MAX_CONTENT_BYTES:
                break
            found[path] = None if content is None else base64.b64encode(content).decode("ascii")
        return {"contents": found, "withheld": withheld}

    async def judge(self, request: JudgeRequest, call: Call) -> JudgeAnswer:
        """What supervisord's own parser says of texts that need not be in the registry, on this node.

        Whoever is not root could ask by a text of any path whether it exists: of closed directories nothing is said then.
        """
        confs = {path: text for path, text in request.confs.items() if isinstance(text, str)}
        if len(confs) != len(request.confs) or sum(map(len, confs.values())) > MAX_CONTENT_BYTES:
            raise Malformed("judge: confs is not an object of texts, or too long")
        try:
            verdicts = await self._judgement.judge_texts(confs, for_stranger=not call.is_root)
        except CheckerFailed as error:
            return {"failure": str(error), "verdicts": {}}
        finally:
            self._readiness.wake()
        return {"failure": None, "verdicts": {path: describe_verdict(v) for path, v in verdicts.items()}}

    async def doctor(self, _request: Request, _call: Call) -> DoctorAnswer:
        """Runs this node's own ``ha-agent doctor``: as a process, so that the daemon carries nothing of it."""
        words = [sys.executable, "-m", "ha_agent", "doctor", "--json", "--config", self._config_path]
        env = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        try:
            ended = await run_program(words, DOCTOR_LIMIT_S, env=env)
            report = json.loads(ended.output)
        except (ProgramMissing, ValueError) as error:
            return {"failure": f"doctor could not be run: {error}"}
        return {"failure": None, "report": report}


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON-able data."""
    return {
        "problem": verdict.problem,
        "programs": [
            {"name": one.name, "processes": one.processes, "autostart": one.autostart, "missing": one.missing}
            for one in verdict.programs
        ],
        "groups": dict(verdict.groups),
        "taken": list(verdict.taken),
    }
