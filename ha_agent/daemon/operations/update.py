"""``supzcli update``: loads what changed in the registry, and what goes or comes in the local confs."""

from __future__ import annotations

import asyncio

from ha_agent.adapters.supervisord import Fault, SupervisordDown
from ha_agent.core.answers import CommandAnswer
from ha_agent.core.requests import NamesRequest
from ha_agent.core.words import Outcome
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.commands import Commands
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.runs import LoadRefused, NotActiveAnyMore, ProgramRuns
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.replication.view import RegistryView

MAX_TEXT = 500


class UpdateCommand:
    """For one group. Prints what supervisorctl's own update prints."""

    def __init__(
        self,
        commands: Commands,
        view: RegistryView,
        readiness: Readiness,
        active_set: ActiveSet,
        runs: ProgramRuns,
        partial: PartialGroups,
        supervised: Supervised,
        editor: RegistryEditor,
        events: Events,
    ) -> None:
        self._commands, self._view, self._readiness, self._active_set = commands, view, readiness, active_set
        self._runs, self._partial, self._supervised = runs, partial, supervised
        self._editor, self._events = editor, events

    async def update(self, request: NamesRequest, call: Call) -> CommandAnswer:
        """Loads what changed, of all groups or of those named."""
        return await self._commands.run(lambda: self._update(request, call.by))

    async def _update(self, request: NamesRequest, by: str) -> CommandAnswer:
        names = {word.removesuffix(":*") for word in request.names} - {"all"}
        await self._commands.require_active()
        await self._view.compare_now()
        selection = await self._readiness.judge()
        acknowledging = asyncio.ensure_future(self._editor.acknowledged([e.path for e in self._view.manifest]))
        lines: list[str] = []
        try:
            unknown = await self._load_changes(names, lines)
        except (SupervisordDown, LoadRefused, NotActiveAnyMore) as error:
            acknowledging.cancel()
            return self._commands.answer(None, outcome=Outcome.FAILED, reason=str(error), lines=lines)
        if lines:
            self._events.add("updated", "; ".join(lines)[:MAX_TEXT], by=by)
        ack = await acknowledging
        return self._commands.answer(ack, lines=lines, unknown=unknown, problems=dict(selection.problems))

    async def _load_changes(self, names: set[str], lines: list[str]) -> list[str]:
        """Adds to ``lines`` what was done; returns the ``names`` that supervisord does not know."""
        answer = await self._supervised.call("reloadConfig", [])
        if isinstance(answer, Fault):
            raise LoadRefused(f"supervisord refuses its configuration: {answer.text}")
        added, changed, removed = (sorted(part) for part in answer[0])
        known = {i.group for i in await self._supervised.read_all()} | set(added)
        for groups, load in ((removed, self._remove), (changed, self._replace), (added, self._add)):
            for group in groups:
                if not names or group in names:
                    lines += await load(group)
        return sorted(names - known)

    async def _remove(self, group: str) -> list[str]:
        infos = [i for i in await self._supervised.read_all() if i.group == group]
        stopped = await self._runs.stop(infos)
        if stopped.left:
            return [f"{group}: has problems; not removing"]
        await self._runs.unload([group])
        return [f"{group}: stopped", f"{group}: removed process group"]

    async def _replace(self, group: str) -> list[str]:
        if self._partial.is_partial(group):
            return [f"{group}: not touched, only a parked program is missing from it"]
        await self._runs.replace([group])
        return [f"{group}: stopped", f"{group}: updated process group"]

    async def _add(self, group: str) -> list[str]:
        answer = await self._runs.add(group, is_registry=group in self._active_set.selection.groups)
        if isinstance(answer, Fault):
            raise LoadRefused(answer.text)
        return [f"{group}: added process group"]
